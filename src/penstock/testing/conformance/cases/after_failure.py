"""A step placed after one that failed is blocked, though it takes nothing from it."""

from penstock import pipeline, step


@step
def broken() -> int:
    raise ValueError("no luck")


@step
def late(number: int) -> int:
    return number * 2


@pipeline
def after_failure() -> int:
    return late.after(broken())(4)
