"""A cache entry that depends on what a server says: it is asked beside the engine's loop, and not for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock.data import urls
from penstock.engine import outside, scheduler
from penstock.engine.frontier import Item
from penstock.ports.events import AttemptFailed, StepCached
from penstock.ports.records import StepState
from penstock.wiring.planning import plan_run
from penstock.wiring.runs import Run

from .engine_lab import DEADLINE_S, Lab, finish, states, wait_for

AGES = 600.0  # what a test decides does not end by itself


def _always() -> bool:
    return True


class Site:
    """A server whose answers can be held back. `asked` counts the requests, `held` those that wait at the moment."""

    def __init__(self) -> None:
        self.content = b"n\n1\n"
        self.asked = 0
        self.held = 0
        self._open = threading.Event()
        self._open.set()
        self._changed = threading.Condition()
        self._while: Callable[[], bool] = _always
        site = self

        class Answer(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET(body=False)

            def do_GET(self, body: bool = True) -> None:
                site._arrived()
                self.send_response(200)
                self.send_header("Content-Length", str(len(site.content)))
                self.send_header("ETag", f'"{len(site.content)}"')
                self.end_headers()
                if body:
                    self.wfile.write(site.content)

            def log_message(self, format: str, *args: Any) -> None:
                return

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    return  # whoever asked has given up

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/t.csv"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _arrived(self) -> None:
        with self._changed:
            self.asked += 1
            if self._open.is_set() or not self._while():
                return
            self.held += 1
            self._changed.notify_all()
        self._open.wait(AGES)
        with self._changed:
            self.held -= 1

    def hold(self, while_: Callable[[], bool] | None = None) -> None:
        """From here on, hold back answers, to requests that come while this is so."""
        self._while = while_ or _always
        self._open.clear()

    def wait(self, requests: int = 1) -> None:
        """Until so many wait for their answer."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.held >= requests, DEADLINE_S), "nobody asks"

    def let_go(self) -> None:
        self._open.set()

    def stop(self) -> None:
        self.let_go()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.stop()
    wait_for(lambda: not [each for each in threading.enumerate() if each.name == "penstock-look"])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(urls, "_READ_S", AGES)
    monkeypatch.setattr(outside, "PATIENCE_S", AGES)
    with Lab(tmp_path) as found:
        yield found


def beside(site: Site, run: Callable[[], Run], look: Callable[[], object]) -> Run:
    """Run with the server's answers held back until `look` has seen what it wants, in another thread."""

    def watch() -> None:
        try:
            site.wait()
            look()
        finally:
            site.let_go()

    site.hold()
    with ThreadPoolExecutor(1) as watchers:
        watcher = watchers.submit(watch)
        found = run()
        watcher.result()
    return found


FETCH = """
from penstock import read

@step
def fetch(url: str) -> int:
    mark("fetch")
    return len(read(url))
"""
ALONE = f"""{FETCH}
@pipeline
def main(url: str) -> int:
    return fetch(url)
"""


def test_a_timeout_and_a_result_beside_a_slow_check_are_recorded_before_the_server_answers(
    lab: Lab, site: Site
) -> None:
    lab.write(FETCH + """
@step(timeout="1s")
def endless(turn: int) -> int:
    threading.Event().wait(600)
    return turn

@step
def quick(turn: int) -> int:
    return turn

@step
def after(n: int) -> int:
    return n + 1

@pipeline
def main(url: str, turn: int = 0) -> list[int]:
    endless(turn)
    return [after(fetch(url)), quick(turn)]

@pipeline
def warm(url: str) -> int:
    return after(fetch(url))
""")  # fmt: skip
    lab.run("warm", {"url": site.url})
    store = lab.project().store
    seen: dict[str, StepState] = {}

    def look() -> None:
        def there() -> bool:
            now = {each.step: each.state for each in store.step_runs(store.match_runs("")[0])}
            if (now.get("endless"), now.get("quick")) != (StepState.TIMED_OUT, StepState.SUCCEEDED):
                return False
            seen.update(now)
            return True

        wait_for(there, "the loop waits for the server")
        assert site.held == 1

    run = beside(site, lambda: lab.run("main", {"url": site.url, "turn": 1}, workers=3), look)
    assert seen == {"endless": StepState.TIMED_OUT, "quick": StepState.SUCCEEDED}
    assert states(run) == {"fetch": "cached", "after": "cached", "quick": "succeeded", "endless": "timed_out"}
    events = [event for _, event in store.events(run.id)]
    (timeout,) = [at for at, event in enumerate(events) if isinstance(event, AttemptFailed)]
    (hit,) = [at for at, each in enumerate(events) if isinstance(each, StepCached) and each.step == "fetch"]
    assert timeout < hit
    assert lab.ran() == ["fetch"]


