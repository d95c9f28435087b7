import sys

from zenml import pipeline, step


@step(enable_cache=False)
def increment(before: int) -> int:
    return before + 1


@pipeline(enable_cache=False)
def chain(steps: int) -> None:
    x = 0
    for _ in range(steps):
        x = increment(x)


chain(int(sys.argv[1]))
