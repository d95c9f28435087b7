"""What needs the output of a skipped step is skipped as well, and so on down the line."""

from penstock import pipeline, step, when


@step
def produce() -> int:
    return 1


@step
def one_more(number: int) -> int:
    return number + 1


@step
def other() -> int:
    return 5


@pipeline
def skip_spreads(go: bool = False) -> int:
    with when(go):
        made = produce()
    one_more(one_more(made))
    return other()
