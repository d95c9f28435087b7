"""What a step does to a value that it was given is its own affair: nobody else sees it."""

from penstock import pipeline, step


@step
def make() -> list[int]:
    return [1, 2]


@step
def spoil(rows: list[int]) -> int:
    rows.append(3)
    return len(rows)


@step
def look(rows: list[int], after: int) -> list[int]:
    return [len(rows), after]


@pipeline
def private_values() -> list[int]:
    rows = make()
    return look(rows, spoil(rows))
