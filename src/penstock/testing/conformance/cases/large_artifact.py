"""A value of many megabytes travels through the artifact store, and only its digest through the engine."""

from penstock import pipeline, step


@step
def make(megabytes: int) -> bytes:
    return bytes(range(256)) * (4096 * megabytes)


@step
def measure(content: bytes) -> list[int]:
    return [len(content), content[255], sum(content[:1000])]


@pipeline
def large_artifact(megabytes: int = 20) -> list[int]:
    return measure(make(megabytes))
