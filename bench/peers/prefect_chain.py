import sys

from prefect import flow, task


@task(persist_result=True)
def increment(before: int) -> int:
    return before + 1


@flow(persist_result=True)
def chain(steps: int) -> int:
    x = 0
    for _ in range(steps):
        x = increment(x)
    return x


print(chain(int(sys.argv[1])))
