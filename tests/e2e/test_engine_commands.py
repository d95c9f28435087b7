"""The commands for engines: an engine that only orders steps gets the same run as the embedded one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.core.errors import FencedError, ParameterError, UsageError
from penstock.engine.closing import close_run
from penstock.engine.expanding import expand
from penstock.engine.launcher import Launcher
from penstock.engine.processes import StepExit
from penstock.engine.single import StepSession
from penstock.ports.events import RunResumed
from penstock.ports.records import RunState, StepState
from penstock.wiring.backends import blueprint
from penstock.wiring.joining import Joining, joined
from penstock.wiring.manifest import manifest_text, read_manifest
from penstock.wiring.runner import with_payloads

from .engine_lab import Lab, wait_for

RICH = """
@step
def numbers(n: int) -> list[int]:
    return list(range(n))

@step
def square(x: int) -> int:
    mark(f"square {x}")
    if x == 3:
        raise ValueError("three")
    return x * x

@step
def total(xs: list[int]) -> int:
    return sum(xs)

@step
def is_big(x: int) -> bool:
    return x > 2

@step
def celebrate(x: int) -> str:
    return f"yay {x}"

@step
def close(x: int, told: str | None) -> str:
    return f"{x} {told}"

@pipeline
def main(n: int = 3) -> str:
    t = total(square.map(x=numbers(n)))
    with when(is_big(t)):
        told = celebrate(t)
    return close(t, optional(told))
