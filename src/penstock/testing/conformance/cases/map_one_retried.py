"""An element that fails is tried again alone; the others are tried once."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=3, base="60ms"))
def flaky(number: int) -> int:
    if number == 1 and context().attempt < 3:
        raise OSError(f"attempt {context().attempt}")
    return number * 10


@step
def tally(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def map_one_retried(numbers: list[int] = [0, 1, 2]) -> int:
    return tally(flaky.map(number=numbers))
