"""A map over a parameter runs one element per item, and its result keeps their order."""

from penstock import pipeline, step


@step
def square(number: int, plus: int) -> int:
    return number * number + plus


@pipeline
def map_parameter(numbers: list[int] = [3, 1, 2]) -> list[int]:
    return square.partial(plus=1).map(number=numbers)
