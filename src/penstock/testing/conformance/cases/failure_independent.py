"""When a step fails, what needs it is blocked, and branches that do not need it finish."""

from penstock import pipeline, step


@step
def broken(number: int) -> int:
    raise ValueError(f"no {number}")


@step
def add_one(number: int) -> int:
    return number + 1


@step
def twofold(number: int) -> int:
    return number * 2


@pipeline
def failure_independent() -> list[int]:
    lost = add_one.named("blocked")(add_one.named("blocked_first")(broken(1)))
    found = twofold(twofold(twofold(3)))
    return [lost, found]
