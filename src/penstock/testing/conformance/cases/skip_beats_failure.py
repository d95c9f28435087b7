"""A step that needs a skipped one and a failed one is skipped: it would not have run in any case."""

from penstock import pipeline, step, when


@step
def make_one() -> int:
    return 1


@step
def never_works() -> int:
    raise ValueError("no luck")


@step
def plus(a: int, b: int) -> int:
    return a + b


@pipeline
def skip_beats_failure(go: bool = False) -> None:
    with when(go):
        made = make_one()
    plus(made, never_works())
