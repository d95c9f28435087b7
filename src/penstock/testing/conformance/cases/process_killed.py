"""A step whose process is killed has failed, and is tried again where its policy says so."""

import os
import signal

from penstock import Retry, context, pipeline, step


@step(isolation="process", retry=Retry(attempts=2, base="100ms", on="killed"))
def mortal(number: int) -> int:
    if context().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pipeline
def process_killed() -> int:
    return mortal(3)
