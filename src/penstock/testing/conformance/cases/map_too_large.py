"""A map with more elements than its declared `max_size` never starts."""

from penstock import pipeline, step


@step
def list_up_to(number: int) -> list[int]:
    return list(range(number))


@step
def to_the_second(number: int) -> int:
    return number * number


@step
def sum_them(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def map_too_large(number: int = 3) -> int:
    return sum_them(to_the_second.map(number=list_up_to(number), max_size=2))
