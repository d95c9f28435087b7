"""A step that acts exactly once has the same key in every attempt, so that the receiver knows a repeat."""

from penstock import Retry, context, pipeline, step


@step(effect="exactly-once", retry=Retry(attempts=3, base="50ms", on=OSError))
def order(what: str) -> list[object]:
    receiver = context().checkpoint_dir / "orders.txt"
    with context().effect() as effect:
        known = receiver.read_text().split() if receiver.exists() else []
        if effect.key not in known:
            receiver.write_text(" ".join([*known, effect.key]))
    if context().attempt < 3:
        raise OSError("the order was placed, and then the line went dead")
    return [what, len(receiver.read_text().split())]


@pipeline
def effect_exactly_once(what: str = "coffee") -> list[object]:
    return order(what)
