"""A step that is not to be cached runs every time; what follows it still hits if the result is the same."""

from penstock import pipeline, step


@step(cache=False)
def look(number: int) -> int:
    return number + 1


@step
def two_times(number: int) -> int:
    return number * 2


@pipeline
def cache_uncached_step(number: int = 1) -> int:
    return two_times(look(number))