"""


class Engine:
    """Orders the steps of one deployment, as an engine does: every command is a session of its own."""

    def __init__(self, lab: Lab, name: str = "airflow") -> None:
        self.lab, self.name = lab, name
        self.project = lab.project()
        graph = with_payloads(lab.load().main.trace({}))
        self.plan = blueprint(self.project.settings, graph)
        self.manifest = lab.root / "main.manifest.json"
        self.manifest.write_text(manifest_text(self.project.settings, self.plan.graph, self.plan.name))

    def session(self, key: str = "main/1", **more: Any) -> StepSession:
        asked = Joining(manifest=str(self.manifest), engine=self.name, engine_run=key, digest=self.plan.digest, **more)
        return joined(asked, lambda project: project.store)

    def step(self, step: str, index: str = "", key: str = "main/1", **more: Any) -> StepExit:
        session = self.session(key, **more)
        try:
            return session.execute(step, index, None)[0]
        finally:
            session.close()
            session.store.close()

    def map(self, scope: str, key: str = "main/1") -> list[str]:
        return expand(self.session(key), scope)

    def end(self, key: str = "main/1", told: RunState | None = None) -> RunState:
        return close_run(self.session(key), told)

    def states(self, key: str = "main/1") -> dict[str, str]:
        session = self.session(key)
        session.catch_up()
        return {f"{r.step}[{r.index}]" if r.index else r.step: r.state.value for r in session.view.steps.values()}

    def all(self, key: str = "main/1", **more: Any) -> RunState:
        self.step("numbers", key=key, **more)
        for index in self.map("square", key):
            self.step("square", index, key)
        for name in ("total", "is_big", "celebrate", "close"):
            self.step(name, key=key)
        return self.end(key)

    def start(self, step: str, index: str = "", key: str = "main/1") -> subprocess.Popen[str]:
        words = ["--manifest", str(self.manifest), "--engine", self.name, "--engine-run", key]
        command = [sys.executable, "-P", "-m", "penstock", "exec-step", *words, "--step", step, "--index", index]
        return subprocess.Popen(
            command, cwd=self.lab.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def test_an_engine_that_only_orders_steps_gets_the_run_that_the_embedded_engine_makes(lab: Lab) -> None:
    lab.write(RICH)
    calm = lab.run(cache=False)
    engine = Engine(lab)
    assert engine.all() is calm.state is RunState.SUCCEEDED
    session = engine.session()
    session.catch_up()
    for run in calm.steps:
        mine = session.view.step(run.step, run.index)
        assert (mine.state.value.replace("cached", "succeeded"), mine.note) == (run.state.value, run.note)
        digests = {name: ref.digest for name, ref in run.outputs.items()}
        assert {name: ref.digest for name, ref in mine.outputs.items()} == digests


def test_what_one_engine_computed_is_a_hit_on_another_and_here(lab: Lab) -> None:
    lab.write(RICH)
    Engine(lab).all()
    Engine(lab, "prefect").all("main/other")
    run = lab.run()
    assert {each.state for each in run.steps} == {StepState.CACHED}
    assert (lab.root / "ran.txt").read_text().splitlines() == ["square 0", "square 1", "square 2"]


def test_every_command_of_a_run_finds_the_same_run_and_two_runs_of_the_engine_are_two(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    assert engine.session("main/a").record.id == engine.session("main/a").record.id
    assert engine.session("main/a").record.id != engine.session("main/b").record.id
    record = engine.session("main/a", logical_time="2026-11-27T03:00:00+01:00").record
    assert (record.backend, record.options["engine_run"], record.trigger) == ("airflow", "main/a", "airflow")


def test_parameters_of_the_engine_are_checked_against_the_signature(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    assert engine.session("main/a", parameters='{"n": 2}').record.parameters == {"n": "2"}
    assert engine.session("main/b", parameters='{"n": null}').record.parameters == {"n": "3"}
    with pytest.raises(ParameterError, match=r"n is 'many', but an int is expected"):
        engine.session("main/c", parameters='{"n": "many"}')
    with pytest.raises(ParameterError, match="there is no 'm'"):
        engine.session("main/d", parameters='{"m": 1}')
    with pytest.raises(ParameterError, match="no JSON object"):
        engine.session("main/e", parameters="[1]")


def test_a_failing_element_keeps_what_needs_it_from_starting_and_the_end_says_so(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    assert engine.all(parameters='{"n": 4}') is RunState.FAILED
    states = engine.states()
    assert states["square[3]"] == "failed"
    assert states["square[2]"] == "succeeded"
    assert {states[name] for name in ("total", "is_big", "celebrate", "close")} == {"upstream_failed"}


def test_the_end_decides_what_an_engine_never_started(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    engine.step("numbers", parameters='{"n": 1}')
    for index in engine.map("square"):
        engine.step("square", index)
    engine.step("total")
    engine.step("is_big")  # false: nobody starts `celebrate` and `close`
    assert engine.end() is RunState.FAILED
    states = engine.states()
    assert (states["celebrate"], states["close"]) == ("skipped", "cancelled")
    assert engine.end() is RunState.FAILED  # closing twice does no harm


def test_a_run_that_failed_on_an_engine_goes_on_here_and_only_what_is_left_runs(lab: Lab) -> None:
    lab.write(RICH.replace("if x == 3:", 'if x == 3 and not (HERE / "mended").exists():'))
    engine = Engine(lab)
    assert engine.all(parameters='{"n": 4}') is RunState.FAILED
    (lab.root / "mended").touch()
    run = lab.runner().resume(engine.session().record.id, str(lab.root), check=False, echo=False)
    assert run.state is RunState.SUCCEEDED
    ran = (lab.root / "ran.txt").read_text().splitlines()
    assert sorted(ran) == ["square 0", "square 1", "square 2", "square 3", "square 3"]
    assert engine.step("square", "3") is StepExit.DONE
    assert engine.end() is RunState.SUCCEEDED


def test_a_step_that_is_started_again_after_the_end_of_a_failed_run_is_a_resume(lab: Lab) -> None:
    lab.write(RICH.replace("if x == 3:", 'if x == 3 and not (HERE / "mended").exists():'))
    engine = Engine(lab)
    assert engine.all(parameters='{"n": 4}') is RunState.FAILED
    (lab.root / "mended").touch()
    assert engine.all() is RunState.SUCCEEDED
    session = engine.session()
    resumes = [event for _, event in session.store.events(session.record.id) if isinstance(event, RunResumed)]
    assert [(each.epoch, each.host) for each in resumes] == [(2, "@airflow")]


def test_a_run_that_was_taken_over_elsewhere_is_not_the_engines_any_more(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    engine.step("numbers")
    session = engine.session()
    session.catch_up()
    session.append(RunResumed(at=session.services.clock.now_us(), epoch=2, host=os.uname().nodename, pid=os.getpid()))
    assert engine.step("total") is StepExit.FENCED


def test_another_engine_and_an_older_run_of_the_same_one_may_not_act_for_a_run(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    engine.step("numbers")
    run_id = engine.session().record.id
    other = Engine(lab, "prefect")
    assert other.step("total", key="main/x", run=run_id) is StepExit.FENCED
    with pytest.raises(FencedError, match="taken over"):
        close_run(other.session("main/x", run=run_id))
    session = engine.session()
    session.catch_up()
    now = session.services.clock.now_us()
    session.append(RunResumed(at=now, epoch=2, host="@airflow", engine_run=f"{run_id}.2"))
    with pytest.raises(FencedError, match="taken over"):
        engine.end()
    for older in (run_id, f"{run_id}.20"):
        assert engine.step("total", key="main/2", run=older) is StepExit.FENCED
    # Whatever the engine calls the run that it was handed: what it was handed is brought back.
    newer = engine.session("8f2c7d1e-uuid", run=f"{run_id}.2")
    newer.catch_up()
    assert newer.is_ours
    assert close_run(newer) is RunState.FAILED


def test_the_end_of_an_engine_does_not_touch_a_run_that_goes_on_here(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    engine.step("numbers")
    session = engine.session()
    session.catch_up()
    session.append(RunResumed(at=session.services.clock.now_us(), epoch=2, host=os.uname().nodename, pid=os.getpid()))
    with pytest.raises(FencedError, match="taken over"):
        engine.end()
    assert engine.map("square") == ["0", "1", "2"]  # told, and not recorded
    assert not session.view.sizes


def test_a_secret_that_a_child_of_a_step_prints_is_masked_in_the_engines_log(lab: Lab) -> None:
    engine = Engine(
        lab.write("""
