"""A map over lists of different lengths never starts: its steps and what needs them are blocked, the rest finishes."""

from penstock import pipeline, step


@step
def as_many_as(number: int) -> list[int]:
    return list(range(number))


@step
def add_both(a: int, b: int) -> int:
    return a + b


@step
def reckon(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def map_uneven(tens: list[int] = [10, 20, 30]) -> list[int]:
    return [reckon(add_both.map(a=as_many_as(2), b=tens)), reckon.named("others")(tens)]
