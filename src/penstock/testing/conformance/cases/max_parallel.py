"""A step that may run once at a time does so, however many elements its map has."""

import time

from penstock import pipeline, step


@step(max_parallel=1)
def one_at_a_time(number: int) -> int:
    time.sleep(0.05)
    return number * 10


@step
def sum_in_order(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def max_parallel(numbers: list[int] = [1, 2, 3]) -> int:
    return sum_in_order(one_at_a_time.map(number=numbers))
