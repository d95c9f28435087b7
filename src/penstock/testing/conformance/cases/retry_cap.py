"""Delays grow by the factor up to the cap, and no further."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=5, base="50ms", factor=3, cap="200ms"))
def flaky(number: int) -> int:
    if context().attempt < 5:
        raise OSError(f"attempt {context().attempt}")
    return number


@pipeline
def retry_cap() -> int:
    return flaky(4)
