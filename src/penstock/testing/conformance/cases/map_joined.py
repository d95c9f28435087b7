"""What follows a map gets the whole list; another map over it goes element by element."""

from penstock import pipeline, step


@step
def by_itself(number: int) -> int:
    return number * number


@step
def negate(number: int) -> int:
    return -number


@step
def total(numbers: list[int], more: list[int]) -> list[int]:
    return [sum(numbers), sum(more)]


@pipeline
def map_joined(numbers: list[int] = [1, 2, 3]) -> list[int]:
    squares = by_itself.map(number=numbers)
    return total(squares, negate.map(number=squares))
