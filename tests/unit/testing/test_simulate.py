"""The simulation itself: it finds what is planted, says how to see it again, and really does its mischief."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from penstock import Pipeline, Retry, context, optional, pipeline, step, when
from penstock.core.errors import UsageError
from penstock.engine import launcher, retry
from penstock.engine.launcher import Launcher
from penstock.engine.scheduler import Scheduler
from penstock.ports import events
from penstock.ports.records import RunState
from penstock.stores.runlog import appending
from penstock.testing import Bench, MemoryBlobs, SimulationError, simulate
from penstock.testing.mishaps import Kind, Story

_TOLD: list[int] = []


@step(retry=Retry(3, base="10m", jitter="full"))
def extract(count: int) -> list[int]:
    if context().attempt == 1:
        raise ConnectionError("not yet")
    return list(range(count))


@step
def table(rows: list[int]) -> list[int]:
    return [*rows, *range(4000)]  # a file


@step
def fit(row: int) -> int:
    return row * 2


@step
def total(parts: list[int], table: list[int]) -> int:
    return sum(parts) + len(table)


@step
def large(total: int) -> bool:
    return total > 100


@step(effect="at-least-once", cache=False)
def tell(total: int) -> int:
    _TOLD.append(total)
    return total


@pipeline
def flow(count: int = 3) -> dict[str, Any]:
    rows = extract(count)
    sum_of_all = total(fit.map(row=rows), table(rows))
    with when(large(sum_of_all)):
        said = tell(sum_of_all)
    with when(large(sum_of_all), is_=False):
        unsaid = tell.named("unsaid")(sum_of_all)
    return {"said": optional(said), "unsaid": optional(unsaid)}


def simulated(pipeline: Pipeline[..., Any], seeds: int) -> None:
    for seed in range(seeds):
        simulate(pipeline, seed)


def test_whatever_happens_the_run_ends_as_a_calm_one() -> None:
    lives, happened = Counter[int](), ""
    for seed in range(60):
        told = simulate(flow, seed, count=2)
        assert told.run.state is RunState.SUCCEEDED
        assert told.run.output == {"said": 4004, "unsaid": None}
        lives[told.lives] += 1
        happened += told.story
    assert len(lives) > 3
    assert {kind for kind in Kind if kind.value in happened} >= {
        Kind.CANCELLED, Kind.TAKEN_OVER, Kind.OTHER_RUN, Kind.CLOCK_BACK, Kind.CLOCK_ON
    }  # fmt: skip
    assert "crash before" in happened
    assert "crash after" in happened
    assert "crash in the middle of" in happened
    assert "cannot be reached" in happened


def test_the_same_seed_tells_the_same_story() -> None:
    def told(seed: int) -> Any:
        simulated = simulate(flow, seed)
        return simulated.story, [type(event).__name__ for event in simulated.run.events]

    assert [told(seed) for seed in range(12)] == [told(seed) for seed in range(12)]


def test_a_pipeline_that_fails_calmly_is_refused() -> None:
    @step
    def broken() -> int:
        raise KeyError("always")

    @pipeline
    def always_broken() -> int:
        return broken()

    with pytest.raises(UsageError, match="'always_broken' failed"):
        simulate(always_broken, 1)


def test_a_step_whose_result_depends_on_its_attempt_is_found_and_the_call_is_told() -> None:
    @step
    def counting() -> int:
        return context().attempt

    @pipeline
    def counted() -> int:
        return counting()

    with pytest.raises(SimulationError) as caught:
        simulated(counted, 60)
    said = str(caught.value)
    assert "counting[] came to" in said
    assert "what happened:\n  process 1, write " in said
    assert said.count("  process ") == 1  # nothing else is needed for it
    assert "to see it again: simulate(counted, " in said


# -- planted bugs ----------------------------------------------------------------------------------------------------


def _sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    real = retry.next_delay

    def half(*args: Any, **kwargs: Any) -> float | None:
        delay = real(*args, **kwargs)
        return None if delay is None else delay / 2

    monkeypatch.setattr(launcher, "next_delay", half)


def _early_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Scheduler._later
    monkeypatch.setattr(Scheduler, "_later", lambda self, item, seconds: real(self, item, seconds / 3))


def _no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending.Append, "_check_epoch", lambda self, writer: None)


def _forgets_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def reopened(run: Any) -> Any:
        return real(run) if run.step != "table" else None

    real = events.reopened_step_run
    monkeypatch.setattr(events, "reopened_step_run", reopened)
    monkeypatch.setattr(appending, "reopened_step_run", reopened)


def _starts_before_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Scheduler._flush

    def flush(self: Scheduler) -> None:
        if not (self._pending and isinstance(self._pending[-1].event, events.AttemptStarted)):
            real(self)

    monkeypatch.setattr(Scheduler, "_flush", flush)


def _loses_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = MemoryBlobs.put_file

    def put(self: MemoryBlobs, path: Any) -> Any:
        digest, size = real(self, path)
        self._blobs[digest] = (self._blobs[digest][0][: size // 2], 0)
        return digest, size

    monkeypatch.setattr(MemoryBlobs, "put_file", put)


def _never_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Launcher, "look_up", lambda self, key, node, answers: (None, 99))


def _says_it_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events.RunView, "outcome", lambda self: RunState.SUCCEEDED)


@pytest.mark.parametrize(
    "plant",
    [
        _sooner,
        _early_timer,
        _no_fence,
        _forgets_success,
        _starts_before_it_is_stored,
        _loses_blobs,
        _never_hits,
        _says_it_succeeded,
    ],
)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((SimulationError, UsageError)):  # UsageError: it shows in the calm run already
        simulated(flow, 120)


def test_a_story_is_made_shorter_one_thing_at_a_time() -> None:
    from random import Random

    story = next(story for seed in range(99) if len((story := Story.drawn(Random(seed), 30)).lives) > 2)
    assert all(len(str(shorter)) < len(str(story)) for shorter in story.shorter())
    assert Story((), 0.0).shorter() == []


def test_a_bench_of_ones_own_is_used() -> None:
    made: list[Bench] = []

    def make() -> Bench:
        made.append(Bench(replace={"extract": lambda count: [1]}))
        return made[-1]

    assert simulate(flow, 3, make=make).run.output == {"said": 4003, "unsaid": None}
    assert len(made) == 2