@step
def loud(token: str) -> int:
    os.write(1, token.encode())
    subprocess.run(["sh", "-c", 'echo "$0"; echo "$0" >&2', token])
    print(token)
    return 1

@pipeline
def main() -> int:
    return loud(Secret("LOUD_TOKEN"))
""")
    )
    os.environ["LOUD_TOKEN"] = "hunter2-hunter2"
    try:
        told, _ = engine.start("loud").communicate(timeout=60)
    finally:
        del os.environ["LOUD_TOKEN"]
    assert "hunter2" not in told
    assert told.count("•••") >= 4
    session = engine.session()
    kept = "".join(text for *_, text in session.store.read_text(session.record.id))
    assert "hunter2" not in kept
    assert kept.count("•••") >= 4


def test_what_a_step_prints_is_in_the_engines_log_while_it_is_at_work(lab: Lab) -> None:
    engine = Engine(
        lab.write("""
@step
def slow() -> int:
    print("waiting")
    await_file("go")
    return 1

@pipeline
def main() -> int:
    return slow()
""")
    )
    process = engine.start("slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"  # or the step gives up, and says so first
    (lab.root / "go").touch()
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_an_outcome_and_its_record_loses_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    engine = Engine(lab.write(RICH))
    concluded = Launcher.concluded

    def struck(self: Launcher, *words: Any) -> Any:
        signal.raise_signal(number)
        return concluded(self, *words)

    monkeypatch.setattr(Launcher, "concluded", struck)
    assert engine.step("numbers") is StepExit.DONE
    assert engine.states()["numbers"] == "succeeded"


def test_an_attempt_that_comes_too_early_waits_for_its_time_and_the_count_is_the_policys(lab: Lab) -> None:
    engine = Engine(
        lab.write("""
@step(retry=Retry(attempts=3, base="600ms", factor=1, even_if_same=True))
def flaky() -> int:
    mark(time.time())
    raise OSError("down")

@pipeline
def main() -> int:
    return flaky()
""")
    )
    codes = [engine.step("flaky") for _ in range(5)]
    assert codes == [StepExit.RETRY, StepExit.RETRY, StepExit.FAILED, StepExit.FAILED, StepExit.FAILED]
    times = [float(line) for line in (lab.root / "ran.txt").read_text().split()]
    assert len(times) == 3
    assert all(later - earlier >= 0.6 for earlier, later in pairwise(times))
    assert engine.end() is RunState.FAILED


def test_an_exception_that_earns_no_retry_ends_later_attempts_before_user_code(lab: Lab) -> None:
    engine = Engine(
        lab.write("""
