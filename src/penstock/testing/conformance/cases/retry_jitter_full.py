"""Full jitter draws each delay from nothing up to what the policy says, by a seed that can be replayed."""

from penstock import Retry, context, pipeline, step


@step(retry=Retry(attempts=4, base="120ms", factor=2, jitter="full"))
def flaky(number: int) -> int:
    if context().attempt < 4:
        raise OSError(f"attempt {context().attempt}")
    return number


@pipeline
def retry_jitter_full() -> int:
    return flaky(4)
