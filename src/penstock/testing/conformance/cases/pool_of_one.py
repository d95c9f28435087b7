"""Steps that share a pool with one place never run at the same time, though nothing else orders them."""

import time

from penstock import pipeline, step


@step(pool="narrow")
def passes_left(number: int) -> int:
    time.sleep(0.05)
    return number + 1


@step(pool="narrow")
def passes_right(number: int) -> int:
    time.sleep(0.05)
    return number + 2


@step
def meet(a: int, b: int) -> list[int]:
    return [a, b]


@pipeline
def pool_of_one(number: int = 1) -> list[int]:
    return meet(passes_left(number), passes_right(number))
