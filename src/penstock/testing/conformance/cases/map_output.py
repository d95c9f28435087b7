"""A map over what a step returned has as many elements as that list turns out to have."""

from penstock import pipeline, step


@step
def enumerate_to(number: int) -> list[int]:
    return list(range(number))


@step
def self_product(number: int) -> int:
    return number * number


@pipeline
def map_output(number: int = 4) -> list[int]:
    return self_product.map(number=enumerate_to(number))
