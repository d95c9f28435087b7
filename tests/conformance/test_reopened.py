"""One law for every run log: a step that is open again is pending there too, and its next attempt is like any other."""

from __future__ import annotations

import pytest

from penstock.core.errors import FencedError
from penstock.ports.artifacts import ArtifactRef, Blob
from penstock.ports.events import AttemptStarted, StepReopened, StepSucceeded, fold
from penstock.ports.records import RunRecord, StepState
from penstock.stores.runlog import SqlStore

from .conftest import TurnedClock

OLD, NEW = "ab" * 32, "cd" * 32


def ref(digest: str) -> ArtifactRef:
    return ArtifactRef(digest, "bytes", 5, (Blob("", digest, 5),))


def begun(store: SqlStore, clock: TurnedClock) -> str:
    now = clock.now_us()
    record = RunRecord(id="p-1", pipeline="p", project="", manifest="", parameters={}, created_at=now)
    run = store.create(record, b"{}", now).id
    store.append(run, 1, [AttemptStarted(at=now, step="a", attempt=1, key=NEW)])
    store.append(run, 1, [StepSucceeded(at=now, step="a", attempt=1, outputs={"output": ref(OLD)}, key=NEW)])
    return run


def test_a_reopened_step_is_pending_without_outputs_and_counts_its_attempts_on(
    store: SqlStore, clock: TurnedClock
) -> None:
    run = begun(store, clock)
    store.append(run, 1, [StepReopened(at=clock.now_us(), step="a", because="its bytes are gone")])
    (step,) = store.step_runs(run)
    assert (step.state, step.attempts, step.outputs) == (StepState.PENDING, 1, {})
    summary = store.find_run(run)
    assert summary is not None
    assert {name: count for name, count in summary.counts.items() if count} == {"pending": 1}
    view = fold(event for _, event in store.events(run))
    assert view.step("a").state is StepState.PENDING
    assert view.lost == {("a", ""): {"output": ref(OLD)}}
    with pytest.raises(FencedError):
        store.append(run, 1, [StepSucceeded(at=clock.now_us(), step="a", attempt=1, outputs={})])
    store.append(run, 1, [AttemptStarted(at=clock.now_us(), step="a", attempt=2)])
    store.append(run, 1, [StepSucceeded(at=clock.now_us(), step="a", attempt=2, outputs={"output": ref(NEW)})])
    (step,) = store.step_runs(run)
    assert (step.state, step.attempts, step.outputs) == (StepState.SUCCEEDED, 2, {"output": ref(NEW)})
    assert [(each.number, each.state) for each in store.attempts(run)] == [(1, "succeeded"), (2, "succeeded")]


def test_what_a_run_alone_refers_to_is_not_live_without_it(store: SqlStore, clock: TurnedClock) -> None:
    run = begun(store, clock)
    now = clock.now_us()
    record = RunRecord(id="p-2", pipeline="p", project="", manifest="", parameters={}, created_at=now)
    other = store.create(record, b"{}", now).id
    for digest, step in ((OLD, "a"), (NEW, "b")):
        store.append(other, 1, [AttemptStarted(at=now, step=step, attempt=1)])
        store.append(other, 1, [StepSucceeded(at=now, step=step, attempt=1, outputs={"output": ref(digest)})])
    assert {OLD, NEW} <= store.live_digests()
    assert {OLD, NEW} & store.live_digests([run]) == {OLD, NEW}
    assert {OLD, NEW} & store.live_digests([other]) == {OLD}
    assert {OLD, NEW} & store.live_digests([run, other, "unknown"]) == set()
