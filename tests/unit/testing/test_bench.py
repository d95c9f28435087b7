"""What users write their tests with: a step, a pipeline, a turned clock, faults, crashes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from penstock import Retry, Secret, context, optional, pipeline, step, when
from penstock.core.errors import CodecError, DefinitionError, ParameterError, UsageError
from penstock.ports.events import AttemptFailed, RunFinished
from penstock.ports.records import RunState, StepState
from penstock.testing import Bench, Crash, Faults, MemoryBlobs, TurnedClock, crash_points, run_pipeline, run_step


class Split(NamedTuple):
    train: list[int]
    test: tuple[int, ...]


@dataclass
class Verdict:
    passed: bool


@step
def extract(count: int = 4) -> list[int]:
    print("extracting", count)
    return list(range(count))


@step
def split(rows: list[int]) -> Split:
    return Split(rows[:2], tuple(rows[2:]))


@step(retry=Retry(4, base="10m", cap="5h"), timeout="1s")
def fit(x: int) -> int:
    return x * 10


@step
def total(xs: list[int]) -> int:
    return sum(xs)


@step
def judge(score: int) -> Verdict:
    return Verdict(score > 3)


@step
async def fetch(url: str) -> str:
    return url.upper()


@step
def announce(score: int, token: str) -> str:
    context().service("speaker").append(score)
    return f"{score} with {token}"


@pipeline
def of_rows(rows: list[int]) -> int:
    return total(fit.map(x=rows))


@pipeline
def lifecycle(count: int = 4, token: str = Secret("TOKEN")) -> dict[str, Any]:
    train, test = split(extract(count))
    score = of_rows(train)
    verdict = judge(score)
    with when(verdict.passed):
        said = announce(score, token)
    with when(verdict.passed, is_=False):
        not_said = announce.named("refuse")(score, token)
    return {"score": score, "said": optional(said), "not": optional(not_said), "url": fetch("u"), "test": test}


def bench(**options: Any) -> Bench:
    return Bench(secrets={"TOKEN": "t0k"}, services={"speaker": []}, **options)


# -- one step --------------------------------------------------------------------------------------------------------


def test_a_step_gives_what_its_consumer_would_get() -> None:
    assert run_step(total, [1, 2]) == 3
    assert run_step(split, [1, 2, 3]) == Split([1, 2], (3,))
    assert run_step(fetch, "a") == "A"


def test_a_step_cannot_change_the_tests_own_values() -> None:
    @step
    def wreck(rows: list[int]) -> list[int]:
        rows.clear()
        return rows

    mine = [1, 2]
    assert run_step(wreck, mine) == []
    assert mine == [1, 2]


def test_a_step_that_returns_what_cannot_be_stored_fails_as_in_a_run() -> None:
    @step
    def opened() -> Any:
        return (number for number in range(3))

    @step
    def promised() -> Split:
        return (1, 2)  # type: ignore[return-value]

    with pytest.raises(CodecError):
        run_step(opened)
    with pytest.raises(CodecError, match="promises Split"):
        run_step(promised)


def test_a_step_sees_the_attempt_directory_secrets_and_services_it_is_given(tmp_path: Path) -> None:
    @step
    def curious(token: str) -> list[Any]:
        ctx = context()
        return [ctx.attempt, str(ctx.checkpoint_dir), token, ctx.service("registry")]

    given = run_step(
        curious, Secret("T"), attempt=3, checkpoint_dir=tmp_path, secrets={"T": "s"}, services={"registry": "r"}
    )
    assert given == [3, str(tmp_path), "s", "r"]
    with pytest.raises(UsageError, match="no secret 'T'"):
        run_step(curious, Secret("T"))


def test_a_steps_own_exception_and_a_wrong_call_come_through() -> None:
    @step
    def fails(a: int) -> int:
        raise ZeroDivisionError(a)

    with pytest.raises(ZeroDivisionError):
        run_step(fails, 1)
    with pytest.raises(DefinitionError, match="is missing 'a'"):
        run_step(fails)


def test_a_table_is_checked_at_the_boundary_and_bad_rows_leave_it() -> None:
    pandera = pytest.importorskip("pandera.pandas")
    import pandas as pd
    from pandera.typing.pandas import DataFrame

    from penstock import InvalidDataError, Quarantine

    class Orders(pandera.DataFrameModel):  # type: ignore[misc,name-defined]
        price: float = pandera.Field(ge=0)

    namespace = {"DataFrame": DataFrame, "Orders": Orders, "pd": pd}
    exec("def clean(orders: DataFrame[Orders]) -> DataFrame[Orders]:\n    return orders\n", namespace)
    orders = pd.DataFrame({"price": [1.0, -2.0]})
    lenient = step(on_invalid=Quarantine(max_fraction=0.9))(namespace["clean"])
    assert run_step(lenient, orders)["price"].tolist() == [1.0]
    with pytest.raises(InvalidDataError):
        run_step(step(namespace["clean"]), orders)


# -- a pipeline ------------------------------------------------------------------------------------------------------


def test_a_pipeline_runs_on_memory_with_states_attempts_events_and_prints() -> None:
    run = bench().run(lifecycle)
    assert run.output == {"score": 10, "said": "10 with t0k", "not": None, "url": "U", "test": (2, 3)}
    assert run.states["of_rows/fit[1]"] is StepState.SUCCEEDED
    assert run.states["refuse"] is StepState.SKIPPED
    assert run.attempts["extract"] == 1
    assert run.printed("extract") == "extracting 4\n"
    assert isinstance(run.events[-1], RunFinished)
    assert "t0k" not in repr(run.events[:-3])


def test_a_run_leaves_nothing_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bench().run(lifecycle)
    assert list(tmp_path.iterdir()) == []


def test_long_waits_between_attempts_pass_at_once_on_a_turned_clock() -> None:
    clock = TurnedClock("2026-11-23T08:00:00")
    faults = Faults().fail("of_rows/fit", TimeoutError("busy"), attempt=1, index="0")
    faults.fail("of_rows/fit", OSError("busy"), attempt=2, index="0").delay("extract", "3h")
    began = time.monotonic()
    run = bench(clock=clock, faults=faults).run(lifecycle)
    assert run.output["score"] == 10
    assert run.attempts["of_rows/fit[0]"] == 3
    assert clock.now().isoformat(timespec="minutes") == "2026-11-23T11:30+00:00"
    assert time.monotonic() - began < 5
    failures = [event for event in run.events if isinstance(event, AttemptFailed)]
    assert [event.retry_at - event.at for event in failures if event.retry_at] == [600_000_000, 1_200_000_000]


def test_a_step_that_always_fails_is_told_when_the_output_is_asked_for() -> None:
    run = bench(faults=Faults().fail("judge", KeyError("lost"))).run(lifecycle)
    assert run.state is RunState.FAILED
    assert run.states["announce"] is StepState.UPSTREAM_FAILED
    assert run.states["fetch"] is StepState.SUCCEEDED
    with pytest.raises(KeyError, match="lost"):
        _ = run.output


def test_a_step_can_be_replaced_also_an_async_one() -> None:
    run = bench(replace={"extract": lambda count: [7, 7, 7], "fetch": lambda url: "there"}).run(lifecycle, count=1)
    assert run.output["score"] == 140
    assert run.output["url"] == "there"


def test_names_that_are_not_there_are_refused_and_not_ignored() -> None:
    with pytest.raises(UsageError, match="no step 'extarct'") as caught:
        run_pipeline(lifecycle, replace={"extarct": list})
    assert "did you mean 'extract'" in str(caught.value)
    with pytest.raises(UsageError, match="no step 'jugde'"):
        run_pipeline(lifecycle, faults=Faults().fail("jugde"))
    with pytest.raises(ParameterError, match="'rows'"):
        run_pipeline(of_rows)
    with pytest.raises(ParameterError, match="takes int"):
        run_pipeline(lifecycle, count="a")


def test_a_crash_ends_the_run_and_resume_finishes_it() -> None:
    here = bench(faults=Faults().crash(before_write=12))
    with pytest.raises(Crash, match="before write 12"):
        here.run(lifecycle)
    run = here.resume()
    assert run.output == bench().run(lifecycle).output
    assert len(here.executed) == len(set(here.executed))


def test_every_crash_point_of_a_pipeline_resumes_to_the_same_result() -> None:
    calm = bench().run(lifecycle)
    points = 0
    for crashed in crash_points(lifecycle, make=bench):
        run = crashed.resume()
        assert run.digests == calm.digests, crashed
        assert crashed.repeated == [], crashed
        points += 1
    assert points > 25


def test_a_map_that_was_closed_leaves_nothing_pending_once_a_resume_has_expanded_it() -> None:
    here = bench(faults=Faults().fail("extract", OSError("busy"), attempt=1))
    assert here.run(lifecycle).states["of_rows/fit"] is StepState.UPSTREAM_FAILED
    run = here.resume()
    assert run.state is RunState.SUCCEEDED
    stored = {(each.step, each.index): each.state for each in here.store.step_runs(run.id)}
    assert ("of_rows/fit", "") not in stored
    assert all(state.done for state in stored.values())


def test_every_crash_point_beside_an_earlier_run_with_the_cache_on_and_processes_that_die_again_and_again() -> None:
    def shared() -> Bench:
        here = bench(cache=True)
        here.run(lifecycle, count=3)
        return here

    calm = shared().run(lifecycle)
    told, repeats = set(), 0
    for crashed in crash_points(lifecycle, make=shared, lives=3, every=2):
        run = crashed.resume()
        assert run.digests == calm.digests, crashed
        assert run.output == calm.output, crashed
        repeats += len(crashed.repeated)
        told |= set(str(crashed).split(", then "))
    assert repeats == 0
    assert len(told) > 30
    assert any(text.startswith("crash in the middle of") for text in told)


def test_a_crash_in_the_middle_of_a_blob_leaves_half_of_it_where_nobody_reads() -> None:
    @step
    def large() -> list[int]:
        return list(range(5000))

    @pipeline
    def larger() -> list[int]:
        return large()

    left = 0
    for crashed in crash_points(larger):
        if "in the middle" in str(crashed):
            assert crashed.bench.blobs.sweep(0) == 1
            left += 1
        assert crashed.resume().output == list(range(5000)), crashed
    assert left == 1


# -- clock and blobs -------------------------------------------------------------------------------------------------


def test_a_turned_clock_moves_only_when_it_is_turned() -> None:
    clock = TurnedClock()
    first = clock.now_us()
    assert clock.now_us() == first
    clock.advance("1.5s")
    assert clock.now_us() - first == 1_500_000
    assert clock.pause(0.25) == 0.0
    assert clock.monotonic() == 1.75


def test_blobs_in_memory_keep_bytes_under_their_digest(tmp_path: Path) -> None:
    clock = TurnedClock()
    blobs = MemoryBlobs(clock)
    made = blobs.staging() / "part"
    made.write_bytes(b"abc")
    digest, size = blobs.put_file(made)
    assert not made.exists()
    assert (blobs.size(digest), size) == (3, 3)
    assert blobs.open_local(digest, 3).read_bytes() == b"abc"
    clock.advance(5)
    assert list(blobs.list()) == [(digest, 3, 5.0)]
    assert blobs.sweep(0) == 1
    blobs.delete(digest)
    blobs.delete(digest)
    assert blobs.size(digest) is None
