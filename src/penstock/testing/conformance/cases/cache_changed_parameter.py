"""After a parameter has changed, what depends on it runs, and what does not is taken from the cache."""

from penstock import pipeline, step


@step
def load() -> list[int]:
    return [1, 2, 3]


@step
def scale(rows: list[int], by: int) -> list[int]:
    return [row * by for row in rows]


@step
def sum_of_rows(rows: list[int]) -> int:
    return sum(rows)


@pipeline
def cache_changed_parameter(by: int = 2) -> list[int]:
    rows = load()
    return [sum_of_rows(scale(rows, by)), sum_of_rows.named("untouched")(rows)]
