"""A step that reads a variable without declaring it keeps nothing for others, unless it says that this is no matter."""

import os

from penstock import pipeline, step


@step
def peeks(number: int) -> int:
    return number + len(os.environ.get("PENSTOCK_CASE_NOWHERE", ""))


@step(cache_despite="environment")
def does_not_mind(number: int) -> int:
    return number * len(os.environ.get("PENSTOCK_CASE_NOWHERE", "x"))


@pipeline
def hidden_input(number: int = 3) -> list[int]:
    return [peeks(number), does_not_mind(number)]
