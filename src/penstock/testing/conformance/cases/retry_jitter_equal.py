"""Equal jitter waits at least half of what the policy says."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=3, base="200ms", factor=1, jitter="equal"))
def flaky(number: int) -> int:
    if context().attempt < 3:
        raise OSError(f"attempt {context().attempt}")
    return number


@pipeline
def retry_jitter_equal() -> int:
    return flaky(4)
