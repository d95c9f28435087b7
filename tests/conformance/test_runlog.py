"""What every run log keeps, wherever it lies."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.canonical import digest_bytes
from penstock.core.errors import (
    FencedError,
    NotFoundError,
    StoreError,
    StoreTooNewError,
    StoreUnavailableError,
)
from penstock.core.ids import run_id as make_run_id
from penstock.ports.artifacts import ArtifactRef, Blob
from penstock.ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    MapExpanded,
    RunCancelRequested,
    RunFinished,
    RunResumed,
    RunStarted,
    RunView,
    StepBlocked,
    StepCached,
    StepCancelled,
    StepSkipped,
    StepSucceeded,
    fold,
)
from penstock.ports.records import (
    CodePart,
    Failure,
    FailureClass,
    Observation,
    RunRecord,
    RunState,
    StepState,
)
from penstock.ports.runlog import RunQuery
from penstock.stores.runlog import SqlStore, open_store

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


# runs ---------------------------------------------------------------------------------------------------------------


def test_a_run_is_read_back_exactly_as_it_was_created(store: SqlStore) -> None:
    record = a_record(
        name="nightly",
        tags={"team": "growth"},
        user="ada",
        parent="p-1",
        trigger="schedule",
        idempotency_key="k",
        logical_time=AT - 5,
        code={"commit": "abc", "dirty": None},
        environment={"python": "3.12", "packages": {"pandas": "2.2"}},
        seed=7,
        options={"workers": 2},
    )
    assert store.create(record, GRAPH, AT) == record
    summary = store.find_run(record.id)
    assert summary is not None
    assert summary.record == record
    assert store.manifest(record.manifest) == GRAPH
    assert store.events(record.id) == [(1, RunStarted(at=AT))]
    assert store.find_run("nobody") is None


def test_a_clash_of_ids_moves_to_the_next_free_one(store: SqlStore) -> None:
    ids = [a_run(store) for _ in range(4)]
    assert ids == [make_run_id("churn", AT, bump=bump) for bump in range(4)]


def test_a_known_idempotency_key_gives_the_run_that_has_it(store: SqlStore) -> None:
    first = store.create(a_record(idempotency_key="daily-1", seed=1), GRAPH, AT)
    again = store.create(a_record(at=AT + 10**9, idempotency_key="daily-1", seed=2), GRAPH, AT + 10**9)
    assert again == first
    assert len(store.list_runs(RunQuery())) == 1
    assert [seq for seq, _ in store.events(first.id)] == [1]


def test_an_unknown_run_is_named_with_what_is_near(store: SqlStore) -> None:
    run_id = a_run(store)
    with pytest.raises(NotFoundError, match="no run 'churn-2026-11-23-9ikq'") as caught:
        store.append("churn-2026-11-23-9ikq", 1, [started()])
    assert caught.value.hint == f"did you mean '{run_id}'?"
    with pytest.raises(NotFoundError):
        store.manifest("0" * 64)


def test_runs_are_listed_newest_first_by_pipeline_state_tag_and_page(store: SqlStore) -> None:
    ids = [a_run(store, at=AT + day * 10**9, tags={"day": str(day % 2)}) for day in range(6)]
    other = store.create(a_record("train", at=AT + 6 * 10**9), GRAPH, AT + 6 * 10**9).id
    for run_id in ids[:4]:
        store.append(run_id, 1, [RunFinished(at=AT, state=RunState.SUCCEEDED)])
    newest_first = [other, *reversed(ids)]

    def listed(**query: object) -> list[str]:
        return [each.record.id for each in store.list_runs(RunQuery(**query))]

    assert listed() == newest_first
    assert listed(pipeline="churn", limit=2) == newest_first[1:3]
    assert listed(pipeline="churn", limit=2, before=newest_first[2]) == newest_first[3:5]
    assert listed(state=RunState.SUCCEEDED) == ids[3::-1]
    assert listed(tags={"day": "1"}) == [ids[5], ids[3], ids[1]]
    assert listed(tags={"day": "1"}, state=RunState.SUCCEEDED) == [ids[3], ids[1]]
    with pytest.raises(NotFoundError):
        listed(before="nobody")


def test_running_and_interrupted_runs_are_told_apart_over_page_borders(store: SqlStore, clock) -> None:
    ids = [a_run(store, at=AT + day * 10**9) for day in range(6)]
    for run_id in ids[::2]:
        store.hold(run_id, 1)
    clock.turn(31)
    dead, alive = [*reversed(ids[1::2])], [*reversed(ids[::2])]
    assert [each.record.id for each in store.list_runs(RunQuery(state=RunState.RUNNING, limit=2))] == alive[:2]
    assert [each.record.id for each in store.list_runs(RunQuery(state=RunState.INTERRUPTED, limit=3))] == dead


def test_short_ids_match_at_either_end_newest_first(store: SqlStore) -> None:
    old, new = a_run(store), a_run(store, at=AT + 10**9)
    assert store.match_runs("churn-2026") == [new, old]
    assert store.match_runs(old[-4:]) == [old]
    assert store.match_runs("2026") == []
    assert store.match_runs("chur_") == []
    assert store.match_runs("%") == []


# appending ----------------------------------------------------------------------------------------------------------


def test_a_step_goes_from_start_over_retry_to_success_and_the_tables_follow(store: SqlStore) -> None:
    run_id = a_run(store)
    why = Failure(FailureClass.OUT_OF_MEMORY, "4 GiB", types=("builtins:MemoryError",), pickled=b"\x00\x01")
    ref = a_ref("model", inline=None, blobs=(Blob("", digest_bytes(b"model"), 5),), meta={"type": "Model"})
    store.append(run_id, 1, [started(key="k1", inputs={"data": [digest_bytes(b"d"), "text"]}, host="h", pid=9)])
    store.append(run_id, 1, [failed(failure=why, retry_at=AT + 9, seconds=1.5, cpu_seconds=1.25)])
    assert assert_tables_say_what_the_events_say(store, run_id).step("fit").retry_at == AT + 9
    seen = (Observation("file", "a.csv", "v1"),)
    done = succeeded(attempt=2, outputs={"output": ref}, observations=seen, metrics={"auc": 0.5}, note="n\u00f8te")
    store.append(run_id, 1, [started(attempt=2, key="k2"), done, started("next")])
    view = assert_tables_say_what_the_events_say(store, run_id)
    assert view.step("fit").outputs == {"output": ref}
    first, second = store.attempts(run_id, "fit")
    assert (first.state, first.failure, first.host, first.pid, first.cpu_seconds) == ("failed", why, "h", 9, 1.25)
    assert (second.state, second.number, second.failure) == ("succeeded", 2, None)


def test_events_come_back_in_order_and_from_a_point_on(store: SqlStore) -> None:
    run_id = a_run(store)
    given_events: list[Event] = [started(), MapExpanded(at=AT, scope="m", size=3), succeeded()]
    store.append(run_id, 1, given_events)
    assert [event for _, event in store.events(run_id)] == [RunStarted(at=AT), *given_events]
    assert store.events(run_id, after=2) == [(3, given_events[1]), (4, given_events[2])]


def test_text_that_is_not_utf8_or_holds_nul_is_kept_readable(store: SqlStore) -> None:
    run_id = a_run(store)
    odd = Failure(FailureClass.ERROR, "file caf\udce9\x00")
    store.append(run_id, 1, [started(), failed(failure=odd), StepSkipped(at=AT, step="b", because="nul \x00")])
    assert store.attempts(run_id)[0].failure == Failure(FailureClass.ERROR, "file caf?\x00")
    store.write_text(run_id, "fit", "", 1, "caf\udce9 \x00")
    assert [each[-1] for each in store.read_text(run_id)] == ["caf\udce9 \x00"]


def test_an_attempt_number_can_be_taken_once(store: SqlStore) -> None:
    run_id = a_run(store)
    store.append(run_id, 1, [started(attempt=2)])
    for number in (1, 2):
        with pytest.raises(FencedError, match=f"attempt {number} of step 'fit'"):
            store.append(run_id, 1, [StepSkipped(at=AT, step="other", because=""), started(attempt=number)])
    assert [run.step for run in store.step_runs(run_id)] == ["fit"]
    assert_tables_say_what_the_events_say(store, run_id)


@pytest.mark.parametrize("late", [succeeded(), failed(), failed(retry_at=AT)], ids=["succeeded", "failed", "retry"])
def test_an_attempt_that_is_no_longer_the_newest_may_not_finish(store: SqlStore, late: Event) -> None:
    run_id = a_run(store)
    store.append(run_id, 1, [started(), started(attempt=2)])
    with pytest.raises(FencedError, match="newest attempt is 2"):
        store.append(run_id, 1, [late])
    assert [each.state for each in store.attempts(run_id)] == ["interrupted", "running"]
    assert_tables_say_what_the_events_say(store, run_id)


def test_an_attempt_that_is_over_may_not_finish_again(store: SqlStore) -> None:
    run_id = a_run(store)
    store.append(run_id, 1, [started(), failed()])
    with pytest.raises(FencedError, match="the step is failed"):
        store.append(run_id, 1, [succeeded()])
    with pytest.raises(FencedError, match="the step is pending"):
        store.append(run_id, 1, [succeeded("never_started")])
    store.append(run_id, 1, [started(attempt=2), StepCancelled(at=AT, step="fit")])
    with pytest.raises(FencedError, match="the step is cancelled"):
        store.append(run_id, 1, [succeeded(attempt=2)])
    assert [each.state for each in store.attempts(run_id)] == ["failed", "cancelled"]


def test_an_attempt_owns_its_step_while_it_runs_is_the_newest_and_the_epoch_is_its_own(store: SqlStore) -> None:
    run_id = a_run(store)
    store.append(run_id, 1, [started(), started(index="1"), failed(index="1")])

    def owners(step: str = "fit", index: str = "") -> list[tuple[int, int]]:
        every = [(epoch, attempt) for epoch in (1, 2) for attempt in (1, 2)]
        return [(epoch, attempt) for epoch, attempt in every if store.owns_attempt(run_id, epoch, step, index, attempt)]

    assert owners() == [(1, 1)]
    assert owners(index="1") == owners(step="other") == []
    assert not store.owns_attempt("another-run", 1, "fit", "", 1)
    store.append(run_id, 1, [started(attempt=2)])
    assert owners() == [(1, 2)]
    store.append(run_id, 1, [RunResumed(at=AT, epoch=2)])
    assert owners() == []


def test_resume_fences_the_writers_of_the_older_epoch(store: SqlStore) -> None:
    run_id = a_run(store)
    store.append(run_id, 1, [started(), RunCancelRequested(at=AT)])
    manifest = store.put_manifest(b"{}")
    store.append(run_id, 2, [RunResumed(at=AT + 3, epoch=2, host=HERE, pid=5, manifest=manifest)])
    for event in (succeeded(), started("other"), StepSkipped(at=AT, step="s", because="")):
        with pytest.raises(FencedError, match="its epoch is 2, this process has 1"):
            store.append(run_id, 1, [event])
    summary = store.find_run(run_id)
    assert summary is not None
    assert (summary.record.epoch, summary.record.pid, summary.record.manifest) == (2, 5, manifest)
    assert store.manifest(manifest) == b"{}"
    assert store.attempts(run_id)[0].state == "interrupted"
    store.append(run_id, 2, [started(attempt=2), succeeded(attempt=2)])
    assert_tables_say_what_the_events_say(store, run_id)


def test_resume_undoes_what_was_decided_of_steps_that_were_never_tried(store: SqlStore) -> None:
    run_id = a_run(store)
    events = [
        StepBlocked(at=AT, step="of_a_map", because="'rows' failed"),
        StepSkipped(at=AT, step="s", because=""),
        StepCached(at=AT, step="done", key="k", outputs={"output": a_ref("x")}, origin=("r", "done", "")),
        started(),
        failed(),
    ]
    store.append(run_id, 1, events)
    store.append(run_id, 2, [RunResumed(at=AT, epoch=2)])
    view = assert_tables_say_what_the_events_say(store, run_id)
    assert {run.step: run.state for run in view.steps.values()} == {"done": StepState.CACHED, "fit": StepState.PENDING}
    store.append(run_id, 2, [StepSkipped(at=AT, step="s", because="again"), started("of_a_map", index="0")])
    view = assert_tables_say_what_the_events_say(store, run_id)
    assert [run.step for run in view.steps.values()] == ["done", "fit", "s", "of_a_map"]


@pytest.mark.parametrize("epoch", [1, 3])
def test_resume_must_carry_the_next_epoch(store: SqlStore, epoch: int) -> None:
    run_id = a_run(store)
    with pytest.raises(FencedError, match="another process has resumed it"):
        store.append(run_id, epoch, [RunResumed(at=AT, epoch=epoch)])
    assert len(store.events(run_id)) == 1


def test_anybody_may_ask_a_run_to_cancel(store: SqlStore) -> None:
    run_id = a_run(store)
    store.append(run_id, 2, [RunResumed(at=AT, epoch=2)])
    store.hold(run_id, 2)
    assert not store.beat(run_id)
    store.append(run_id, 0, [RunCancelRequested(at=AT, by="ada")])
    assert store.beat(run_id)
    store.append(run_id, 3, [RunResumed(at=AT, epoch=3)])
    with pytest.raises(FencedError):
        store.beat(run_id)
    store.release(run_id)
    assert not store.beat(run_id)


def test_an_append_of_nothing_changes_nothing(store: SqlStore) -> None:
    run_id = a_run(store)
    store.append(run_id, 1, [])
    assert len(store.events(run_id)) == 1


@pytest.mark.parametrize("what", ["append", "resume"])
def test_of_two_stores_that_want_the_same_thing_one_wins(shared_place, what: str) -> None:
    stores = [shared_place.open() for _ in range(2)]
    run_id = a_run(stores[0])
    event = started() if what == "append" else RunResumed(at=AT, epoch=2)
    epoch = 1 if what == "append" else 2
    barrier, outcomes = threading.Barrier(2), []

    def contend(store: SqlStore) -> None:
        barrier.wait()
        try:
            store.append(run_id, epoch, [event])
            outcomes.append("won")
        except FencedError:
            outcomes.append("fenced")

    threads = [threading.Thread(target=contend, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["fenced", "won"]
    assert len(stores[0].events(run_id)) == 2


# the projection is the fold -------------------------------------------------------------------------------------------


@st.composite
def legal_histories(draw: st.DrawFn) -> list[list[Event]]:
    """Batches of events, each of which a run log must accept after the ones before it."""
    view, at, batches = RunView(), AT, []
    for size in draw(st.lists(st.integers(1, 4), max_size=8)):
        batch = []
        for _ in range(size):
            at += 1
            event = draw(_next_event(view, at))
            view.apply(event)
            batch.append(event)
        batches.append(batch)
    return batches


_TEXTS = st.sampled_from(["", "x", "ü"])
_DIGESTS = st.sampled_from([digest_bytes(b"1"), digest_bytes(b"2"), "text"])
_INPUTS = st.dictionaries(st.sampled_from("pq"), st.lists(_DIGESTS, max_size=3), max_size=2)
_REFS = st.builds(
    ArtifactRef, _DIGESTS, st.sampled_from(["json", "npy"]), inline=_TEXTS, meta=st.dictionaries(st.just("t"), _TEXTS)
)
_OUTPUTS = st.dictionaries(st.sampled_from(["output", "other"]), _REFS, max_size=2)
_FAILURES = st.builds(Failure, st.sampled_from(FailureClass), _TEXTS)
_OUTCOME = {
    "outputs": _OUTPUTS,
    "metrics": st.dictionaries(_TEXTS, st.floats(allow_nan=False, allow_infinity=False), max_size=1),
    "observations": st.lists(st.builds(Observation, _TEXTS, _TEXTS, _TEXTS), max_size=1).map(tuple),
    "note": st.none() | _TEXTS,
}
_START = {"inputs": _INPUTS, "parts": st.just({}) | st.just({"code": "c"}), "waived": st.sampled_from([(), ("gpu=1",)])}


def _next_event(view: RunView, at: int) -> st.SearchStrategy[Event]:
    finals = [state for state in RunState if state is not RunState.RUNNING]
    return st.one_of(
        *(_next_step_event(view, at, step, index) for step, index in [("a", ""), ("m", "0"), ("m", "1.0")]),
        st.builds(MapExpanded, at=st.just(at), scope=st.just("m"), size=st.just(2)),
        st.builds(RunStarted, at=st.just(at)),
        st.builds(RunCancelRequested, at=st.just(at)),
        st.builds(RunResumed, at=st.just(at), epoch=st.just(view.epoch + 1), host=st.just(HERE)),
        st.builds(RunFinished, at=st.just(at), state=st.sampled_from(finals), error=st.none() | _TEXTS),
    )


def _next_step_event(view: RunView, at: int, step: str, index: str) -> st.SearchStrategy[Event]:
    run = view.step(step, index)
    place = {"at": st.just(at), "step": st.just(step), "index": st.just(index)}
    if run.state is StepState.RUNNING:
        mine = {**place, "attempt": st.just(run.attempts)}
        finish = st.one_of(
            st.builds(StepSucceeded, **mine, key=st.none() | _DIGESTS, seconds=st.just(0.1), **_OUTCOME),
            st.builds(AttemptFailed, **mine, failure=_FAILURES, retry_at=st.sampled_from([None, at])),
        )
    else:
        finish = st.nothing()
    next_attempt = st.integers(run.attempts + 1, run.attempts + 2)
    return st.one_of(
        finish,
        st.builds(AttemptStarted, **place, attempt=next_attempt, key=st.none() | _DIGESTS, **_START),
        st.builds(StepCached, **place, key=_DIGESTS, origin=st.just(("r", step, index)), inputs=_INPUTS, **_OUTCOME),
        st.builds(StepSkipped, **place, because=_TEXTS),
        st.builds(StepBlocked, **place, because=_TEXTS),
        st.builds(StepCancelled, **place, because=_TEXTS),
    )


_NUMBERS = itertools.count()


def _replay(stores: list[SqlStore], batches: list[list[Event]]) -> None:
    run_id, epoch = a_run(stores[0], id=f"run-{next(_NUMBERS)}"), 1
    view = fold([RunStarted(at=AT)])
    for number, batch in enumerate(batches):
        resumed = [event.epoch for event in batch if isinstance(event, RunResumed)]
        # the writers take turns, so that what one remembers of the run is stale whenever the other has written
        stores[number % len(stores)].append(run_id, resumed[0] - 1 if resumed else epoch, batch)
        epoch = resumed[-1] if resumed else epoch
        for event in batch:
            view.apply(event)
    stored = assert_tables_say_what_the_events_say(stores[0], run_id)
    assert vars(stored) == vars(view)


_QUICK = settings(
    max_examples=int(os.environ.get("PENSTOCK_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_QUICK
@given(batches=legal_histories())
def test_for_any_legal_history_the_tables_are_the_fold_of_the_events(store: SqlStore, batches) -> None:
    _replay([store], batches)


@pytest.fixture
def two_stores(shared_place) -> list[SqlStore]:
    return [shared_place.open(), shared_place.open()]


@_QUICK
@given(batches=legal_histories())
def test_for_any_legal_history_by_two_processes_the_tables_are_the_fold(two_stores: list[SqlStore], batches) -> None:
    _replay(two_stores, batches)


_SMALL = {
    "start": lambda view, at, run: AttemptStarted(at=at, step="a", attempt=run.attempts + 1, inputs={"p": ["d"]}),
    "succeed": lambda view, at, run: StepSucceeded(at=at, step="a", attempt=run.attempts, outputs={"o": a_ref("x")}),
    "fail": lambda view, at, run: failed("a", run.attempts),
    "retry": lambda view, at, run: failed("a", run.attempts, retry_at=at),
    "take": lambda view, at, run: StepCached(
        at=at, step="a", key="k", outputs={"o": a_ref("x")}, inputs={"p": ["e"]}, origin=("r", "a", "")
    ),
    "skip": lambda view, at, run: StepSkipped(at=at, step="a", because="x"),
    "skip another": lambda view, at, run: StepSkipped(at=at, step="b", because="x"),
    "cancel": lambda view, at, run: StepCancelled(at=at, step="a"),
    "resume": lambda view, at, run: RunResumed(at=at, epoch=view.epoch + 1, host=HERE),
    "finish": lambda view, at, run: RunFinished(at=at, state=RunState.FAILED),
}


@pytest.mark.parametrize("length", range(1, int(os.environ.get("PENSTOCK_HISTORY", "3")) + 1))
def test_after_every_short_history_in_every_grouping_the_tables_are_the_fold(length: int) -> None:
    store = open_store("memory:", home=Path())
    assert isinstance(store, SqlStore)
    for names in itertools.product(_SMALL, repeat=length):
        view, events = RunView(), []
        for at, name in enumerate(names, AT + 1):
            if name in ("succeed", "fail", "retry") and view.step("a").state is not StepState.RUNNING:
                break
            events.append(_SMALL[name](view, at, view.step("a")))
            view.apply(events[-1])
        else:
            for cuts in itertools.product((False, True), repeat=length - 1):
                batches = [[events[0]]]
                for cut, event in zip(cuts, events[1:], strict=True):
                    if cut:
                        batches.append([])
                    batches[-1].append(event)
                _replay([store], batches)
    store.close()


# liveness -----------------------------------------------------------------------------------------------------------


def test_a_held_run_is_alive_until_it_is_released(store: SqlStore, clock, place) -> None:
    run_id = a_run(store)
    store.hold(run_id, 1)
    store.hold(run_id, 1)
    clock.turn(3600)
    assert store.alive(run_id)
    store.release(run_id)
    assert not store.alive(run_id)
    summary = store.find_run(run_id)
    assert summary is not None
    assert summary.state is RunState.INTERRUPTED
    locks = place.home / "locks"
    assert not locks.exists() or list(locks.iterdir()) == []


def test_a_run_that_was_created_but_not_held_yet_is_alive_for_a_lease(store: SqlStore, clock) -> None:
    run_id = a_run(store)
    assert store.alive(run_id)
    clock.turn(29)
    assert store.alive(run_id)
    clock.turn(2)
    assert not store.alive(run_id)
    assert not store.alive("nobody")


def test_a_run_on_another_host_lives_by_its_lease(store: SqlStore, clock) -> None:
    run_id = a_run(store, host="elsewhere")
    for _ in range(5):
        clock.turn(20)
        store.beat(run_id)
        assert store.alive(run_id)
    clock.turn(31)
    assert not store.alive(run_id)
    store.append(run_id, 2, [RunResumed(at=AT, epoch=2, host="third")])
    assert store.alive(run_id)
    store.append(run_id, 2, [RunFinished(at=AT, state=RunState.FAILED, error="no")])
    assert not store.alive(run_id)


def test_a_lease_counts_in_the_databases_time_when_no_clock_is_turned(shared_place) -> None:
    store = shared_place.open()
    run_id = a_run(store, host="elsewhere")
    assert store.alive(run_id)
    store.database.connection.execute("UPDATE runs SET lease_until = lease_until - 31000000")
    assert not store.alive(run_id)


def test_on_one_host_the_lock_decides_whatever_the_lease_says(shared_place, clock, tmp_path: Path) -> None:
    owner, other = shared_place.open(clock), shared_place.open(clock)
    run_id = a_run(owner)
    owner.hold(run_id, 1)
    clock.turn(3600)
    assert other.alive(run_id)
    elsewhere = shared_place.open(clock, home=tmp_path / "another-home")
    assert not elsewhere.alive(run_id)  # it cannot see the lock, and the lease is over
    with pytest.raises(FencedError, match="owned by another process"):
        other.hold(run_id, 1)
    owner.release(run_id)
    other.hold(run_id, 1)
    assert owner.alive(run_id)


def test_a_forked_child_does_not_keep_its_parents_run_alive(shared_place) -> None:
    store = shared_place.open()
    run_id = a_run(store)
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom penstock.stores.runlog import open_store\n"
        "store = open_store(sys.argv[1], home=Path(sys.argv[2]))\nstore.hold(sys.argv[3], 1)\n"
        "if os.fork() == 0: print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    arguments = [sys.executable, "-c", script, shared_place.url, str(shared_place.home), run_id]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert store.alive(run_id)
        process.kill()
        process.wait()
        assert not store.alive(run_id)
        summary = store.find_run(run_id)
        assert summary is not None
        assert summary.state is RunState.INTERRUPTED
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


# cache --------------------------------------------------------------------------------------------------------------


def test_a_success_with_a_key_becomes_an_entry_newest_first(store: SqlStore) -> None:
    key = digest_bytes(b"key")
    runs = [a_run(store, at=AT + day * 10**9) for day in range(2)]
    seen = (Observation("file", "a.csv", "v1"),)
    for number, run_id in enumerate(runs):
        event = succeeded(key=key, observations=seen, metrics={"auc": 0.5}, note="n", seconds=2.0)
        store.append(run_id, 1, [started(), msgspec.structs.replace(event, at=AT + number)])
        store.append(run_id, 1, [started("plain"), succeeded("plain")])
    newest, oldest = store.entries(key)
    assert (newest.run_id, oldest.run_id) == (runs[1], runs[0])
    assert (newest.outputs, newest.observations) == ({"output": a_ref("x")}, seen)
    assert (newest.step, newest.index, newest.metrics, newest.note) == ("fit", "", {"auc": 0.5}, "n")
    assert (newest.seconds, newest.at, newest.key) == (2.0, AT + 1, key)
    store.forget(key, runs[1])
    assert [entry.run_id for entry in store.entries(key)] == [runs[0]]
    assert store.entries("unknown") == []


def test_a_failed_attempt_and_a_hit_make_no_entry(store: SqlStore) -> None:
    run_id = a_run(store)
    hit = StepCached(at=AT, step="b", key="k", outputs={"output": a_ref("x")}, origin=("r", "b", ""))
    store.append(run_id, 1, [started(key="k"), failed(), hit])
    assert store.entries("k") == []


def test_a_key_is_leased_to_one_owner_until_it_expires_or_is_given_back(store: SqlStore, clock) -> None:
    assert store.lease("k", "ada", 30)
    assert store.lease("k", "ada", 30)
    assert not store.lease("k", "bob", 30)
    store.unlease("k", "bob")
    assert not store.lease("k", "bob", 30)
    clock.turn(30)
    assert store.lease("k", "bob", 30)
    assert not store.lease("k", "ada", 30)
    store.unlease("k", "bob")
    assert store.lease("k", "ada", 30)


# texts and code -------------------------------------------------------------------------------------------------------


def test_texts_come_back_in_the_order_written_by_step_index_attempt_and_point(store: SqlStore) -> None:
    run_id, other = a_run(store), a_run(store, at=AT + 10**9)
    written = [("fit", "0", 1, "a\n"), ("fit", "1", 1, "b"), ("fit", "0", 2, "c"), ("split", "", 1, "d")]
    for step, index, attempt, text in written:
        store.write_text(run_id, step, index, attempt, text)
        store.write_text(other, step, index, attempt, "other")
    rows = list(store.read_text(run_id))
    assert [row[1:] for row in rows] == written
    assert [row[4] for row in store.read_text(run_id, "fit", "0")] == ["a\n", "c"]
    assert [row[4] for row in store.read_text(run_id, attempt=1)] == ["a\n", "b", "d"]
    assert [row[4] for row in store.read_text(run_id, after=rows[1][0])] == ["c", "d"]
    with pytest.raises(NotFoundError):
        store.write_text("nobody", "fit", "", 1, "lost")


def test_text_may_be_written_by_another_thread_while_events_are_appended(store: SqlStore) -> None:
    run_id = a_run(store)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(100):
                store.write_text(run_id, "fit", "", 1, str(number))
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for number in range(100):
        store.append(run_id, 1, [started(f"s{number}"), succeeded(f"s{number}")])
    thread.join()
    assert failures == []
    assert [row[4] for row in store.read_text(run_id)] == [str(number) for number in range(100)]
    assert_tables_say_what_the_events_say(store, run_id)


def test_several_threads_may_append_and_put_at_once(store: SqlStore) -> None:
    run_id = a_run(store)

    def work(name: str) -> None:
        for number in range(40):
            store.put_code(f"{name}{number}", [], {"x": "1"})
            store.append(run_id, 1, [started(f"{name}{number}"), succeeded(f"{name}{number}")])

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.step_runs(run_id)) == 80
    assert all(store.get_code(f"{name}{number}") for name in "ab" for number in range(40))
    assert_tables_say_what_the_events_say(store, run_id)


def test_code_comes_back_as_it_was_put(store: SqlStore) -> None:
    parts = [CodePart("a.py:f", digest_bytes(b"f"), "def f(): ..."), CodePart("a.py:g", digest_bytes(b"g"), "g = 1")]
    for _ in range(2):
        store.put_code("finger", parts, {"pandas": "2.2"})
    assert store.get_code("finger") == (parts, {"pandas": "2.2"})
    assert store.get_code("other") is None


def test_what_was_put_is_kept_by_the_next_append_or_by_closing(shared_place) -> None:
    writer, reader = shared_place.open(), shared_place.open()
    run_id = a_run(writer)
    writer.put_code("a", [], {"x": "1"})
    assert reader.get_code("a") is None
    writer.append(run_id, 1, [started()])
    assert reader.get_code("a") == ([], {"x": "1"})
    writer.put_code("f", [], {})
    writer.close()
    assert reader.get_code("f") == ([], {})


# retention ------------------------------------------------------------------------------------------------------------


def test_live_digests_name_every_blob_that_a_kept_run_refers_to(store: SqlStore) -> None:
    tree = a_ref("tree", inline=None, blobs=(Blob("a", "1" * 64, 1), Blob("b", "2" * 64, 1)))
    graph = b'{"nodes":[{"name":"a","payload":"%s"},{"name":"b"}]}' % (b"3" * 64)
    record = store.create(a_record(manifest=digest_bytes(graph)), graph, AT)
    store.append(record.id, 1, [started(), succeeded(outputs={"tree": tree, "plain": a_ref("p")}, key="k")])
    assert store.live_digests() == {
        tree.digest, "1" * 64, "2" * 64, "3" * 64, digest_bytes(graph)  # "p" lies in the run log itself
    }  # fmt: skip


def test_a_deleted_run_leaves_nothing_and_takes_nothing_from_others(store: SqlStore) -> None:
    shared, own = (a_ref(name, inline=None, blobs=(Blob("", name[0] * 64, 1),)) for name in ("shared", "own"))
    gone, kept = a_run(store, tags={"a": "b"}), a_run(store, at=AT + 10**9)
    for run_id, outputs in ((gone, {"s": shared, "o": own}), (kept, {"s": shared})):
        store.append(run_id, 1, [started(key="key-" + run_id), succeeded(outputs=outputs, key="both")])
        store.append(run_id, 1, [RunFinished(at=AT, state=RunState.SUCCEEDED)])
        store.write_text(run_id, "fit", "", 1, "hello")
    store.delete_runs([gone, "nobody"])
    assert store.find_run(gone) is None
    assert store.events(gone) == []
    assert store.step_runs(gone) == []
    assert list(store.read_text(gone)) == []
    assert [entry.run_id for entry in store.entries("both")] == [kept]
    assert store.live_digests() == {shared.digest, "s" * 64, digest_bytes(GRAPH)}
    assert_tables_say_what_the_events_say(store, kept)
    store.delete_runs([kept])
    tables = ("runs", "run_records", "run_tags", "manifests", "events", "step_runs", "uses", "artifacts",
              "cache_entries", "texts")  # fmt: skip
    left = {table for table in tables if store.database.connection.execute(f"SELECT 1 FROM {table}").fetchall()}
    assert left == set()


def test_a_run_that_is_running_is_not_deleted_and_nothing_else_is_either(store: SqlStore) -> None:
    finished, running = a_run(store), a_run(store, at=AT + 10**9)
    store.append(finished, 1, [RunFinished(at=AT, state=RunState.SUCCEEDED)])
    store.hold(running, 1)
    with pytest.raises(StoreError, match=f"'{running}' is running"):
        store.delete_runs([finished, running])
    assert store.find_run(finished) is not None
    store.release(running)
    store.delete_runs([running])
    assert store.find_run(running) is None


# opening --------------------------------------------------------------------------------------------------------------


def test_processes_that_open_a_fresh_store_at_once_all_succeed(shared_place) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom penstock.stores.runlog import open_store\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "store = open_store(sys.argv[1], home=Path(sys.argv[2]))\nprint(store.version(), flush=True)\nstore.close()\n"
    )
    arguments = [sys.executable, "-W", "error", "-c", script, shared_place.url, str(shared_place.home)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(arguments, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert results == [("2\n", "")] * 4
    assert shared_place.open().version() == 2


def test_what_was_written_is_there_when_the_store_is_opened_again(shared_place) -> None:
    first = shared_place.open()
    run_id = a_run(first)
    first.append(run_id, 1, [started(), succeeded()])
    first.close()
    first.close()
    with pytest.raises(StoreError, match="is closed"):
        first.append(run_id, 1, [started("late")])
    assert_tables_say_what_the_events_say(shared_place.open(), run_id)


def test_a_store_that_a_newer_penstock_shares_is_used_as_it_is(shared_place) -> None:
    store = shared_place.open()
    store.database.connection.execute("INSERT INTO schema VALUES (99, 1, 0)")
    store.close()
    newer = shared_place.open()
    assert newer.version() == 99
    a_run(newer)


def test_a_store_that_only_a_newer_penstock_may_write_is_refused_unharmed(shared_place) -> None:
    store = shared_place.open()
    store.database.connection.execute("INSERT INTO schema VALUES (99, 99, 0)")
    store.close()
    file = shared_place.home / "runs.db"
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(StoreTooNewError, match="its schema is 99 and takes writers from 99"):
        shared_place.open()
    assert (file.read_bytes() if file.exists() else None) == before


def test_a_file_that_is_no_sqlite_database_is_refused_unharmed(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    file.write_bytes(b"name,age\nada,36\n" * 100)
    with pytest.raises(StoreError, match=r"runs\.db is not a SQLite database"):
        open_store(str(file), home=tmp_path)
    assert file.read_bytes() == b"name,age\nada,36\n" * 100


def test_somebody_elses_sqlite_database_is_refused_unharmed(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    foreign = sqlite3.connect(file)
    foreign.execute("CREATE TABLE people (name TEXT)")
    foreign.close()
    before = file.read_bytes()
    with pytest.raises(StoreError, match="not a run log of penstock"):
        open_store(str(file), home=tmp_path)
    assert file.read_bytes() == before


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="cannot be opened") as caught:
        open_store(f"sqlite:///{tmp_path}/file/runs.db", home=tmp_path)
    assert "folder" in str(caught.value.hint)
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        open_store(str(tmp_path), home=tmp_path)


def test_an_unknown_scheme_says_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'postgres1://'") as caught:
        open_store("postgres1://db/x", home=tmp_path)
    assert "did you mean 'postgres'" in str(caught.value.hint)


def test_a_locked_store_says_so_after_its_patience(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"), home=tmp_path)
    assert isinstance(store, SqlStore)
    store.database.connection.execute("PRAGMA busy_timeout=20")
    blocker = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="is locked: another process"):
        a_run(store)
    blocker.close()
    a_run(store)
    store.close()


def test_a_full_disk_says_so_and_harms_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"), home=tmp_path)
    assert isinstance(store, SqlStore)
    run_id = a_run(store)
    pages = store.database.connection.execute("PRAGMA page_count").fetchone()[0]
    store.database.connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreUnavailableError, match="the disk is full"):
        store.append(run_id, 1, [started(inputs={"x": ["y" * 100_000]})])
    store.database.connection.execute("PRAGMA max_page_count=1000000")
    store.append(run_id, 1, [started(inputs={"x": ["y" * 100_000]})])
    assert_tables_say_what_the_events_say(store, run_id)
    store.close()


def test_a_read_only_store_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"), home=tmp_path)
    assert isinstance(store, SqlStore)
    store.database.connection.execute("PRAGMA query_only=ON")  # what root, too, may not write
    with pytest.raises(StoreUnavailableError, match="is read-only"):
        a_run(store)
    store.close()


def test_full_durability_is_asked_of_sqlite(tmp_path: Path) -> None:
    for durability, level in (("normal", 1), ("full", 2)):
        store = open_store(str(tmp_path / "runs.db"), home=tmp_path, durability=durability)
        assert isinstance(store, SqlStore)
        assert store.database.connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert store.database.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        store.close()


# PostgreSQL -----------------------------------------------------------------------------------------------------------


def test_an_unreachable_postgres_is_named_without_its_password(postgres_url: str, tmp_path: Path) -> None:
    url = postgres_url.replace("penstock@", "penstock:hunter2@").rpartition("/")[0] + "/nosuchdb"
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached.*nosuchdb") as caught:
        open_store(url, home=tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("shared_place", ["postgres"], indirect=True)
def test_a_dropped_connection_is_made_again_for_reads_and_new_transactions(shared_place) -> None:
    store, other = shared_place.open(), shared_place.open()
    run_id = a_run(store)

    def drop() -> None:
        pid = store.database.connection.info.backend_pid
        other.database.connection.execute(f"SELECT pg_terminate_backend({pid}, 5000)")

    drop()
    assert store.find_run(run_id) is not None
    drop()
    store.append(run_id, 1, [started()])
    drop()
    store.write_text(run_id, "fit", "", 1, "x")
    assert_tables_say_what_the_events_say(store, run_id)


@pytest.mark.parametrize("shared_place", ["postgres"], indirect=True)
def test_a_connection_that_drops_inside_a_transaction_loses_the_transaction_only(shared_place) -> None:
    store, other = shared_place.open(), shared_place.open()
    run_id = a_run(store)

    def lose_the_connection_inside() -> None:
        with store.database.transaction():
            store.database.run("request_cancel", (1,))
            pid = store.database.connection.info.backend_pid
            other.database.connection.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
            store.database.run("request_cancel", (1,))

    with pytest.raises(StoreUnavailableError, match="went away"):
        lose_the_connection_inside()
    assert not store.beat(run_id)
    store.append(run_id, 1, [started()])
    assert_tables_say_what_the_events_say(store, run_id)


def test_a_resume_with_other_code_renews_the_record_and_another_one_leaves_it(store: SqlStore) -> None:
    run_id = a_run(store, code={"steps": {"a.py:f": "1"}}, environment={"python": "3.11.1"})
    code, seen = {"steps": {"a.py:f": "2"}}, {"python": "3.12.1"}
    store.append(run_id, 1, [RunResumed(at=AT, epoch=2, code=code, environment=seen, kept=("gen",))])
    store.append(run_id, 2, [RunResumed(at=AT, epoch=3, kept=("gen",))])
    found = store.find_run(run_id)
    assert found is not None
    assert (found.record.code, found.record.environment) == (code, seen)
    assert assert_tables_say_what_the_events_say(store, run_id).kept == ("gen",)


def test_what_a_fingerprint_cannot_see_is_kept_beside_it_and_the_newest_counts(shared_place) -> None:
    store = shared_place.open()
    store.put_code("f", [], {"pandas": "2.2"})
    assert store.get_unseen("f") == ()
    again = shared_place.open()
    again.put_code("f", [], {"pandas": "2.2"}, ("a.py:1: eval", "a.py:2: open"))
    assert again.get_unseen("f") == ("a.py:1: eval", "a.py:2: open")
    assert again.get_code("f") == ([], {"pandas": "2.2"})
    assert again.get_unseen("other") == ()
