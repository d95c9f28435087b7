"""A join over branches of which some were skipped gets None for these, where it says `optional`."""

from penstock import optional, pipeline, step, when


@step
def chosen(word: str, wanted: str) -> bool:
    return word == wanted


@step
def branch(word: str) -> str:
    return word.upper()


@step
def join(a: str | None, b: str | None, c: str | None) -> list[str | None]:
    return [a, b, c]


@pipeline
def optional_join(wanted: str = "b") -> list[str | None]:
    with when(chosen.named("is_a")("a", wanted)):
        a = branch.named("branch_a")("a")
    with when(chosen.named("is_b")("b", wanted)):
        b = branch.named("branch_b")("b")
    with when(chosen.named("is_c")("c", wanted)):
        c = branch.named("branch_c")("c")
    return join(optional(a), optional(b), optional(c))