@step(retry=Retry(attempts=5, base="1ms", on=OSError))
def wrong() -> int:
    mark("ran")
    raise ValueError("no")

@pipeline
def main() -> int:
    return wrong()
""")
    )
    assert [engine.step("wrong") for _ in range(3)] == [StepExit.FAILED] * 3
    assert (lab.root / "ran.txt").read_text() == "ran\n"


SLOW = """
@step(retry=Retry(attempts=2, base="1ms", on=("killed", "preempted")))
def slow() -> int:
    mark(os.getpid())
    if context().attempt == 1:
        arrive("begun")
        time.sleep(600)
    return context().attempt

@step
def after(x: int) -> int:
    return x

@pipeline
def main() -> int:
    return after(slow())
"""


def test_a_killed_process_is_a_lost_attempt_and_the_next_one_goes_on(lab: Lab) -> None:
    engine = Engine(lab.write(SLOW))
    process = engine.start("slow")
    wait_for(lambda: (lab.root / "begun").exists())
    assert engine.step("slow") is StepExit.FENCED  # it is at work
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert engine.step("after") is StepExit.NOT_READY
    assert engine.step("slow") is StepExit.DONE
    assert engine.step("after") is StepExit.DONE
    assert engine.end() is RunState.SUCCEEDED
    session = engine.session()
    attempts = session.store.attempts(session.record.id, "slow")
    assert [(each.number, each.state) for each in attempts] == [(1, "failed"), (2, "succeeded")]


def test_a_killed_process_that_nobody_starts_again_is_found_at_the_end(lab: Lab) -> None:
    engine = Engine(lab.write(SLOW))
    process = engine.start("slow")
    wait_for(lambda: (lab.root / "begun").exists())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert engine.end() is RunState.FAILED
    assert engine.states() == {"slow": "cancelled", "after": "upstream_failed"}


def test_a_request_to_cancel_stops_what_runs_and_starts_nothing_more(lab: Lab) -> None:
    engine = Engine(lab.write(SLOW))
    process = engine.start("slow")
    wait_for(lambda: (lab.root / "begun").exists())
    told = subprocess.run(
        [sys.executable, "-m", "penstock", "cancel", "last"], cwd=lab.root, capture_output=True, text=True, check=False
    )
    assert "is asked to stop" in told.stdout
    process.communicate(timeout=30)
    assert process.returncode == StepExit.FAILED
    assert engine.step("after") is StepExit.FAILED
    assert engine.end() is RunState.CANCELLED
    assert engine.step("after") is StepExit.FENCED  # a cancelled run is not taken up again by a late attempt


def test_fail_fast_is_a_request_to_stop_that_a_failure_made(lab: Lab) -> None:
    engine = Engine(
        lab.write("""
@step
def bad() -> int:
    raise ValueError("no")

@step
def other() -> int:
    return 1

@pipeline(fail_fast=True)
def main() -> None:
    bad()
    other()
""")
    )
    assert engine.step("bad") is StepExit.FAILED
    assert engine.step("other") is StepExit.FAILED
    assert engine.end() is RunState.FAILED
    assert engine.states() == {"bad": "failed", "other": "cancelled"}


def test_what_is_left_of_a_run_that_was_stopped_is_cancelled_wherever_it_stands(lab: Lab) -> None:
    lab.write("""
@step
def bad() -> int:
    raise ValueError("no")

@step
def other() -> list[int]:
    return [1, 2]

@step
def each(x: int) -> int:
    return x

@step
def behind(xs: list[int]) -> int:
    return sum(xs)

@pipeline(fail_fast=True)
def main() -> int:
    bad()
    return behind(each.map(x=other()))
""")
    calm = lab.run(cache=False, workers=1)
    engine = Engine(lab)
    assert engine.step("bad") is StepExit.FAILED
    assert engine.step("other") is StepExit.FAILED
    assert engine.end() is calm.state is RunState.FAILED
    assert engine.states() == {run.step: run.state.value for run in calm.steps}


MAPS = """
@step
def shops() -> list[str]:
    return ["a", "b", "c"]

@step
def days(shop: str) -> list[int]:
    return {"a": [1, 2], "b": [], "c": [3]}[shop]

