"""Many steps side by side are joined in the order in which they were written, not in which they ended."""

import time

from penstock import Static, pipeline, step


@step
def wait(number: int, of: int) -> int:
    time.sleep((of - number) % 3 / 100)
    return number


@step
def join(numbers: list[int]) -> list[int]:
    return numbers


@pipeline
def wide_fan(width: Static[int] = 5) -> list[int]:
    return join([wait(number, width) for number in range(width)])
