"""A policy that retries one class of exception leaves others alone: one attempt, however many it allows."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=3, base="60ms", on=OSError))
def wrong(number: int) -> int:
    raise ValueError(f"attempt {context().attempt} of {number}")


@step(retry=Retry(attempts=3, base="60ms", on=OSError))
def unlucky(number: int) -> int:
    if context().attempt < 2:
        raise ConnectionError("a kind of OSError")
    return number


@pipeline
def retry_other_class() -> list[int]:
    return [unlucky(1), wrong(2)]
