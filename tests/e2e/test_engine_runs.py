"""Runs that are handed to an engine, as this side sees them: who has a run, under which name, and what was accepted.

The engine here only takes notes; the commands that a real one starts are run by hand. `tests/engines` has real ones.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.backends import local
from penstock.cli.commands import exec_steps
from penstock.core.errors import BackendError, ConfigError, RefusedError, StoreUnavailableError, UsageError
from penstock.engine.listener import Silent
from penstock.engine.processes import StepExit
from penstock.engine.single import StepSession
from penstock.ports.backend import Blueprint, Bundle, Declarations, EngineRun, EngineState, Places, refused
from penstock.ports.events import Change
from penstock.ports.records import RunState
from penstock.wiring import backends, submitting
from penstock.wiring.backends import blueprint, planned
from penstock.wiring.joining import Joining, joined
from penstock.wiring.manifest import manifest_text, read_manifest
from penstock.wiring.runner import find_run
from penstock.wiring.submitting import EngineRunner, Submitted, handover, request_cancel
from penstock.wiring.worker import MODULE

from .engine_lab import Lab

CHAIN = """
@step
def first() -> int:
    mark("first")
    return 1

@step
def second(x: int) -> int:
    mark("second")
    if not (HERE / "mended").exists():
        raise ValueError("not yet")
    return x + 1

@pipeline
def main() -> int:
    return second(first())
