"""A user's pipelines: every value has its real type, and a strict type checker has nothing to say."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple, assert_type

from penstock import (
    AsyncStep,
    Context,
    Cron,
    Deployment,
    FailureClass,
    Grow,
    Limits,
    ModelVersion,
    Notification,
    OnData,
    Pipeline,
    Quarantine,
    Resources,
    Retry,
    Secret,
    Static,
    Step,
    Verdict,
    context,
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


@dataclass
class Scores:
    auc: float
    name: str


class Model: ...


@step
def extract() -> list[int]:
    return [1, 2, 3]


@step(
    retry=Retry(5, base="2s", factor=2, cap="5m", jitter="full", on=(OSError, "timeout")),
    timeout=timedelta(minutes=10),
    resources=Resources(cpu=4, memory="8Gi", gpu=1),
    limits=Limits(memory="8Gi", on_out_of_memory=Grow(factor=1.5, cap="32Gi")),
    isolation="process",
    on_invalid=Quarantine(max_fraction=0.1),
)
def train(data: list[int], depth: int = 3) -> Model:
    ctx = context()
    assert_type(ctx, Context)
    assert_type(ctx.attempt, int)
    return Model()


@step
def split(rows: list[int]) -> Split:
    return Split(rows, ["a"])


@step
def score(model: Model, rows: list[str] | None = None) -> Scores:
    return Scores(1.0, "auc")


@step(timeout="30s")
async def fetch(url: str, token: str) -> bytes:
    return b""


@step
def size(content: bytes) -> int:
    return len(content)


@step
def pick(models: list[Model]) -> Model:
    return models[0]


@step
def tell(who: str | None) -> None: ...


assert_type(train([1], depth=2), Model)
assert_type(extract.fn(), list[int])
plain: Step[[bytes], int] = size
waiting: AsyncStep[[str, str], bytes] = fetch


@pipeline
def trained(rows: list[int], depths: list[int]) -> Model:
    models = train.partial(rows).map(depth=depths)
    assert_type(models, list[Model])
    return pick(models)


@pipeline(schedule=Cron("0 3 * * *", tz="Europe/Paris"), tags={"team": "growth"}, fail_fast=True)
def churn(depths: list[int] = [4, 6], times: Static[int] = 2, token: str = Secret("TOKEN")) -> Model:
    rows = extract()
    assert_type(rows, list[int])
    parts = split(rows)
    assert_type(parts.test, list[str])
    first, second = parts
    assert_type(first, list[int])
    assert_type(second, list[str])
    model = trained(first, depths)
    assert_type(model, Model)
    assert_type(trained.map(rows=[[1]]), list[Model])
    found = score.named("final").after(rows)(model, parts.test)
    assert_type(found.auc, float)
    for number in range(times):
        content = fetch(f"https://example.org/{number}", token)
        assert_type(content, bytes)
        assert_type(size(content), int)
    assert_type(fetch.map(url=["a"]), list[bytes])
    verdict = gate(model, on=parts.test, metrics=["auc"], minimum={"auc": 0.8}, not_worse_than="churn@champion")
    assert_type(verdict, Verdict)
    with when(verdict.passed):
        version = register("churn", model, evidence=verdict)
        assert_type(version, ModelVersion)
        assert_type(deploy(version, alias="champion"), Deployment)
    with when(found.name, is_="auc"):
        name = found.name
    tell(optional(name))
    assert_type(optional(name), str | None)
    return model


whole: Pipeline[..., Model] = churn
run = churn.run(depths=[1], times=3)
again = churn.using(workers=4, cache=False).run([1])
identifier: str = run.id


@step(effect="exactly-once", retry=Retry(3, on=(FailureClass.NETWORK, "preempted", OSError), not_on="timeout"))
def post(url: str) -> str:
    with context().effect() as effect:
        effect.check()
        return effect.key


@step(retry=Retry(on=FailureClass.OUT_OF_MEMORY, even_if_same=True))
def once() -> int | None:
    return context().limits.memory_bytes


@pipeline
def told() -> None:
    assert_type(notify("done", to="log:", fields={"auc": 0.9}), Notification)


@step(max_parallel=4, pool="gpu", updates="s3://raw/orders")
def one_by_one(number: int) -> int:
    return number


@step(updates=["s3://raw/orders", "s3://raw/prices"])
async def written() -> int:
    return 1


@pipeline(schedule=OnData("s3://raw/orders", "s3://raw/prices"), max_active_runs=1)
def on_data() -> list[int]:
    return one_by_one.with_options(pool=None).map(number=[written()])


@pipeline(schedule=Cron("0 3 * * *", catch_up=True, start=date(2026, 1, 1)))
def nightly() -> int:
    return one_by_one(1)
