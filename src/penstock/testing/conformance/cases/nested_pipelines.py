"""A pipeline that is called inside another one brings its steps along, under its own name."""

from penstock import pipeline, step


@step
def clean(rows: list[int]) -> list[int]:
    return [row for row in rows if row >= 0]


@step
def total(rows: list[int]) -> int:
    return sum(rows)


@step
def scale(number: int, by: int) -> int:
    return number * by


@pipeline
def cleaned_total(rows: list[int]) -> int:
    return total(clean(rows))


@pipeline
def scaled(rows: list[int], by: int) -> int:
    return scale(cleaned_total(rows), by)


@pipeline
def nested_pipelines(rows: list[int] = [3, -1, 4]) -> list[int]:
    return [scaled(rows, 10), cleaned_total(rows)]
