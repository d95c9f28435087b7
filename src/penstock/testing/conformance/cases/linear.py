"""Steps that feed one another run in order, and each gets what the one before returned."""

from penstock import pipeline, step


@step
def first() -> list[int]:
    return [3, 1, 2]


@step
def second(rows: list[int]) -> list[int]:
    return sorted(rows)


@step
def third(rows: list[int]) -> int:
    return rows[-1]


@pipeline
def linear() -> int:
    return third(second(first()))
