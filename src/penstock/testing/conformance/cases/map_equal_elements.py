"""Elements that compute the same come to the same, whether one computes for all or each for itself."""

from penstock import pipeline, step


@step
def area_of(number: int) -> int:
    return number * number


@step
def whole_sum(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def map_equal_elements(numbers: list[int] = [2, 2, 3, 2]) -> int:
    return whole_sum(area_of.map(number=numbers))
