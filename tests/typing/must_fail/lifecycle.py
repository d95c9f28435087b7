"""What a type checker must refuse; behind each mistake, a part of what mypy and of what pyright says of it."""

from typing import NamedTuple

from penstock import (
    Cron,
    Grow,
    Limits,
    OnData,
    Retry,
    Static,
    deploy,
    gate,
    notify,
    optional,
    pipeline,
    register,
    step,
    when,
)


class Split(NamedTuple):
    train: list[int]
    test: list[str]


@step
def extract() -> list[int]:
    return [1]


@step
def train(data: list[int], depth: int = 3) -> float:
    return 1.0


@step
def split(rows: list[int]) -> Split:
    return Split(rows, ["a"])


@step
async def fetch(url: str) -> bytes:
    return b""


@step
def label(text: str) -> str:
    return text


@step(retry="3")  # expect: call-overload | reportArgumentType
def wrong_retry() -> int:
    return 1


@step(timout="3s")  # expect: call-overload | reportCallIssue
def wrong_option() -> int:
    return 1


@pipeline
def nested(rows: list[int]) -> float:
    return train(rows)


@pipeline
def churn(times: Static[int], url: str = "u") -> int:
    rows = extract()
    train(label("a"))  # expect: arg-type | reportArgumentType
    train(rows, "3")  # expect: arg-type | reportArgumentType
    train(rows, dept=3)  # expect: call-arg | reportCallIssue
    train()  # expect: call-arg | reportCallIssue
    train(fetch(url))  # expect: arg-type | reportArgumentType
    train(split(rows).test)  # expect: arg-type | reportArgumentType
    split(rows).trian  # expect: attr-defined | reportAttributeAccessIssue
    label(optional(label("a")))  # expect: arg-type | reportArgumentType
    label(times)  # expect: arg-type | reportArgumentType
    nested("a")  # expect: arg-type | reportArgumentType
    train(nested.map(rows=[rows]))  # expect: arg-type | reportArgumentType
    label(train.map(data=[rows]))  # expect: arg-type | reportArgumentType
    verdict = gate(rows, metrics="auc")  # expect: call- | reportCallIssue
    verdict = gate(rows, on=rows, minimum=["auc"])  # expect: arg-type | reportArgumentType
    register(3, rows)  # expect: arg-type | reportArgumentType
    deploy(verdict, alias="champion")  # expect: arg-type | reportArgumentType
    notify("done", to=3)  # expect: arg-type | reportArgumentType
    with when(verdict.pased):  # expect: attr-defined | reportAttributeAccessIssue
        pass
    return label("a")  # expect: return-value | reportReturnType


Retry(jitter="some")  # expect: arg-type | reportArgumentType
Retry(on=("netwrok",))  # expect: arg-type | reportArgumentType
Limits(memory="2Gi", on_out_of_memory=2.0)  # expect: arg-type | reportArgumentType
Grow(cap=1.5)  # expect: arg-type | reportArgumentType
Limits(memory=1.5)  # expect: arg-type | reportArgumentType
Cron("0 3 * * *", timezone="UTC")  # expect: call-arg | reportCallIssue
Cron("0 3 * * *", catch_up="yes")  # expect: arg-type | reportArgumentType
OnData(3)  # expect: arg-type | reportArgumentType
step(max_parallel="4")  # expect: call-overload | reportArgumentType
pipeline(schedule="0 3 * * *")  # expect: call-overload | reportArgumentType
pipeline(max_active_runs="1")  # expect: call-overload | reportArgumentType
churn.run(times="a")  # expect: arg-type | reportArgumentType
churn.run()  # expect: call-arg | reportCallIssue
