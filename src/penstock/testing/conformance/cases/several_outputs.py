"""Each field of a NamedTuple is an artifact of its own, and a consumer depends on the one that it takes."""

from typing import NamedTuple

from penstock import pipeline, step


class Split(NamedTuple):
    train: list[int]
    test: list[int]


@step
def split(rows: list[int], at: int) -> Split:
    return Split(rows[:at], rows[at:])


@step
def fit(rows: list[int]) -> int:
    return sum(rows)


@step
def score(model: int, rows: list[int]) -> int:
    return model - len(rows)


@pipeline
def several_outputs(rows: list[int] = [1, 2, 3, 4], at: int = 3) -> int:
    train, test = split(rows, at)
    return score(fit(train), test)
