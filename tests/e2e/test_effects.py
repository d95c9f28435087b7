"""What steps do outside, counted by who receives it: under retry, after kill -9, and when a zombie wakes up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from penstock.core.clock import SystemClock
from penstock.engine.fencing import StoreFence
from penstock.lifecycle import register
from penstock.ports.context import CURRENT, Context
from penstock.ports.effects import Acting
from penstock.ports.events import AttemptStarted
from penstock.ports.models import ModelCard
from penstock.ports.records import RunRecord
from penstock.stores.runlog import open_store
from penstock.tracking import MlflowRegistry
from penstock.wiring.config import load_settings
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner
from penstock.wiring.runs import Run

from .engine_lab import Lab, finish, gone, states, wait_for

KINDS = ["exactly-once", "at-least-once", "at-most-once"]


class Counter(ThreadingHTTPServer):
    """A receiver that knows a repeat by its Idempotency-Key, and counts requests and what it did of them."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Counting)
        self.requests: list[str] = []
        self.done: list[str] = []
        self.inside = 0
        self.most_inside = 0
        self.lock = threading.Lock()
        self.before_answering: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, address: Any) -> None:
        return  # senders are killed in these tests


class _Counting(BaseHTTPRequestHandler):
    server: Counter

    def do_POST(self) -> None:
        server = self.server
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        with server.lock:
            server.requests.append(key)
            if key not in server.done:
                server.done.append(key)
        server.before_answering()
        self._answer(b"")

    def do_GET(self) -> None:
        """What was done, for senders that look first."""
        self._answer(json.dumps(self.server.done).encode())

    def do_PUT(self) -> None:
        """Somebody goes in or out: never two at once, if they hold what they change."""
        server = self.server
        with server.lock:
            server.inside += 1 if self.path == "/in" else -1
            server.most_inside = max(server.most_inside, server.inside)
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def counter() -> Iterator[Counter]:
    with Counter() as made:
        serving = threading.Thread(target=made.serve_forever)
        serving.start()
        yield made
        made.shutdown()
        serving.join()


SEND = """
import urllib.request
from penstock import notify
from penstock.core.errors import FencedError

def send(url, key):
    request = urllib.request.Request(url, data=b"{}", headers={"Idempotency-Key": key}, method="POST")
    urllib.request.urlopen(request, timeout=30).close()
"""

GO = (
    "from penstock.wiring.runner import LocalRunner\n"
    "run = LocalRunner().run(lab.main.trace({}), {}, echo=False, check=False, workers=2)\n"
    "print(json.dumps({each.step: each.state.value for each in run.steps}))\n"
)


class Later(SystemClock):
    """The clock of a host on which the leases of the other one are over."""

    def now_us(self) -> int:
        return super().now_us() + 120_000_000


def resume_later(lab: Lab, run_id: str) -> Run:
    project = Project(load_settings(str(lab.root)), Later())
    lab._projects.append(project)
    return LocalRunner(project=project).resume(run_id, str(lab.root), workers=2, echo=False, check=False)


@pytest.mark.parametrize("mode", [{}, {"one_process_per_step": True}], ids=["engine", "exec-step"])
@pytest.mark.parametrize(
    ("kind", "requests", "done", "state"),
    [
        ("exactly-once", 2, 1, "succeeded"),
        ("at-least-once", 2, 1, "succeeded"),
        ("at-most-once", 1, 1, "failed"),
    ],
)
def test_an_attempt_that_acts_and_dies_before_it_is_recorded(
    lab: Lab, counter: Counter, mode: dict[str, Any], kind: str, requests: int, done: int, state: str
) -> None:
    lab.write(f"""{SEND}
@step(effect="{kind}", retry=Retry(3, base=0, on="killed"), isolation="process")
def act() -> int:
    with context().effect() as effect:
        send("{counter.url}", effect.key)
    if context().attempt == 1:
        os._exit(9)
    return context().attempt

@pipeline
def main() -> int:
    return act()
""")
    run = lab.run(**mode)
    assert states(run) == {"act": state}
    assert (len(counter.requests), len(counter.done)) == (requests, done)
    if kind == "at-most-once":  # nor does a resume do it again
        resumed = lab.resume(run.id)
        assert (states(resumed), len(counter.requests)) == ({"act": "failed"}, 1)
        assert "may have happened" in resumed.step("act").failure.message


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_that_is_killed_while_it_tells_somebody_and_is_resumed(lab: Lab, counter: Counter, kind: str) -> None:
    lab.write(f"""{SEND}
@pipeline
def main() -> None:
    notify.with_options(effect="{kind}")("done", to="{counter.url}/hook")
""")
    process = lab.start(GO)
    counter.before_answering = lambda: os.killpg(process.pid, signal.SIGKILL)  # it was told, and never heard so
    finish(process)
    counter.before_answering = lambda: None
    assert len(counter.requests) == 1
    run = resume_later(lab, lab.last_run())
    if kind == "at-most-once":
        assert (states(run), counter.requests) == ({"notify": "failed"}, counter.done)
    else:
        assert states(run) == {"notify": "succeeded"}
        assert (len(counter.requests), len(counter.done)) == (2, 1)  # the key is the same: the receiver knows it
        assert run.step("notify").note == f"told {counter.url} (200 OK)"


