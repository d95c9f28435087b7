"""Each element of a map may also take a value from outside, the same for all."""

from penstock import pipeline, step


@step
def offset(number: int) -> int:
    return number * 100


@step
def shift(number: int, by: int, sign: int) -> int:
    return sign * (number + by)


@pipeline
def map_outer_value(numbers: list[int] = [1, 2], sign: int = -1) -> list[int]:
    return shift.partial(by=offset(3), sign=sign).map(number=numbers)
