"""A static parameter is known while the pipeline is built, and shapes the graph."""

from penstock import Static, pipeline, step


@step
def increment(number: int) -> int:
    return number + 1


@pipeline
def static_parameter(length: Static[int] = 4, start: int = 10) -> int:
    number = start
    for _ in range(length):
        number = increment(number)
    return number