def test_each_run_tells_anew_and_each_element_of_a_map_by_a_key_of_its_own(lab: Lab, counter: Counter) -> None:
    lab.write(f"""{SEND}
@pipeline
def main() -> None:
    notify.partial(to="{counter.url}").map(text=["a", "b", "b"])
""")
    lab.run()
    lab.run()
    assert (len(counter.requests), len(counter.done)) == (6, 6)


def test_the_address_of_a_webhook_that_is_a_secret_is_nowhere_in_the_project(
    lab: Lab, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(f"""{SEND}
@pipeline
def main() -> None:
    notify("done", to=Secret("HOOK_URL"))
    notify.named("refused").with_options(retry=1)("done", to=Secret("WRONG_URL"))
""")
    monkeypatch.setenv("HOOK_URL", f"{counter.url}/hooks/T0KEN")
    monkeypatch.setenv("WRONG_URL", "http://127.0.0.1:1/hooks/T0KEN")
    run = lab.run()
    assert states(run) == {"notify": "succeeded", "refused": "failed"}
    assert run.step("refused").failure.kind == "network"
    assert len(counter.done) == 1
    for project in lab._projects:
        project.store.close()
    files = [path for path in (lab.root / ".penstock").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"T0KEN" in path.read_bytes()] == []


ZOMBIE = """
@step(effect="exactly-once")
def act() -> str:
    import signal
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # deaf to whoever tells it to stop: only the fence is left
    arrive(f"attempt-{context().attempt}-{os.getpid()}")
    await_file("go")
    try:
        ACT
    except FencedError:
        arrive("fenced")
        raise

@pipeline
def main() -> str:
    return act()
"""


def zombie(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[subprocess.Popen[str], Run]:
    """A run whose process is stopped right before it acts, and the same run, finished on another host."""
    process = lab.start(GO)
    wait_for(lambda: [*lab.root.glob("attempt-1-*")])
    os.killpg(process.pid, signal.SIGSTOP)
    (lab.root / "go").touch()
    shutil.rmtree(lab.root / ".penstock" / "locks")  # another host has locks of its own
    with monkeypatch.context() as elsewhere:
        here = os.uname()
        elsewhere.setattr(os, "uname", lambda: os.uname_result((here[0], "elsewhere", *here[2:])))
        run = resume_later(lab, lab.last_run())
    return process, run


def test_a_zombie_that_wakes_up_after_its_run_went_on_elsewhere_does_not_act(
    lab: Lab, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    acting = f"""
        with context().effect() as effect:
            send("{counter.url}", effect.key)
        return effect.key"""
    lab.write(SEND + ZOMBIE.replace("ACT", acting))
    process, run = zombie(lab, monkeypatch)
    assert (states(run), run.step("act").attempts) == ({"act": "succeeded"}, 2)
    assert counter.requests == [run.output]
    os.killpg(process.pid, signal.SIGCONT)
    code, _, err = finish(process)
    assert code != 0
    assert "has been taken over" in err
    assert (lab.root / "fenced").exists()
    assert counter.requests == [run.output]


def test_a_worker_that_wakes_up_after_its_engine_was_killed_and_the_run_resumed_does_not_act(
    lab: Lab, counter: Counter
) -> None:
    acting = f"""
        with context().effect() as effect:
            send("{counter.url}", effect.key)
        return effect.key"""
    source = ZOMBIE.replace("ACT", acting).replace(
        'effect="exactly-once"', 'effect="exactly-once", isolation="process"'
    )
    lab.write(SEND + source)
    process = lab.start(GO)
    worker = int(wait_for(lambda: [*lab.root.glob("attempt-1-*")])[0].name.rpartition("-")[2])
    os.kill(worker, signal.SIGSTOP)
    process.kill()
    process.communicate()
    (lab.root / "go").touch()
    run = resume_later(lab, lab.last_run())
    assert counter.requests == [run.output]
    os.kill(worker, signal.SIGCONT)
    wait_for(lambda: gone(worker))
    assert counter.requests == [run.output]


PUBLISH = """
from sklearn.linear_model import LogisticRegression
from penstock import deploy, register
"""


@pytest.mark.slow
def test_a_zombie_neither_registers_a_second_version_in_mlflow_nor_moves_the_alias_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    acting = """
        model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
        version = register.fn("churn", model)
        deploy.fn(version)
        return version.version"""
    lab.write(SEND + PUBLISH + ZOMBIE.replace("ACT", acting))
    process, run = zombie(lab, monkeypatch)
    registry = MlflowRegistry(home=lab.root / ".penstock")
    assert run.output == "1"
    assert [each.key for each in registry.moves("churn", "champion")] != []
    other = LogisticRegression().fit([[0.0], [1.0]], [1, 0])
    registry.register("churn", other, ModelCard("another-run", "churn", "register", "d"), key="another run")
    registry.set_alias("churn", "champion", "2")  # somebody else, since
    os.killpg(process.pid, signal.SIGCONT)
    finish(process)
    assert (lab.root / "fenced").exists()
    assert [(each.version, each.aliases) for each in registry.list("churn")] == [("2", ("champion",)), ("1", ())]
    registry.close()


@pytest.mark.slow
def test_a_deployment_that_died_before_it_was_recorded_is_not_repeated_over_a_newer_one(lab: Lab) -> None:
    lab.write(f"""{PUBLISH}
from penstock.ports.models import ModelCard

@step(effect="exactly-once", retry=Retry(2, base=0, on="killed"), isolation="process")
def publish() -> str:
    registry = context().service("registry")
    version = register.fn("churn", LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    deploy.fn(version)
    note = context().note
    if context().attempt == 1:
        card = ModelCard("another-run", "churn", "register", "d")
        registry.register("churn", LogisticRegression().fit([[0.0], [1.0]], [1, 0]), card, key="another run")
        registry.set_alias("churn", "champion", "2")
        os._exit(9)
    return note

@pipeline
def main() -> str:
    return publish()
""")
    run = lab.run()
    assert run.output == "an earlier attempt pointed champion to version 1; it has moved on to 2 since"
    registry = MlflowRegistry(home=lab.root / ".penstock")
    assert [(each.version, each.aliases) for each in registry.list("churn")] == [("2", ("champion",)), ("1", ())]
    registry.close()


def test_twenty_processes_that_want_one_thing_do_it_once_and_never_two_at_a_time(lab: Lab, counter: Counter) -> None:
    lab.write(f"""{SEND}
def ask(path, method):
    with urllib.request.urlopen(urllib.request.Request("{counter.url}" + path, method=method), timeout=30) as answer:
        return answer.read()

@step(effect="exactly-once", cache=False)
def act() -> bool:
    with context().effect("the one thing"):
        ask("/in", "PUT")
        known = b"one" in ask("/", "GET")
        if not known:
            send("{counter.url}", "one")
        ask("/out", "PUT")
    return known

@pipeline
def main() -> bool:
    return act()
""")
    processes = [lab.start(GO) for _ in range(20)]
    assert [finish(each)[0] for each in processes] == [0] * 20
    assert (counter.requests, counter.most_inside, counter.inside) == (["one"], 1, 0)


@pytest.mark.slow
def test_twenty_hosts_that_register_one_model_at_once_make_one_version_in_mlflow(tmp_path: Path) -> None:
    """Their locks are their own: what they share is the run log and MLflow's database."""
    store = open_store(str(tmp_path / "runs.db"), home=tmp_path)
    run = store.create(RunRecord("churn-1", "churn", "shop", "", {}, 0), b"{}", 0).id
    store.append(run, 1, [AttemptStarted(at=1, step="register", index=str(each), attempt=1) for each in range(20)])
    first = MlflowRegistry(home=tmp_path / "mlflow")
    first.register("other", LogisticRegression(), ModelCard("r", "p", "s", "d"), key="k")  # MLflow makes its tables
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    made: list[str] = []

    def host(index: int) -> None:
        registry = MlflowRegistry(first.url, home=tmp_path / f"host-{index}")
        fence = StoreFence(store, Acting(run, 1, "register", str(index), 1), SystemClock())
        around = Context(
            run_id=run, step="register", index=str(index), services=lambda name: registry, fence=lambda: fence
        )
        around.input_digests = {"model": ["one digest"]}
        token = CURRENT.set(around)
        made.append(register.fn("churn", model).version)
        CURRENT.reset(token)
        registry.close()

    threads = [threading.Thread(target=host, args=(each,)) for each in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["1"] * 20
    deleted = "SELECT count(*) FROM model_versions WHERE name = 'churn'"
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")) as database:
        assert database.execute(deleted).fetchone() == (1,)  # nor was one made and taken back
    first.close()
    store.close()


def test_a_step_that_acts_and_does_not_say_how_often_is_told_to(lab: Lab) -> None:
    lab.write("""
@step
def act() -> int:
    with context().effect():
        return 1

@pipeline
def main() -> int:
    return act()
""")
    run = lab.run()
    assert "step 'act' acts outside, and does not say how often" in run.step("act").failure.message
    assert "effect=" in (run.step("act").failure.hint or "")


def test_a_run_whose_log_is_in_memory_has_effects_in_worker_processes_too(lab: Lab, counter: Counter) -> None:
    (lab.root / "penstock.toml").write_text('runs = "memory:"\n')
    lab.write(f"""{SEND}
@step(effect="exactly-once", isolation="process")
def act() -> str:
    with context().effect() as effect:
        send("{counter.url}", effect.key)
    assert context().still_owner()
    return effect.key

@pipeline
def main() -> str:
    return act()
""")
    assert lab.run().output in counter.requests
