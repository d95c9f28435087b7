"""A result that cannot be stored fails the step at once: another attempt would meet the same wall."""

import threading

from penstock import Retry, pipeline, step


@step(retry=Retry(attempts=3, base="50ms"))
def unstorable() -> object:
    return threading.Lock()


@step
def other() -> int:
    return 1


@pipeline
def unstorable_result() -> list[object]:
    return [unstorable(), other()]
