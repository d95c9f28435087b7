import sys

from flytekit import task, workflow


@task
def increment(before: int) -> int:
    return before + 1


@workflow
def chain(start: int) -> int:
    x = start
    for _ in range(int(sys.argv[1])):
        x = increment(before=x)
    return x


print(chain(start=0))