def test_checks_of_several_steps_are_under_way_at_the_same_time(lab: Lab, site: Site) -> None:
    lab.write(FETCH + """
@pipeline
def main(urls: list[str]) -> list[int]:
    return fetch.map(url=urls)
""")  # fmt: skip
    parameters = {"urls": [f"{site.url}?{n}" for n in range(5)]}
    lab.run(parameters=parameters)
    run = beside(site, lambda: lab.run(parameters=parameters, workers=1), lambda: site.wait(5))
    assert set(states(run).values()) == {"cached"}
    assert run.output == [1] * 5


def test_a_source_that_changed_is_a_miss_after_the_check_too(lab: Lab, site: Site) -> None:
    lab.write(ALONE)
    assert lab.run(parameters={"url": site.url}).output == 1
    site.content = b"n\n1\n2\n"
    assert lab.run(parameters={"url": site.url}).output == 2
    assert lab.ran() == ["fetch", "fetch"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lone_step_waits_for_the_check_where_there_is_one_place_and_goes_to_a_worker_where_there_are_two(
    lab: Lab, site: Site, workers: int
) -> None:
    lab.write(FETCH + """
@step
def plain(turn: int) -> int:
    return os.getpid()

@pipeline
def main(url: str, turn: int) -> list[int]:
    return [fetch(url), plain(turn)]
""")  # fmt: skip
    lab.run(parameters={"url": site.url, "turn": 0})
    store = lab.project().store
    before: list[str] = []

    def look() -> None:
        run = store.match_runs("")[0]
        if workers > 1:
            wait_for(lambda: [each for each in store.step_runs(run) if each.state.has_output])
        before.extend(each.step for each in store.step_runs(run))

    run = beside(site, lambda: lab.run(parameters={"url": site.url, "turn": 1}, workers=workers), look)
    assert states(run) == {"fetch": "cached", "plain": "succeeded"}
    assert before == ([] if workers == 1 else ["plain"])
    assert (run.output[1] == os.getpid()) == (workers == 1)
    assert run.step("plain").hidden == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_step_in_a_thread_does_not_answer_for_a_check_beside_it(lab: Lab, site: Site, host: str) -> None:
    url = site.url.replace("127.0.0.1", host)
    lab.write(FETCH + """
@step(isolation="thread")
def threaded(turn: int) -> int:
    arrive(f"began-{turn}")
    await_file(f"asked-{turn}")
    return turn

@step
def first(turn: int) -> int:
    await_file(f"began-{turn}")
    return turn

@pipeline
def main(url: str, turn: int) -> list[int]:
    return [threaded(turn), fetch(url).after(first(turn))]
""")  # fmt: skip
    (lab.root / "asked-0").touch()
    lab.run(parameters={"url": url, "turn": 0})
    arrived = (lab.root / "asked-1").touch
    run = beside(site, lambda: lab.run(parameters={"url": url, "turn": 1}), arrived)
    assert states(run) == {"threaded": "succeeded", "first": "succeeded", "fetch": "cached"}
    assert run.step("threaded").hidden == ()


@pytest.mark.parametrize("how", ["sigint", "cancel"])
def test_a_run_that_waits_for_a_check_ends_at_once_when_it_is_asked_to(lab: Lab, site: Site, how: str) -> None:
    lab.write(ALONE)
    lab.run(parameters={"url": site.url})
    site.hold()
    process = lab.start(f"""
from penstock.data import urls
from penstock.engine import outside
urls._READ_S = outside.PATIENCE_S = {AGES}
lab.main.using(check=False).run(url={site.url!r})
""")
    site.wait()
    run = lab.last_run()
    if how == "sigint":
        process.send_signal(signal.SIGINT)
    else:
        words = [sys.executable, "-P", "-m", "penstock", "cancel", run]
        subprocess.run(words, cwd=lab.root, check=True, capture_output=True, timeout=60)
    finish(process)
    assert site.held == 1
    assert {each.step: each.state.value for each in lab.project().store.step_runs(run)} == {"fetch": "cancelled"}
    site.let_go()
    resumed = lab.resume(run)
    assert states(resumed) == {"fetch": "cached"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_check_that_is_never_answered_is_given_up_and_the_step_runs(
    lab: Lab, site: Site, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    lab.write(ALONE)
    lab.run(parameters={"url": site.url})
    monkeypatch.setattr(outside, "PATIENCE_S", 0.1)
    site.hold(while_=lambda: lab.ran() == ["fetch"])
    run = lab.run(parameters={"url": site.url}, workers=workers)
    assert states(run) == {"fetch": "succeeded"}
    assert lab.ran() == ["fetch", "fetch"]


def test_a_plan_gives_a_check_up_too_and_says_so(lab: Lab, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write(ALONE)
    lab.run(parameters={"url": site.url})
    main = lab.load().main
    parameters = main.parameters({"url": site.url})
    settings = lab.project().settings
    site.hold()
    with ThreadPoolExecutor(1) as planners:
        planner = planners.submit(plan_run, main.trace(parameters), parameters, settings=settings)
        site.wait()
        site.let_go()
        (item,) = planner.result()
    assert item.verdict == "hit"
    monkeypatch.setattr(outside, "PATIENCE_S", 0.1)
    site.hold()
    (item,) = plan_run(main.trace(parameters), parameters, settings=settings)
    assert (item.verdict, item.why) == ("run", f"url {site.url} cannot be looked at again")


def test_a_check_of_a_local_file_costs_no_thread(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write(FETCH + """
@pipeline
def main(path: str) -> int:
    return fetch(path)
""")  # fmt: skip
    file = lab.root / "t.csv"
    file.write_bytes(b"n\n1\n")
    lab.run(parameters={"path": str(file)})

    def refuse(*_: object) -> None:
        raise AssertionError("it is looked at in a thread")

    monkeypatch.setattr(outside.Looks, "start", refuse)
    assert states(lab.run(parameters={"path": str(file)})) == {"fetch": "cached"}


def test_no_more_is_asked_ahead_than_is_decided_ahead(lab: Lab, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of very many elements is not asked for whole before its first one runs."""
    monkeypatch.setattr(scheduler, "_AHEAD", 4)
    lab.write(f"""
import penstock

@step
def fit(at: int, url: str) -> int:
    penstock.read(url)
    return at

@pipeline
def main(url: str = "{site.url}", all: list[int] = list(range(40))) -> None:
    fit.partial(url=url).map(at=all)
""")
    assert len(lab.run(workers=1).steps) == 40
    site.content = b"n\n1\n22\n333\n"
    open_at_once: list[int] = []
    real = outside.Looks.start

    def start(self: outside.Looks, item: Item, unseen: outside.Unseen, known: outside.Answers) -> None:
        real(self, item, unseen, known)
        open_at_once.append(len(self))

    monkeypatch.setattr(outside.Looks, "start", start)
    run = lab.run(workers=1)
    assert {step.state.value for step in run.steps} == {"succeeded"}
    assert len(open_at_once) == 40
    assert max(open_at_once) <= 4
