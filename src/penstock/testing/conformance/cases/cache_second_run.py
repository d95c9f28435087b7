"""A second run of the same code on the same inputs takes everything from the first one."""

from penstock import pipeline, step


@step
def first_numbers(number: int) -> list[int]:
    return list(range(number))


@step
def squared(number: int) -> int:
    return number * number


@step
def sum_of_all(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def cache_second_run(number: int = 3) -> int:
    return sum_of_all(squared.map(number=first_numbers(number)))
