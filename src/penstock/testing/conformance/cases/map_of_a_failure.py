"""A map over the list of a step that failed never opens."""

from penstock import pipeline, step


@step
def broken(number: int) -> list[int]:
    raise ValueError(f"no list of {number}")


@step
def squaring(number: int) -> int:
    return number * number


@step
def add_all(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def map_of_a_failure() -> int:
    return add_all(squaring.map(number=broken(3)))
