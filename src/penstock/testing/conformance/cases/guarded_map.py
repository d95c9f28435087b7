"""A map under a condition that does not hold never opens, and is skipped as a whole."""

from penstock import optional, pipeline, step, when


@step
def numbers_below(number: int) -> list[int]:
    return list(range(number))


@step
def second_power(number: int) -> int:
    return number * number


@step
def in_all(numbers: list[int]) -> int:
    return sum(numbers)


@step
def told_maybe(number: int | None) -> str:
    return f"got {number}"


@pipeline
def guarded_map(go: bool = False) -> str:
    with when(go):
        found = in_all(second_power.map(number=numbers_below(3)))
    return told_maybe(optional(found))
