"""A pipeline of hundreds of steps is a pipeline like any other."""

from penstock import Static, pipeline, step


@step
def count(number: int, before: int) -> int:
    return number + before


@step
def altogether(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def many_steps(chains: Static[int] = 3, length: Static[int] = 3) -> int:
    ends = []
    for chain in range(chains):
        number = count(chain, 0)
        for at in range(1, length):
            number = count(at, number)
        ends.append(number)
    return altogether(ends)
