"""With fail_fast, nothing more is begun once a step has failed."""

import time

from penstock import pipeline, step


@step
def bound_to_fail() -> int:
    raise ValueError("no luck")


@step
def slow(seconds: float) -> int:
    time.sleep(seconds)
    return 1


@step
def later(number: int) -> int:
    return number + 1


@pipeline(fail_fast=True)
def fail_fast(seconds: float = 2.0) -> int:
    bound_to_fail()
    return later(slow(seconds))
