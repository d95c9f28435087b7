"""What Kubeflow says of each feature, on a cluster and under kfp.local."""

from __future__ import annotations

import pytest

from penstock.backends.kubeflow import KubeflowBackend
from penstock.graph import (
    Cron,
    Graph,
    Guard,
    Item,
    Node,
    Output,
    Param,
    Parameter,
    RetryPolicy,
    Scope,
    StepOptions,
    Value,
)
from penstock.graph.demands import demands, features
from penstock.ports.backend import Report, Support, check

from .plans import graph, plan


def report(of: Graph, **more: str) -> Report:
    return check("kubeflow", KubeflowBackend().declarations(plan(of, **more)), of, demands(of), ())


def verdicts(of: Graph, **more: str) -> dict[str, Support]:
    return {row.demand.name: row.verdict.support for row in report(of, **more).rows}


@pytest.mark.parametrize("endpoint", ["https://kubeflow.example", "local"])
def test_every_feature_is_answered(endpoint: str) -> None:
    found = KubeflowBackend().declarations(plan(graph(Node("a", "c.py:a")), endpoint=endpoint))
    assert set(found) == set(features())


def test_refusals_and_emulations_say_how() -> None:
    of = graph(
        Node("a", "c.py:a", options=StepOptions(pool="db", timeout_s=5, retry=RetryPolicy(attempts=3, jitter="full"))),
        on_data=("s3://x",),
        max_active_runs=2,
    )
    found = {row.demand.name: row.verdict for row in report(of).rows}
    assert found["a.pool"].support is Support.EMULATED
    assert found["on_data"].support is Support.REFUSED
    assert found["max_active_runs"].support is Support.REFUSED  # without a schedule there is nothing that counts
    assert found["a.timeout"].support is Support.EMULATED
    assert found["a.retry.jitter"].support is Support.EMULATED
    assert found["a.retry.attempts"].support is Support.SUPPORTED
    assert all(each.how for each in found.values() if each.support is not Support.SUPPORTED)


@pytest.mark.parametrize(
    ("tz", "support"), [("UTC", Support.SUPPORTED), ("Europe/Paris", Support.REFUSED), ("Etc/GMT", Support.SUPPORTED)]
)
def test_its_cron_counts_in_utc_only(tz: str, support: Support) -> None:
    of = graph(Node("a", "c.py:a"), schedule=Cron("0 3 * * *", tz=tz))
    assert verdicts(of).get("schedule.tz", Support.SUPPORTED) is support


def test_runs_at_once_are_the_recurring_run_s() -> None:
    of = graph(Node("a", "c.py:a"), schedule=Cron("0 3 * * *"), max_active_runs=3)
    assert verdicts(of)["max_active_runs"] is Support.SUPPORTED
    many = graph(Node("a", "c.py:a"), schedule=Cron("0 3 * * *"), max_active_runs=11)
    assert verdicts(many)["max_active_runs"] is Support.REFUSED


def test_a_schedule_without_a_limit_says_what_kubeflow_s_own_is() -> None:
    of = graph(Node("a", "c.py:a"), schedule=Cron("0 3 * * *"))
    row = next(each for each in report(of).rows if each.demand.name == "schedule.expression")
    assert "at most 10 of its runs at once" in row.verdict.how
    assert "max_active_runs" not in verdicts(of)


def test_under_kfp_local_nobody_keeps_time_and_nothing_is_reserved() -> None:
    of = graph(Node("a", "c.py:a"), Node("b", "c.py:b"), schedule=Cron("0 3 * * *", tz="Europe/Paris"))
    found = verdicts(of, endpoint="local")
    assert {found[name] for name in ("schedule.expression", "schedule.tz", "steps in parallel")} == {Support.EMULATED}


def test_a_condition_is_kubeflow_s_or_the_launcher_s_step_by_step() -> None:
    guard = (Guard(Output("gate")),)
    of = graph(
        Node("gate", "c.py:gate"),
        Node("register", "c.py:register", guards=guard),
        Node("fit", "c.py:fit", guards=(Guard(Output("gate"), "false"),)),
        Node("report", "c.py:report", {"m": Output("fit", optional=True)}),
    )
    found = verdicts(of)
    assert found["register.guard"] is Support.SUPPORTED
    assert found["fit.guard"] is Support.EMULATED


def test_what_waits_for_a_map_that_waits_for_it_is_refused_by_name() -> None:
    of = graph(
        Node("a", "c.py:a", {"x": Item("each", "x")}, scope="each"),
        Node("all", "c.py:all", {"xs": Output("a")}),
        Node("b", "c.py:b", {"y": Output("all")}, scope="each"),
        scopes=(Scope("each", {"x": Param("p")}),),
        parameters=(Parameter("p", "list[int]", "[1]"),),
    )
    (refused,) = report(of).refused
    assert refused.demand.name == "each.map"
    assert "each-map → all" in refused.verdict.how or "all → each-map" in refused.verdict.how


def test_steps_that_end_well_when_they_fail_are_named_where_they_come_from() -> None:
    of = graph(
        Node("load", "c.py:load"),
        Node("train", "c.py:train", {"d": Output("load")}, guards=(Guard(Param("on")),)),
        Node("report", "c.py:report", {"m": Output("train", optional=True)}),
        parameters=(Parameter("on", "bool", "true"),),
    )
    (row,) = (each for each in report(of).rows if each.demand.feature == "optional input")
    assert "load" in row.verdict.how


def test_steps_of_a_map_that_end_well_when_they_fail_are_named_with_the_map() -> None:
    """`total` collects the step beside the one that fails."""
    of = graph(
        Node("picky", "c.py:picky", {"x": Item("each", "x")}, scope="each"),
        Node("beside", "c.py:beside", {"x": Item("each", "x")}, scope="each"),
        Node("total", "c.py:total", {"xs": Output("beside")}),
        scopes=(Scope("each", {"x": Value("[1, 2]")}),),
    )
    row = next(each for each in report(of).rows if each.demand.feature == "map")
    assert row.verdict.support is Support.EMULATED
    assert "only the end of the run shows it: picky" in row.verdict.how
