"""A pipeline that is started with nothing runs with the defaults of its signature."""

from penstock import pipeline, step


@step
def repeat(word: str, times: int) -> str:
    return word * times


@pipeline
def parameter_defaults(word: str = "ab", times: int = 2) -> str:
    return repeat(word, times)
