"""Where a changed step returns what it returned before, nothing after it runs again."""

from penstock import pipeline, step


@step
def rounded(number: float) -> int:
    return round(number)


@step
def double(number: int) -> int:
    return number * 2


@pipeline
def cache_cut_off(number: float = 3.1) -> int:
    return double(rounded(number))
