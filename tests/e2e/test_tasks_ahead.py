"""Workers are given quick tasks ahead: none waits behind a slow one; what had not begun is neither lost nor blamed."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Any

import pytest

from penstock.engine.launcher import Launcher
from penstock.ports.events import AttemptFailed, StepCancelled
from penstock.ports.records import RunState, StepState

from .engine_lab import Lab, gone, wait_for

MAP = """
@step(cache=False)
def work(at: int) -> int:
{body}
    mark(at)
    return at

@step
def total(ats: list[int]) -> int:
    return sum(ats)

@pipeline
def main(count: int = 200) -> int:
    return total(work.map(at=numbers(count)))

@step
def numbers(count: int) -> list[int]:
    return list(range(count))
"""


def test_what_waits_behind_a_slow_task_is_done_by_another_worker(lab: Lab) -> None:
    """Element 120 waits until every other one is done: behind it, in its own worker, some had been given ahead."""
    lab.write(
        MAP.format(
            body="""
    if at == 120:
        limit = time.monotonic() + 30
        while len(set((HERE / "ran.txt").read_text().split())) < 199:
            if time.monotonic() > limit:
                raise TimeoutError("the others wait behind this one")
            threading.Event().wait(0.01)
"""
        )
    )
    run = lab.run()
    assert (run.state, run.output) == (RunState.SUCCEEDED, sum(range(200)))
    assert Counter(lab.ran()) == Counter(map(str, range(200)))


def test_a_worker_that_dies_takes_only_the_task_that_ran(lab: Lab) -> None:
    lab.write(MAP.format(body="\n    if at == 150:\n        os._exit(9)\n"))
    run = lab.run()
    assert run.state is RunState.FAILED
    of_map = [each for each in run.steps if each.step == "work"]
    assert [each.index for each in of_map if each.state is not StepState.SUCCEEDED] == ["150"]
    assert {each.attempts for each in of_map} == {1}
    assert Counter(lab.ran()) == Counter(str(at) for at in range(200) if at != 150)


def test_after_a_failure_that_ends_the_run_what_had_not_begun_is_cancelled_and_no_failure(lab: Lab) -> None:
    lab.write(
        MAP.format(body='\n    if at == 100:\n        raise ValueError("here")\n').replace(
            "@pipeline\n", "@pipeline(fail_fast=True)\n"
        )
    )
    run = lab.run()
    events = [event for _, event in lab.project().store.events(run.id)]
    failed = [event.failure.name for event in events if isinstance(event, AttemptFailed)]
    assert failed.count("ValueError") == 1
    assert len(failed) <= 3, "what was under way in the two workers is told to stop"
    left = {each.state for each in run.steps if each.step == "work" and not each.state.has_output}
    assert left <= {StepState.FAILED, StepState.CANCELLED}
    assert any(isinstance(event, StepCancelled) for event in events)


def test_an_effect_starts_only_when_it_really_does(lab: Lab) -> None:
    """Killed in the middle of a map of at-most-once effects: only those that were under way are refused afterwards."""
    lab.write(
        MAP.format(
            body="""
    if at == 60 and not (HERE / "again").exists():
        arrive("here")
        await_file("again", 60)
"""
        ).replace("@step(cache=False)", '@step(effect="at-most-once")')
    )
    process = lab.start("lab.main.using(workers=2).run()")
    try:
        wait_for(lambda: (lab.root / "here").exists())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    wait_for(lambda: gone(process.pid))
    lab.root.joinpath("again").touch()
    run = lab.resume(lab.last_run())
    refused = [each for each in run.steps if each.step == "work" and each.state is StepState.FAILED]
    assert 1 <= len(refused) <= 2, "one for each worker at most"
    assert max(Counter(lab.ran()).values()) == 1


def test_a_result_that_took_long_is_durable_before_anything_outside_is_looked_at(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(
        """
@step
def train(plus: int) -> int:
    threading.Event().wait(0.1)
    return 1

@step
def score(model: int) -> int:
    context().observe("file", str(HERE / "lab.txt"), "never")
    return model

@pipeline
def main(plus: int = 0) -> int:
    return score(train(plus))
"""
    )
    first = lab.run(parameters={"plus": 1}, workers=1)
    assert first.state is RunState.SUCCEEDED
    reader = lab.project().store
    seen: list[Any] = []

    def looks(self: Launcher, observation: Any, *_: Any) -> bool:
        newest = reader.match_runs("")[0]
        seen.append({each.step: each.state for each in reader.step_runs(newest)})
        return False

    monkeypatch.setattr(Launcher, "_may_hold", looks)
    second = lab.run(parameters={"plus": 2}, workers=1)
    assert second.state is RunState.SUCCEEDED
    assert seen == [{"train": StepState.SUCCEEDED}]


def test_a_computation_that_keeps_nothing_is_waited_for_once_at_most(lab: Lab) -> None:
    """Six equal elements with a hidden input: the first is waited for, the others go on side by side."""
    lab.write(
        """
import random

@step
def draw(at: int) -> float:
    arrive(f"here-{os.getpid()}-{random.random()}")
    if len(list(HERE.glob("here-*"))) > 1:
        limit = time.monotonic() + 30
        while len(list(HERE.glob("here-*"))) < 3:
            if time.monotonic() > limit:
                raise TimeoutError("the others wait for this one")
            threading.Event().wait(0.01)
    return 1.0

@pipeline
def main() -> list[float]:
    return draw.map(at=[7, 7, 7])
"""
    )
    run = lab.run()
    assert run.state is RunState.SUCCEEDED
    assert {each.attempts for each in run.steps} == {1}
