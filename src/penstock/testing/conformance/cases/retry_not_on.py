"""What `not_on` names is never retried, although everything else is."""

from penstock import Retry, context, pipeline, step


class Refused(Exception):
    """The other side has said no."""


@step(retry=Retry(attempts=3, base="60ms", not_on=Refused))
def ask(number: int) -> int:
    if context().attempt == 1:
        raise OSError("not there yet")
    raise Refused(f"no {number}")


@pipeline
def retry_not_on() -> int:
    return ask(2)
