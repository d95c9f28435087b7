"""A step placed after another one waits for it, without taking anything from it."""

import time

from penstock import pipeline, step


@step
def slow(word: str) -> str:
    time.sleep(0.2)
    return word


@step
def last_in_line(number: int) -> int:
    return number * 2


@pipeline
def after_order() -> int:
    return last_in_line.after(slow("waited for"))(3)
