"""Under a condition that does not hold, steps are skipped, and the run succeeds all the same."""

from penstock import pipeline, step, when


@step
def good(number: int) -> bool:
    return number > 2


@step
def times_two(number: int) -> int:
    return number * 2


@step
def told(number: int) -> str:
    return f"got {number}"


@pipeline
def guard_false(number: int = 1) -> str:
    with when(good(number)):
        times_two(number)
    return told(number)
