"""What one engine has computed is a hit on another one, through the stores that they share."""

from penstock import pipeline, step


@step
def up_to(number: int) -> list[int]:
    return list(range(number))


@step
def square(number: int) -> int:
    return number * number


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def cache_across_engines(number: int = 2) -> int:
    return total(square.map(number=up_to(number)))
