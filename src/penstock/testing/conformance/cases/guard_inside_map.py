"""Inside a map each element has its own condition: some elements skip a step, others run it."""

from penstock import optional, pipeline, step, when


@step
def is_odd(number: int) -> bool:
    return number % 2 == 1


@step
def two_of(number: int) -> int:
    return number * 2


@step
def told(number: int, doubled: int | None) -> str:
    return f"{number} {doubled}"


@pipeline
def of_one(number: int) -> str:
    with when(is_odd(number)):
        doubled = two_of(number)
    return told(number, optional(doubled))


@pipeline
def guard_inside_map(numbers: list[int] = [1, 2, 3]) -> list[str]:
    return of_one.map(number=numbers)
