"""A map over an empty list succeeds with an empty list, and what follows it runs."""

from penstock import pipeline, step


@step
def none_of(number: int) -> list[int]:
    return [number] * 0


@step
def quadratic(number: int) -> int:
    return number * number


@step
def total(numbers: list[int]) -> str:
    return f"{len(numbers)} numbers, {sum(numbers)} in all"


@pipeline
def map_empty(numbers: list[int] = []) -> list[str]:
    over_output = quadratic.map(number=none_of(3))
    over_parameter = quadratic.named("from_parameter").map(number=numbers)
    return [total(over_output), total.named("total_of_parameter")(over_parameter)]
