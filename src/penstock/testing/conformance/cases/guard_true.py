"""Under a condition that holds, steps run as if it were not there."""

from penstock import pipeline, step, when


@step
def good_enough(number: int) -> bool:
    return number > 2


@step
def two_fold_of(number: int) -> int:
    return number * 2


@step
def telling(number: int) -> str:
    return f"got {number}"


@pipeline
def guard_true(number: int = 3) -> str:
    with when(good_enough(number)):
        doubled = two_fold_of(number)
    return telling(doubled)
