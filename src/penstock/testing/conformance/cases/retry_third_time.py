"""A step that fails twice and is to be tried three times succeeds, and the run with it."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=3, base="80ms", factor=2))
def unsteady(number: int) -> int:
    if context().attempt < 3:
        raise OSError(f"attempt {context().attempt}")
    return number


@step
def double_up(number: int) -> int:
    return number * 2


@pipeline
def retry_third_time() -> int:
    return double_up(unsteady(4))
