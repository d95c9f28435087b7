"""Several lists of one map are taken side by side, one item of each for an element."""

from penstock import pipeline, step


@step
def numbers_to(number: int) -> list[int]:
    return list(range(number))


@step
def add(a: int, b: int) -> int:
    return a + b


@pipeline
def map_side_by_side(tens: list[int] = [10, 20, 30]) -> list[int]:
    return add.map(a=numbers_to(3), b=tens)
