"""A step that may act at most once is not tried again, whatever its policy says."""

from penstock import Retry, context, pipeline, step


@step(effect="at-most-once", retry=Retry(attempts=3, base="50ms"))
def send(text: str) -> str:
    with context().effect():
        raise OSError(f"attempt {context().attempt} sent {text}, and then the line went dead")


@pipeline
def effect_at_most_once(text: str = "an order") -> str:
    return send(text)
