"""What the local engine has computed is a hit on every other one."""

from penstock import pipeline, step


@step
def count_to(number: int) -> list[int]:
    return list(range(number))


@step
def cube(number: int) -> int:
    return number**3


@step
def sum_up(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def cache_from_elsewhere(number: int = 2) -> int:
    return sum_up(cube.map(number=count_to(number)))
