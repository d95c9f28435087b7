"""Two branches of one value meet again, each with its own result."""

from penstock import pipeline, step


@step
def source(number: int) -> int:
    return number + 1


@step
def left(number: int) -> int:
    return number * 2


@step
def right(number: int) -> int:
    return number * 3


@step
def join(a: int, b: int) -> list[int]:
    return [a, b]


@pipeline
def diamond(number: int = 4) -> list[int]:
    made = source(number)
    return join(left(made), right(made))
