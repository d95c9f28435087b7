"""Conditions nest: all of them must hold, and the inner one is not looked at where the outer one does not."""

from penstock import optional, pipeline, step, when


@step
def above(number: int, least: int) -> bool:
    return number > least


@step
def mark(number: int, word: str) -> str:
    return f"{word} {number}"


@step
def told(outer: str | None, inner: str | None) -> str:
    return f"{outer}, {inner}"


@pipeline
def of_one(number: int) -> str:
    with when(above(number, 1)):
        outer = mark.named("outer")(number, "more than one")
        with when(above.named("above_two")(number, 2)):
            inner = mark.named("inner")(number, "more than two")
    return told(optional(outer), optional(inner))


@pipeline
def guards_nested() -> list[str]:
    return [of_one(1), of_one(2), of_one(3)]
