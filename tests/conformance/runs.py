"""Runs and events for the suites of the run log."""

from __future__ import annotations

import os
from collections import Counter

import msgspec

from penstock.core.canonical import digest_bytes
from penstock.core.ids import run_id as make_run_id
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import AttemptFailed, AttemptStarted, RunView, StepSucceeded, fold
from penstock.ports.records import Failure, FailureClass, RunRecord, RunState, StepState
from penstock.stores.runlog import SqlStore

from .uses import digests_by_event, uses_of

AT = 1_795_414_725_000_000
HERE = os.uname().nodename
GRAPH = b'{"pipeline":"churn","target":"churn.py:churn"}'


def a_record(pipeline: str = "churn", at: int = AT, **fields: object) -> RunRecord:
    return msgspec.structs.replace(
        RunRecord(
            id=make_run_id(pipeline, at),
            pipeline=pipeline,
            project="shop",
            manifest=digest_bytes(GRAPH),
            parameters={"depth": "3"},
            created_at=at,
            host=HERE,
            pid=os.getpid(),
        ),
        **fields,
    )


def a_run(store: SqlStore, at: int = AT, **fields: object) -> str:
    return store.create(a_record(at=at, **fields), GRAPH, at).id


def a_ref(text: str, **fields: object) -> ArtifactRef:
    return msgspec.structs.replace(
        ArtifactRef(digest_bytes(text.encode()), "json", len(text), inline=f'"{text}"'), **fields
    )


def started(step: str = "fit", attempt: int = 1, **fields: object) -> AttemptStarted:
    return AttemptStarted(at=AT + 1, step=step, attempt=attempt, **fields)


def succeeded(step: str = "fit", attempt: int = 1, **fields: object) -> StepSucceeded:
    return StepSucceeded(at=AT + 2, step=step, attempt=attempt, **({"outputs": {"output": a_ref("x")}} | fields))


def failed(step: str = "fit", attempt: int = 1, **fields: object) -> AttemptFailed:
    return AttemptFailed(
        at=AT + 2, step=step, attempt=attempt, **({"failure": Failure(FailureClass.ERROR, "no")} | fields)
    )


def assert_tables_say_what_the_events_say(store: SqlStore, run_id: str) -> RunView:
    view = fold(event for _, event in store.events(run_id))
    summary = store.find_run(run_id)
    assert summary is not None
    assert {(run.step, run.index): run for run in store.step_runs(run_id)} == dict(view.steps.items())
    assert summary.counts == Counter(run.state.value for run in view.steps.values())
    assert (summary.record.epoch, summary.error) == (view.epoch, view.error)
    assert (summary.started_at, summary.finished_at) == (view.started_at, view.finished_at)
    owner = RunState.RUNNING if store.alive(run_id) else RunState.INTERRUPTED
    assert summary.state == (view.finished or owner)
    assert store.beat(run_id) is view.cancel_requested
    running = {(each.step, each.index, each.number) for each in store.attempts(run_id) if each.finished_at is None}
    assert running == {
        (run.step, run.index, run.attempts) for run in view.steps.values() if run.state is StepState.RUNNING
    }
    made, taken = digests_by_event(store, run_id)
    assert made <= uses_of(store, run_id) <= made | taken
    return view
