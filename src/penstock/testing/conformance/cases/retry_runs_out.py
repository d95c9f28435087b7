"""Retries that run out: the step fails after as many attempts as its policy has, and what needs it is blocked."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=3, base="60ms", factor=1))
def hopeless(number: int) -> int:
    raise OSError(f"attempt {context().attempt} of {number}")


@step
def pair_of(number: int) -> int:
    return number * 2


@pipeline
def retry_runs_out() -> int:
    return pair_of(hopeless(4))
