"""A timeout is a failure like any other: the policy may try again, and the next attempt may be quicker."""

import time

from penstock import Retry, context, pipeline, step


@step(timeout="700ms", retry=Retry(attempts=2, base="100ms", on="timeout"))
def slow_once(number: int) -> int:
    if context().attempt == 1:
        time.sleep(600)
    return number


@pipeline
def timeout_retry() -> int:
    return slow_once(5)
