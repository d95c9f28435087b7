"""A long chain keeps its order to the last step."""

from penstock import Static, pipeline, step


@step
def append(rows: list[int], number: int) -> list[int]:
    return [*rows, number]


@pipeline
def deep_chain(depth: Static[int] = 6) -> list[int]:
    rows: list[int] = []
    for number in range(depth):
        rows = append(rows, number)
    return rows
