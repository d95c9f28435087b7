"""A step that takes more memory than its limit fails as out of memory; one that stays below it does not notice."""

from penstock import Limits, pipeline, step


@step(limits=Limits(memory="512Mi"))
def modest(megabytes: int) -> int:
    return len(bytes(megabytes << 20))


@step(limits=Limits(memory="512Mi"))
def greedy(megabytes: int) -> int:
    return len([bytes(b"x" * (1 << 20)) for _ in range(megabytes)])


@pipeline
def memory_limit() -> list[int]:
    return [modest(8), greedy(4000)]
