"""A parameter may be the condition."""

from penstock import optional, pipeline, step, when


@step
def extra() -> int:
    return 1


@step
def told(number: int | None) -> str:
    return f"got {number}"


@pipeline
def guard_on_parameter(go: bool = False) -> str:
    with when(go):
        more = extra()
    return told(optional(more))