@step
def sales(shop: str, day: int) -> str:
    return f"{shop}{day}"

@step
def report(all: list[list[str]]) -> str:
    return str(all)

@pipeline
def inner(shop: str) -> list[str]:
    return sales.partial(shop=shop).map(day=days(shop))

@pipeline
def main() -> str:
    return report(inner.map(shop=shops()))
"""


def test_nested_maps_are_told_as_whole_index_paths_and_an_empty_one_is_none(lab: Lab) -> None:
    engine = Engine(lab.write(MAPS))
    graph = engine.plan.graph
    outer = next(scope.name for scope in graph.scopes if scope.parent is None)
    within = next(scope.name for scope in graph.scopes if scope.parent is not None)
    names = {node.target.rpartition(":")[2]: node.name for node in graph.nodes}
    engine.step(names["shops"])
    assert engine.map(outer) == ["0", "1", "2"]
    for index in "012":
        engine.step(names["days"], index)
    assert engine.map(within) == ["0.0", "0.1", "2.0"]
    for index in ("0.0", "0.1", "2.0"):
        assert engine.step(names["sales"], index) is StepExit.DONE
    assert engine.step(names["report"]) is StepExit.DONE
    assert engine.end() is RunState.SUCCEEDED
    assert lab.run().output == "[['a1', 'a2'], [], ['c3']]"


def test_a_manifest_that_was_altered_is_refused(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    altered = json.loads(engine.manifest.read_text())
    altered["settings"]["artifacts"] = "elsewhere"
    engine.manifest.write_text(json.dumps(altered))
    with pytest.raises(UsageError, match="it was altered"):
        engine.session()


def test_a_deployment_during_a_run_changes_nothing_for_it(lab: Lab) -> None:
    engine = Engine(lab.write(RICH))
    engine.step("numbers")
    graph = engine.plan.graph
    fewer = msgspec.structs.replace(graph, nodes=graph.nodes[:2], result=None, scopes=graph.scopes)
    newer = blueprint(engine.project.settings, fewer)
    engine.manifest.write_text(manifest_text(engine.project.settings, newer.graph, newer.name))
    engine.plan = newer
    assert len(engine.session().graph.nodes) == len(graph.nodes)
    assert len(engine.session("main/later").graph.nodes) == 2
    assert len(read_manifest(str(engine.manifest)).graph.nodes) == 2


def test_a_warm_process_answers_line_by_line_and_steps_prints_are_texts(lab: Lab) -> None:
    engine = Engine(lab.write(RICH.replace('mark(f"square {x}")', 'print("x is", x)')))
    words = ["--manifest", str(engine.manifest), "--engine", "prefect", "--engine-run", "main/warm"]
    asked = [
        {"id": 1, "step": "numbers"},
        {"id": 2, "map": "square"},
        *({"id": 3 + at, "step": "square", "index": str(at)} for at in range(3)),
        *({"id": 6 + at, "step": name} for at, name in enumerate(("total", "is_big", "celebrate", "nothing"))),
        {"id": 10, "end": "failed"},
    ]
    told = subprocess.run(
        [sys.executable, "-P", "-m", "penstock", "exec-steps", *words],
        input="".join(json.dumps(each) + "\n" for each in asked), cwd=lab.root, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert lines[0]["ready"]
    assert {"id": 2, "indexes": ["0", "1", "2"]} in lines
    assert "".join(line["text"] for line in lines if "text" in line) == "x is 0\nx is 1\nx is 2\n"
    ends = {line["id"]: line["exit"] for line in lines if "exit" in line}
    assert ends == {1: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0, 9: 2, 10: 1}


def test_a_step_of_an_engine_dies_with_the_process_that_started_it(lab: Lab) -> None:
    engine = Engine(lab.write(SLOW))
    theirs, ours = os.pipe()
    words = ["--manifest", str(engine.manifest), "--engine", "airflow", "--engine-run", "main/1", "--step", "slow"]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "penstock", "exec-step", *words], cwd=lab.root, pass_fds=(theirs,),
        env={**os.environ, "PENSTOCK_LIFELINE": str(theirs)}, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        wait_for(lambda: (lab.root / "begun").exists())
        os.close(ours)
        limit = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        assert process.returncode == -signal.SIGKILL
