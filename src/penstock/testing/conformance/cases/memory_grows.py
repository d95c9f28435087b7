"""After an attempt that ran out of memory the next one may use more, up to the cap."""

from penstock import Grow, Limits, Retry, context, pipeline, step


@step(
    limits=Limits(memory="256Mi", on_out_of_memory=Grow(factor=3, cap="1Gi")),
    retry=Retry(attempts=3, base="50ms", on="out_of_memory"),
)
def hungry(megabytes: int) -> list[int]:
    limit = context().limits.memory_bytes or 0
    if limit < megabytes << 20:
        raise MemoryError(f"{limit} bytes are not enough")
    return [limit >> 20, megabytes]


@pipeline
def memory_grows(megabytes: int = 900) -> list[int]:
    return hungry(megabytes)
