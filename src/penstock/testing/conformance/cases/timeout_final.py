"""A step that runs out of time and is not retried is timed out, and what needs it is blocked."""

import time

from penstock import pipeline, step


@step(timeout="600ms")
def slow(number: int) -> int:
    time.sleep(600)
    return number


@step
def doubled_slowly(number: int) -> int:
    return number * 2


@pipeline
def timeout_final() -> int:
    return doubled_slowly(slow(5))
