"""Demands: nothing that a pipeline can ask for is without a row, and no backend is silent on any."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from penstock.backends import local
from penstock.graph import (
    Cron,
    Graph,
    Growth,
    Guard,
    Item,
    LimitPolicy,
    Node,
    Output,
    Param,
    Parameter,
    Quarantine,
    ResourceRequest,
    RetryPolicy,
    Scope,
    Secret,
    StepOptions,
    Value,
)
from penstock.graph.demands import FORMS, Demand, demands, features
from penstock.ports.backend import Row, Support, check, emulated, refused, supported

EVERYTHING = StepOptions(
    retry=RetryPolicy(attempts=3, jitter="full", on=("builtins:OSError",), not_on=("timeout",), even_if_same=True),
    timeout_s=60,
    isolation="process",
    resources=ResourceRequest(cpu=2, memory_bytes=1, gpu=1),
    limits=LimitPolicy(memory_bytes=5, on_out_of_memory=Growth(3.0, 50)),
    cache=False,
    env=("HOME",),
    effect="exactly-once",
    quarantine=Quarantine(0.5, 3),
    reads=("a.csv",),
    cache_despite=("network",),
    max_parallel=2,
    pool="gpu",
    updates=("s3://a",),
)
GRAPH = Graph(
    "shop",
    "shop.py:shop",
    (
        Node("a", "f.py:a", options=EVERYTHING, outputs=("x", "y"), several=True),
        Node("part/b", "f.py:b", inputs={"x": Item("m", "x"), "token": Secret("T")}, scope="m"),
        Node("c", "f.py:c", inputs={"x": Item("n", "x")}, scope="n", guards=(Guard(Item("n", "x")),)),
        Node("d", "f.py:d", inputs={"x": Output("e", optional=True)}, after=("a",), payload="…"),
        Node("e", "f.py:e", guards=(Guard(Output("a", "x")),)),
    ),
    (
        Scope("m", {"x": Output("a", "x"), "y": Value("[1]")}, max_size=5),
        Scope("n", {"x": Param("days")}, parent="m"),
    ),
    (Parameter("days", "list[int]"), Parameter("k", "int", "1", static=True), Parameter("s", "str", secret=True)),
    result=Output("d"),
    tags={"team": "growth"},
    schedule=Cron("0 3 * * *", "Europe/Paris", catch_up=True, start="2026-01-01"),
    on_data=("s3://b",),
    max_active_runs=1,
    fail_fast=True,
)


def options_of(record: type[msgspec.Struct]) -> set[str]:
    """Names of all fields of an option record, and of the records inside it."""
    found: set[str] = set()
    for field in msgspec.structs.fields(record):
        inner = [each for each in (field.type, *get_args(field.type)) if isinstance(each, type)]
        records = [each for each in inner if issubclass(each, msgspec.Struct)]
        found |= {f"{record.__name__}.{field.name}"} if not records else set()
        for each in records:
            found |= options_of(each)
    return found


def test_every_field_of_every_option_record_is_a_feature() -> None:
    told = "\n".join(features().values())
    missing = [name for name in options_of(StepOptions) | options_of(Cron) if name not in told]
    assert not missing


def test_a_pipeline_that_uses_everything_asks_for_every_feature_once_or_more() -> None:
    asked = {demand.feature for demand in demands(GRAPH)}
    assert asked == features().keys()


def test_a_plain_pipeline_asks_for_little() -> None:
    assert [demand.feature for demand in demands(Graph("p", "f.py:p", (Node("a", "f.py:a"),)))] == ["steps"]


def test_an_option_that_nobody_has_heard_of_is_a_feature_of_its_own_and_refused(monkeypatch: Any) -> None:
    class Cron2(Cron, frozen=True):
        leap_seconds: bool = False

    graph = msgspec.structs.replace(GRAPH, schedule=Cron2("0 3 * * *", leap_seconds=True))
    asked = demands(graph)
    assert "schedule.leap_seconds" in {demand.feature for demand in asked}
    found = check("local", local.declarations(), graph, asked, ())
    assert [row.demand.feature for row in found.refused] == ["schedule.leap_seconds"]


def test_a_field_of_a_step_that_nobody_has_heard_of_is_one_too() -> None:
    kind: Any = type("Node", (Node,), {"__annotations__": {"priority": int}, "priority": 0}, frozen=True)
    graph = Graph("p", "f.py:p", (kind("a", "f.py:a", priority=9),))
    assert [(each.feature, each.value) for each in demands(graph)] == [("steps", "1"), ("priority", "9")]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (StepOptions(limits=LimitPolicy(memory_bytes=1, on_out_of_memory=Growth())),
         ["limits.memory", "limits.on_out_of_memory.factor"]),
        (StepOptions(quarantine=Quarantine()), ["on_invalid.max_fraction"]),
        (StepOptions(retry=RetryPolicy(attempts=1)), []),
        (StepOptions(retry=RetryPolicy(attempts=2)), ["retry.attempts", "retry.base", "retry.factor", "retry.cap"]),
        (StepOptions(resources=ResourceRequest()), []),
        (StepOptions(limits=LimitPolicy()), []),
    ],
)  # fmt: skip
def test_options_at_their_defaults_ask_for_what_every_backend_has_heard_of(
    options: StepOptions, asked: list[str]
) -> None:
    found = [each.feature for each in demands(Graph("p", "f.py:p", (Node("a", "f.py:a", options=options),)))]
    assert found == ["steps", *asked]
    assert set(found) <= features().keys()


def test_the_local_engine_declares_every_feature() -> None:
    assert local.declarations().keys() == features().keys()


@pytest.mark.parametrize("accepted", ["a.pool", "pool"])
def test_what_is_refused_can_be_accepted_by_name_and_nothing_else_can(accepted: str) -> None:
    declared = {**local.declarations(), "pool": refused("no"), "map": refused("no")}
    found = check("x", declared, GRAPH, demands(GRAPH), [accepted])
    assert [row.demand.name for row in found.refused] == ["m.map", "n.map"]
    assert found.waived == ["a.pool"]


def test_a_verdict_may_depend_on_the_value() -> None:
    def jitter(demand: Demand) -> Any:
        return emulated("waits") if demand.value == "full" else supported()

    found = check("x", {"retry.jitter": jitter}, GRAPH, [d for d in demands(GRAPH) if d.feature == "retry.jitter"], ())
    assert found.rows == (Row(found.rows[0].demand, emulated("waits")),)
    assert found.rows[0].verdict.support is Support.EMULATED


def test_every_form_has_words() -> None:
    assert all(text and not text.endswith(".") for text in FORMS.values())