"""


SESSIONS: list[StepSession] = []


class Notes:
    """A backend that keeps everything, and writes down what it is asked."""

    name = "prefect"
    label = "Notes"

    def __init__(self) -> None:
        self.submitted: list[tuple[str, str, str]] = []  # deployment, endpoint, key
        self.cancelled: list[tuple[str, str, str]] = []
        self.states: dict[str, RunState] = {}
        self.lacks: dict[str, str] = {}

    def declarations(self, blueprint: Blueprint) -> Declarations:
        return {**local.declarations(), **{name: refused(why) for name, why in self.lacks.items()}}

    def compile(self, blueprint: Blueprint) -> Bundle:
        return Bundle(self.name, "flow.py", {"flow.py": "# by penstock\n"})

    def deploy(self, bundle: Bundle, blueprint: Blueprint, places: Places) -> str:
        return "known"

    def submit(
        self, blueprint: Blueprint, places: Places, run_id: str, key: str, parameters: Mapping[str, object]
    ) -> EngineRun:
        self.submitted.append((blueprint.name, places.endpoint, key))
        self.states[key] = RunState.RUNNING
        return EngineRun(key)

    def state(self, blueprint: Blueprint, places: Places, run: EngineRun) -> EngineState:
        return EngineState(self.states.get(run.id, RunState.INTERRUPTED))

    def cancel(self, blueprint: Blueprint, places: Places, run: EngineRun) -> None:
        self.cancelled.append((blueprint.name, places.endpoint, run.id))


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    made = Notes()
    for module in (backends, submitting):
        monkeypatch.setattr(module, "backend_named", lambda name: made)
    monkeypatch.setattr(submitting, "_GRACE_S", 0.0)
    monkeypatch.setattr(submitting, "_ASK_S", 0.05)
    return made


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab.write(CHAIN)
    while SESSIONS:
        session = SESSIONS.pop()
        session.close()
        session.store.close()


def submit(lab: Lab, accepted: tuple[str, ...] = (), **options: Any) -> Submitted:
    project = lab.project()
    pipeline = lab.load().main
    return EngineRunner(project.settings, "prefect", project).submit(
        pipeline.trace({}), {}, accepted=accepted, **options
    )


def resume(lab: Lab, run: str, accepted: tuple[str, ...] = (), **settings: Any) -> Submitted:
    project = lab.project()
    changed = msgspec.structs.replace(project.settings, **settings)
    return EngineRunner(changed, "prefect", project).resume(run, accepted=accepted)


def session(lab: Lab, told: Submitted, run: str, engine_run: str = "0c1f-uuid") -> StepSession:
    """A process that the engine starts, with what it was handed as `--run`."""
    manifest = lab.root / f"{told.plan.name}.json"
    manifest.write_text(manifest_text(lab.project().settings, told.plan.graph, told.plan.name))
    asked = Joining(manifest=str(manifest), engine="prefect", engine_run=engine_run, run=run)
    made = joined(asked, lambda project: project.store)
    SESSIONS.append(made)
    return made


def failed(lab: Lab, notes: Notes) -> Submitted:
    """A run that failed there, in its second step."""
    told = submit(lab)
    steps = session(lab, told, told.record.id)
    assert steps.execute("first", "", None)[0] is StepExit.DONE
    assert steps.execute("second", "", None)[0] is StepExit.FAILED
    assert exec_steps._answered(steps, {"end": ""})["exit"] == 1
    notes.states[told.record.id] = RunState.FAILED
    return told


def test_a_run_that_failed_there_goes_on_there_and_only_what_is_left_is_executed(lab: Lab, notes: Notes) -> None:
    told = failed(lab, notes)
    (lab.root / "mended").touch()
    again = resume(lab, told.record.id)
    key = notes.submitted[-1][2]
    assert key == f"{told.record.id}.2"
    late = session(lab, told, told.record.id)  # of the first flow run
    assert late.execute("second", "", None)[0] is StepExit.FENCED
    steps = session(lab, again, key)
    assert exec_steps._answered(steps, {"step": "first"})["exit"] == 0
    assert exec_steps._answered(steps, {"step": "second"})["exit"] == 0
    assert exec_steps._answered(steps, {"end": ""}) == {"exit": 0, "state": "succeeded", "message": ""}
    assert (lab.root / "ran.txt").read_text().split() == ["first", "second", "second"]


def test_the_same_idempotency_key_finds_the_run_where_it_is_by_now(lab: Lab, notes: Notes) -> None:
    project = lab.project()
    runner = EngineRunner(project.settings, "prefect", project)
    pipeline = lab.load().main
    told = runner.submit(pipeline.trace({}), {}, idempotency_key="k")
    steps = session(lab, told, told.record.id)
    steps.execute("first", "", None)
    steps.execute("second", "", None)
    exec_steps._answered(steps, {"end": ""})
    notes.states[told.record.id] = RunState.FAILED
    resume(lab, told.record.id)
    again = runner.submit(pipeline.trace({}), {}, idempotency_key="k")
    assert again.engine_run.id == f"{told.record.id}.2"
    assert notes.submitted[-1][2] == f"{told.record.id}.2"  # nothing was started for it


def test_a_cancel_reaches_the_engine_that_has_the_run_since_it_was_resumed(lab: Lab, notes: Notes) -> None:
    (lab.root / "penstock.toml").write_text(
        '[profiles.dev]\nendpoint = "http://dev"\n\n[profiles.prod]\nendpoint = "http://prod"\n'
    )
    told = failed(lab, notes)
    again = resume(lab, told.record.id, profile="prod", endpoint="http://prod")
    project = lab.project()
    assert request_cancel(project, again.record, "me", project.settings) == ""
    assert notes.cancelled == [(again.plan.name, "http://prod", f"{told.record.id}.2")]


def test_what_was_accepted_once_stays_so_and_what_is_accepted_later_is_recorded(lab: Lab, notes: Notes) -> None:
    notes.lacks = {"steps": "no steps"}
    with pytest.raises(RefusedError):
        submit(lab)
    told = submit(lab, accepted=("steps",))
    steps = session(lab, told, told.record.id)
    steps.execute("first", "", None)
    steps.execute("second", "", None)
    exec_steps._answered(steps, {"end": ""})
    notes.states[told.record.id] = RunState.FAILED
    notes.lacks["result"] = "no result"
    with pytest.raises(RefusedError, match="result"):
        resume(lab, told.record.id)
    resume(lab, told.record.id, accepted=("result",))
    project = lab.project()
    assert handover(project, find_run(project, told.record.id).record).waived == ("steps", "result")


def test_what_the_pipeline_does_not_ask_for_cannot_be_accepted(lab: Lab, notes: Notes) -> None:
    with pytest.raises(UsageError, match="asks for no such thing"):
        submit(lab, accepted=("bogus",))
    with pytest.raises(UsageError, match="steps"):
        submit(lab, accepted=("stepz",))
    assert notes.submitted == []


def test_what_the_engine_keeps_is_not_recorded_as_gone_without(lab: Lab, notes: Notes) -> None:
    project = lab.project()
    graph = submit(lab).graph
    assert planned(project.settings, graph, "prefect", accepted=("steps",)).waived == ()


@pytest.mark.parametrize("endpoint", ["http://admin:hunter2@airflow:8080", "https://k.example/?token=hunter2"])
def test_a_login_in_the_endpoint_is_refused_and_not_shown(lab: Lab, notes: Notes, endpoint: str) -> None:
    project = lab.project()
    settings = msgspec.structs.replace(project.settings, endpoint=endpoint)
    with pytest.raises(ConfigError, match="endpoint holds") as caught:
        blueprint(settings, submit(lab).graph)
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)
    assert "hunter2" not in manifest_text(settings, submit(lab).graph)


def test_an_image_of_other_code_is_refused_and_never_a_hit(lab: Lab, notes: Notes) -> None:
    told = submit(lab)
    code = {"steps": dict.fromkeys(told.record.code["steps"], "0" * 64)}
    record = msgspec.structs.replace(told.record, code=code)
    ours = session(lab, told, told.record.id)
    steps = StepSession(
        ours.graph, record, ours.store, ours.services, worker_module=MODULE, engine="prefect", in_image=True
    )
    SESSIONS.append(steps)
    assert steps.execute("first", "", None)[0] is StepExit.FAILED
    steps.catch_up()
    run = steps.view.step("first")
    assert run.failure is not None
    assert "the image has other code for" in run.failure.message
    assert "penstock build" in (run.failure.hint or "")
    assert lab.ran() == []


def test_an_image_of_the_same_code_runs_it(lab: Lab, notes: Notes) -> None:
    told = submit(lab)
    ours = session(lab, told, told.record.id)
    steps = StepSession(
        ours.graph, told.record, ours.store, ours.services, worker_module=MODULE, engine="prefect", in_image=True
    )
    SESSIONS.append(steps)
    assert steps.execute("first", "", None)[0] is StepExit.DONE


def test_what_happened_before_a_resume_is_not_told_again(lab: Lab, notes: Notes) -> None:
    told = failed(lab, notes)
    (lab.root / "mended").touch()
    again = resume(lab, told.record.id)
    steps = session(lab, again, f"{told.record.id}.2")
    steps.execute("second", "", None)
    exec_steps._answered(steps, {"end": ""})
    heard: list[str] = []

    class Told(Silent):
        def event(self, change: Change) -> None:
            heard.append(type(change.event).__name__)

    project = lab.project()
    run = EngineRunner(project.settings, "prefect", project).follow(again, Told())
    assert run.state is RunState.SUCCEEDED
    assert heard == ["AttemptStarted", "StepSucceeded", "RunFinished"]


def test_a_run_that_the_engine_would_not_take_says_why(lab: Lab, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any) -> Any:
        raise BackendError("no worker polls the work pool 'penstock'")

    monkeypatch.setattr(notes, "submit", refuse)
    with pytest.raises(BackendError, match="no worker polls"):
        submit(lab)
    assert find_run(lab.project(), "last").error == "no worker polls the work pool 'penstock'"


def test_the_last_run_is_not_resumed_when_somebody_has_cancelled_it(lab: Lab, notes: Notes) -> None:
    told = submit(lab)
    steps = session(lab, told, told.record.id)
    exec_steps._answered(steps, {"end": "cancelled"})
    command = [sys.executable, "-P", "-m", "penstock", "resume"]
    done = subprocess.run([*command, "last"], cwd=lab.root, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"the last run, {told.record.id}, was cancelled" in done.stderr


def test_a_store_that_a_container_cannot_reach_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    class EndpointConnectionError(Exception):
        """As botocore has it: no OSError."""

    def away(*words: Any, **more: Any) -> Any:
        raise EndpointConnectionError("Could not connect to the endpoint URL")

    monkeypatch.setattr("fsspec.open", away)
    with pytest.raises(StoreUnavailableError, match="cannot be read: Could not connect") as caught:
        read_manifest("s3://lake/m.json")
    assert "the container itself" in str(caught.value.hint)


# -- a run log that is away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_result_waits_for_a_run_log_that_is_away_and_is_recorded_once(
    lab: Lab, notes: Notes, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    monkeypatch.setattr("penstock.engine.single._WAITING_S", 0.01)
    told = submit(lab)
    steps = session(lab, told, told.record.id)
    append, calls = StepSession.append, []

    def broken(self: StepSession, *events: Any, **more: Any) -> bool:
        calls.append([type(each).__name__ for each in events])
        if len(calls) == 2:  # the first one begins the attempt
            if is_committed:
                append(self, *events, **more)
            raise StoreUnavailableError("the connection is gone")
        return append(self, *events, **more)

    monkeypatch.setattr(StepSession, "append", broken)
    assert steps.execute("first", "", None)[0] is StepExit.DONE
    steps.catch_up()
    run = steps.view.step("first")
    assert (run.state.value, run.attempts) == ("succeeded", 1)
    assert (lab.root / "ran.txt").read_text().split() == ["first"]
    assert len(calls) == (2 if is_committed else 3)


def test_a_warm_worker_that_cannot_reach_the_run_log_asks_for_another_attempt(
    lab: Lab, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = submit(lab)
    steps = session(lab, told, told.record.id)

    def away(*words: Any) -> Any:
        raise StoreUnavailableError("nobody listens")

    monkeypatch.setattr(exec_steps, "execute_settled", away)
    answer = exec_steps._answered(steps, {"step": "first"})
    assert answer["exit"] == StepExit.RETRY
    assert answer["retry_in"] > 0


def test_a_run_is_closed_when_its_run_log_is_back(lab: Lab, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    told = submit(lab)
    steps = session(lab, told, told.record.id)
    monkeypatch.setattr("penstock.cli.joining.AGAIN_S", 0.01)
    close, calls = exec_steps.close_run, []

    def away(*words: Any) -> Any:
        calls.append(words)
        if len(calls) < 3:
            raise StoreUnavailableError("nobody listens")
        return close(*words)

    monkeypatch.setattr(exec_steps, "close_run", away)
    assert exec_steps._answered(steps, {"end": "cancelled"})["state"] == "cancelled"
