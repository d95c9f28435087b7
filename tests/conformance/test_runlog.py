"""What every run log keeps of runs and their events, wherever it lies."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.canonical import digest_bytes
from penstock.core.errors import FencedError, NotFoundError
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
from penstock.ports.records import Failure, FailureClass, Observation, RunState, StepState
from penstock.ports.runlog import RunQuery
from penstock.stores.runlog import SqlStore, open_store

from .runs import (
    AT,
    GRAPH,
    HERE,
    a_record,
    a_ref,
    a_run,
    assert_tables_say_what_the_events_say,
    failed,
    started,
    succeeded,
)

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


def test_nothing_is_recorded_of_a_run_that_is_over_until_somebody_takes_it_over(store: SqlStore) -> None:
    run_id = a_run(store)
    store.append(run_id, 1, [started()])
    store.append(run_id, 1, [RunFinished(at=AT, state=RunState.FAILED)])
    late = [
        StepSkipped(at=AT, step="late", because="x"),
        failed("fit", 1),
        RunFinished(at=AT, state=RunState.CANCELLED),
    ]
    for event in (*late, MapExpanded(at=AT, scope="m", size=1)):
        with pytest.raises(FencedError, match="is over"):
            store.append(run_id, 1, [event])
    store.append(run_id, 1, [RunCancelRequested(at=AT)])
    with pytest.raises(FencedError, match="is over"):
        store.append(run_id, 1, [RunFinished(at=AT, state=RunState.FAILED)])
    store.append(run_id, 2, [RunResumed(at=AT, epoch=2), late[0]])
    assert_tables_say_what_the_events_say(store, run_id)


def test_a_beat_with_an_epoch_notices_that_the_run_was_taken_over(store: SqlStore) -> None:
    run_id = a_run(store)
    assert not store.beat(run_id, 1)
    store.append(run_id, 2, [RunResumed(at=AT, epoch=2)])
    with pytest.raises(FencedError, match="taken over"):
        store.beat(run_id, 1)
    assert not store.beat(run_id, 2)


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
    if view.finished is not None:  # of a run that is over nothing is recorded, until somebody takes it over
        return st.one_of(
            st.builds(RunCancelRequested, at=st.just(at)),
            st.builds(RunResumed, at=st.just(at), epoch=st.just(view.epoch + 1), host=st.just(HERE)),
        )
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
            if view.finished is not None and name != "resume":
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
