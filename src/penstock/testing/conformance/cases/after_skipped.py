"""A step placed after a skipped one has waited long enough, and runs."""

from penstock import pipeline, step, when


@step
def make() -> int:
    return 1


@step
def afterwards(number: int) -> int:
    return number * 2


@pipeline
def after_skipped(go: bool = False) -> int:
    with when(go):
        made = make()
    return afterwards.after(made)(4)
