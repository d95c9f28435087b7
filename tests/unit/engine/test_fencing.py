"""The fence on a run log: who may act, and one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from penstock.core.errors import FencedError
from penstock.engine.fencing import LEASE_S, StoreFence
from penstock.ports.effects import Acting, Effect
from penstock.ports.events import AttemptFailed, AttemptStarted, Event, RunResumed, StepCancelled
from penstock.ports.records import Failure, FailureClass, RunRecord
from penstock.ports.runlog import Store
from penstock.stores.memory import memory_store
from penstock.testing import TurnedClock

RUN = "churn-2026-11-23-7f3a"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def store(clock: TurnedClock) -> Iterator[Store]:
    store = memory_store(clock)
    store.create(RunRecord(RUN, "churn", "shop", "", {}, 0), b"{}", 0)
    store.append(RUN, 1, [AttemptStarted(at=1, step="register", attempt=1)])
    yield store
    store.close()


def acting(attempt: int = 1, epoch: int = 1, index: str = "") -> Acting:
    return Acting(RUN, epoch, "register", index, attempt)


def test_the_newest_attempt_of_the_runs_owner_may_act(store: Store, clock: TurnedClock) -> None:
    with Effect(StoreFence(store, acting(), clock), "churn", "key") as effect:
        effect.check()


@pytest.mark.parametrize(
    "event",
    [
        RunResumed(at=2, epoch=2),
        AttemptStarted(at=2, step="register", attempt=2),
        AttemptFailed(at=2, step="register", attempt=1, failure=Failure(FailureClass.KILLED, "gone")),
        StepCancelled(at=2, step="register"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_attempt_that_was_replaced_ended_or_cancelled_may_not(
    store: Store, clock: TurnedClock, event: Event
) -> None:
    fence = StoreFence(store, acting(), clock)
    with Effect(fence, "churn", "key") as effect:
        store.append(RUN, 1, [event])
        with pytest.raises(FencedError, match="attempt 1 of step 'register' in run churn-2026-11-23-7f3a may not act"):
            effect.check()
    with pytest.raises(FencedError), Effect(fence, "churn", "key"):
        raise AssertionError("it acted")


def test_after_a_resume_the_new_attempt_acts_and_the_old_one_does_not(store: Store, clock: TurnedClock) -> None:
    store.append(RUN, 1, [RunResumed(at=2, epoch=2)])
    store.append(RUN, 2, [AttemptStarted(at=3, step="register", attempt=2)])
    with pytest.raises(FencedError):
        StoreFence(store, acting(), clock).check()
    with Effect(StoreFence(store, acting(attempt=2, epoch=2), clock), "churn", "key"):
        pass


def test_one_who_waits_for_a_dead_holder_gets_the_thing_when_its_lease_is_over(
    store: Store, clock: TurnedClock
) -> None:
    StoreFence(store, acting(), clock).take("churn")  # and died: nobody drops it
    store.append(RUN, 1, [AttemptStarted(at=2, step="register", attempt=2)])
    began = clock.monotonic()
    with Effect(StoreFence(store, acting(attempt=2), clock), "churn", "key"):
        assert LEASE_S <= clock.monotonic() - began < LEASE_S + 1


def test_one_who_waits_and_is_replaced_meanwhile_stops_waiting(store: Store, clock: TurnedClock) -> None:
    StoreFence(store, acting(), clock).take("churn")
    store.append(RUN, 1, [AttemptStarted(at=2, step="register", index="1", attempt=1), RunResumed(at=2, epoch=2)])
    with pytest.raises(FencedError, match=r"step 'register\[1\]'"):
        StoreFence(store, acting(index="1"), clock).take("churn")


def test_a_holder_that_was_held_up_beyond_its_lease_notices_that_another_has_the_thing(
    store: Store, clock: TurnedClock
) -> None:
    store.append(RUN, 1, [AttemptStarted(at=1, step="register", index="1", attempt=1)])
    with Effect(StoreFence(store, acting(), clock), "churn", "key") as effect:
        clock.advance(LEASE_S + 1)
        effect.check()  # nobody else wanted it: it is still ours
        clock.advance(LEASE_S + 1)
        with (
            Effect(StoreFence(store, acting(index="1"), clock), "churn", "other"),
            pytest.raises(FencedError, match="held up for so long"),
        ):
            effect.check()


def test_twenty_at_once_change_one_thing_one_after_another(store: Store) -> None:
    store.append(RUN, 1, [AttemptStarted(at=1, step="register", index=str(each), attempt=1) for each in range(20)])
    inside = 0
    seen: list[int] = []
    registered: list[int] = []

    class Hurried(TurnedClock):
        def pause(self, seconds: float) -> float:
            return 0.0005  # look again soon

    def work(index: int) -> None:
        nonlocal inside
        with Effect(StoreFence(store, acting(index=str(index)), Hurried()), "one key", "key"):
            inside += 1
            seen.append(inside)
            if not registered:
                registered.append(index)
            inside -= 1

    threads = [threading.Thread(target=work, args=(each,)) for each in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen, len(registered)) == ([1] * 20, 1)
