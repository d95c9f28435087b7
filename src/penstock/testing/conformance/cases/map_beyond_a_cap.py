"""A map may have more elements than an engine takes at once (1,024 in Airflow, unless it is told otherwise)."""

from penstock import pipeline, step


@step
def counted(number: int) -> list[int]:
    return list(range(number))


@step
def times_itself(number: int) -> int:
    return number * number


@step
def overall(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def map_beyond_a_cap(number: int = 6) -> int:
    return overall(times_itself.map(number=counted(number)))
