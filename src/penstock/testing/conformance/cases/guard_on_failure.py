"""Where the step behind a condition fails, what it guards is blocked, not skipped."""

from penstock import pipeline, step, when


@step
def good(number: int) -> bool:
    raise ValueError(f"cannot judge {number}")


@step
def as_much_again(number: int) -> int:
    return number * 2


@pipeline
def guard_on_failure() -> None:
    with when(good(1)):
        as_much_again(1)
