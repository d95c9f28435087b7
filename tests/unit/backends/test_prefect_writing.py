"""A Prefect flow file: what it may import, what it says of each step, and that no name in it hides another."""

from __future__ import annotations

import ast
import builtins
import keyword
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.prefect.layout import WIDTH, literal, quoted
from penstock.backends.prefect.naming import identifiers
from penstock.backends.prefect.writing import compiled, delays
from penstock.core.errors import UsageError
from penstock.engine.retry import next_delay
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
from penstock.ports.backend import Blueprint
from penstock.ports.records import Failure, FailureClass

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)


def blueprint(graph: Graph, **more: Any) -> Blueprint:
    places = {"root": "/shop", "python": "/shop/.venv/bin/python", "runs": "runs.db", "artifacts": "a", "home": "h"}
    return Blueprint(**{"graph": graph, "name": graph.pipeline, "digest": "d" * 64, "manifest": "", **places, **more})


def flow_of(graph: Graph, **more: Any) -> str:
    return compiled(blueprint(graph, **more)).files[f"{graph.pipeline}_flow.py"]


def tasks_in(text: str) -> dict[str, dict[str, Any]]:
    """Step -> the keywords of its @task that are constants, with the function's name as "function"."""
    found = {}
    for each in ast.parse(text).body:
        if isinstance(each, ast.AsyncFunctionDef) and (call := each.decorator_list[0]) and isinstance(call, ast.Call):
            keywords = {key.arg: ast.literal_eval(key.value) for key in call.keywords if key.arg}
            if isinstance(call.func, ast.Name) and call.func.id == "task":
                found[keywords["name"]] = {**keywords, "function": each.name}
    return found


def told_in(text: str) -> list[tuple[str, list[str], int]]:
    """What is told to the run: (step's function or map's name, what it waits for, how deep in maps)."""
    flow = next(
        each
        for each in ast.parse(text).body
        if isinstance(each, ast.AsyncFunctionDef) and ast.unparse(each.decorator_list[0]).startswith("flow")
    )
    found: list[tuple[str, list[str], int]] = []

    def waits(call: ast.Call) -> list[str]:
        named = {key.arg: key.value for key in call.keywords}
        return [ast.unparse(each) for each in named["wait_for"].elts] if "wait_for" in named else []  # type: ignore[attr-defined]

    def walk(body: list[ast.stmt], depth: int) -> None:
        for each in body:
            if isinstance(each, ast.With):
                call = each.items[0].context_expr
                assert isinstance(call, ast.Call)
                found.append((ast.literal_eval(call.args[0]), waits(call), depth))
                walk(each.body, depth + 1)
            elif isinstance(each, ast.Expr) and isinstance(each.value, ast.Call):
                found.append((ast.unparse(each.value.args[0]), waits(each.value), depth))

    walk(flow.body, 0)
    return found


NESTED = Graph.checked(
    pipeline="shops",
    target="shop.py:shops",
    parameters=(Parameter("shops", "list[str]", '["a","b"]'),),
    scopes=(
        Scope("per_shop", {"shop": Param("shops")}),
        Scope("label", {"day": Output("days")}, parent="per_shop", guards=(Guard(Output("open")),)),
    ),
    nodes=(
        Node("open", "shop.py:open"),
        Node("days", "shop.py:days", {"shop": Item("per_shop", "shop")}, scope="per_shop"),
        Node("label", "shop.py:label", {"day": Item("label", "day"), "o": Output("open")}, scope="label"),
        Node("total", "shop.py:total", {"labels": Output("label")}, after=("open",)),
    ),
)


def test_the_files_import_prefect_and_the_standard_library_and_each_other_and_nothing_else() -> None:
    files = compiled(blueprint(NESTED)).files
    beside = {name.removesuffix(".py") for name in files}
    for name, text in files.items():
        for each in ast.walk(ast.parse(text)):
            modules = [each.module or ""] if isinstance(each, ast.ImportFrom) else []
            modules += [alias.name for alias in each.names] if isinstance(each, ast.Import) else []
            for module in modules:
                top = module.partition(".")[0]
                assert top == "prefect" or top in beside or top in sys.stdlib_module_names, f"{name} imports {module}"


def test_the_same_blueprint_gives_the_same_bytes() -> None:
    assert compiled(blueprint(NESTED)) == compiled(blueprint(Graph.from_json(NESTED.to_json())))


def test_every_step_is_one_task_and_a_mapped_one_has_a_task_run_per_element() -> None:
    found = tasks_in(flow_of(NESTED))
    assert list(found) == ["open", "days", "label", "total"]
    assert {name: each["task_run_name"] for name, each in found.items()} == {
        "open": "open",
        "days": "days[{index}]",
        "label": "label[{index}]",
        "total": "total",
    }


def test_steps_are_told_inside_their_maps_and_wait_for_what_the_graph_says() -> None:
    assert told_in(flow_of(NESTED)) == [
        ("open_step", [], 0),  # `open` is a builtin
        ("per_shop", [], 0),
        ("days", [], 1),
        ("label", ["days", "open_step"], 1),
        ("label", ["open_step"], 2),
        ("total", ["label", "open_step"], 0),
    ]


def test_options_are_prefects_own_where_prefect_has_them() -> None:
    options = StepOptions(
        retry=RetryPolicy(attempts=4, base_s=2, factor=3, cap_s=10), timeout_s=30, pool="gpu", max_parallel=2,
        updates=("s3://bucket/table",),
    )  # fmt: skip
    graph = Graph.checked(pipeline="p", target="p.py:p", nodes=(Node("fit", "p.py:fit", options=options),))
    text = flow_of(graph)
    fit = tasks_in(text)["fit"]
    assert (fit["retries"], fit["retry_delay_seconds"], fit["tags"]) == (3, [2, 6, 10], ["gpu"])
    assert fit["timeout_seconds"] > 30  # the launcher's own comes first
    assert 'run.step(fit, at_once=2, updates=["s3://bucket/table"])' in text


def test_a_schedule_and_a_limit_of_runs_are_the_deployments() -> None:
    graph = Graph.checked(
        pipeline="nightly",
        target="n.py:nightly",
        schedule=Cron("0 3 * * *", "Europe/Paris", start="2026-12-01"),
        max_active_runs=1,
        tags={"team": "growth"},
        fail_fast=True,
    )
    text = flow_of(graph)
    assert 'Cron("0 3 * * *", timezone="Europe/Paris")' in text
    assert "ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)" in text
    assert 'start="2026-12-01T00:00:00+01:00"' in text  # midnight in Paris
    assert "fail_fast=True" in text
    assert '"tags": ["team=growth"]' in text


def test_a_name_that_is_no_file_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'a/b' cannot be the name"):
        compiled(blueprint(NESTED, name="a/b"))


def test_a_parameter_may_have_the_name_of_a_step_or_of_anything_in_the_file() -> None:
    names = ["fit", "run", "PIPELINE", "flow", "task", "perform", "index", "list"]
    graph = Graph.checked(
        pipeline="fit",
        target="p.py:fit",
        parameters=tuple(Parameter(name, "list[int]", "[1]") for name in names),
        nodes=(Node("fit", "p.py:fit", {name: Param(name) for name in names}), Node("list", "p.py:list")),
    )
    text = flow_of(graph)
    tree = ast.parse(text)
    functions = [each for each in tree.body if isinstance(each, ast.AsyncFunctionDef)]
    arguments = {each.arg for each in functions[-1].args.args}
    assert arguments == set(names)
    assert len({each.name for each in functions}) == 3
    assert not {each.name for each in functions} & arguments
    asked = {
        each.value.id
        for each in ast.walk(functions[-1])
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name)
    }
    assert len(asked) == 2  # the pipeline and its run
    assert not asked & arguments


@given(st.lists(st.text(min_size=1), unique=True, max_size=12), st.lists(st.text(min_size=1), max_size=6))
def test_identifiers_are_different_and_legal_and_hide_nothing(names: list[str], taken: list[str]) -> None:
    found = identifiers(names, taken=taken)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    for each in found.values():
        assert each.isidentifier()
        assert not keyword.iskeyword(each)
        assert not hasattr(builtins, each)
        assert each not in taken


@given(PLAIN)
def test_a_literal_reads_back_as_the_value_it_was_written_from(value: Any) -> None:
    assert ast.literal_eval(literal(value)) == value


@given(st.lists(st.text("abc ", max_size=40), max_size=12))
def test_a_line_is_only_longer_than_the_width_where_nothing_in_it_can_be_parted(value: list[str]) -> None:
    assert all(len(line) <= WIDTH for line in literal({"texts": value}).splitlines())


@given(st.text())
def test_a_quoted_text_is_that_text(text: str) -> None:
    assert ast.literal_eval(quoted(text)) == text


@given(
    st.builds(
        RetryPolicy,
        attempts=st.integers(2, 40),
        base_s=st.floats(0, 1000),
        factor=st.floats(1, 10),
        cap_s=st.floats(0, 5000),
        jitter=st.sampled_from(["none", "equal", "full"]),
    ),
    st.text(max_size=4),
)
def test_prefect_never_waits_longer_than_the_policy_draws_and_no_less_where_nothing_is_drawn(
    policy: RetryPolicy, seed: str
) -> None:
    found = delays(policy)
    failure = Failure(FailureClass.ERROR, "")
    for attempt in range(1, policy.attempts):
        prefects = found[min(attempt, len(found)) - 1]  # Prefect repeats the last one
        drawn = next_delay(policy, failure, attempt, seed=seed)
        assert drawn is not None
        assert prefects <= drawn + 1e-6
        if policy.jitter == "none":
            assert prefects == pytest.approx(drawn, abs=1e-6)


def test_a_formatter_and_a_linter_would_change_nothing(tmp_path: Path) -> None:
    long = [f"s3://bucket/a/rather/long/name/of/a/table/{number}" for number in range(4)]
    graph = Graph.checked(
        pipeline="churn",
        target="churn.py:churn",
        schedule=Cron("0 3 * * *", "Europe/Paris"),
        max_active_runs=2,
        tags={f"tag{number}": "a value of some length" for number in range(5)},
        parameters=(
            Parameter("uri", "str", '"say \\"hi\\""'),
            Parameter("uris", "list[str]", str(long).replace("'", '"')),
            Parameter("day", "datetime.date", '{"$":"date","v":"2026-01-31"}'),
            Parameter("kind", "Literal['a', 'b']"),
            Parameter("anything", "Any", '{"a":[1,2],"b":{}}'),
            *(Parameter(f"a_number_of_a_long_name_{number}", "int", "1") for number in range(6)),
        ),
        scopes=(Scope("fit", {"uri": Param("uris")}),),
        nodes=(
            *(Node(f"a_step_with_a_long_name_{number}", "churn.py:a_step") for number in range(9)),
            Node("fit", "churn.py:fit", {"uri": Item("fit", "uri"), "x": Value("1")}, scope="fit", options=StepOptions(
                retry=RetryPolicy(attempts=60, base_s=0.1, factor=1.1), timeout_s=10, pool="gpu",
                updates=tuple(long),
            )),
            Node("join", "churn.py:join", {"x": Output("fit")},
                 after=tuple(f"a_step_with_a_long_name_{number}" for number in range(9))),
        ),
    )  # fmt: skip
    for name, text in compiled(blueprint(graph, version="0.1.0", source="churn.py")).files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        if name.startswith("penstock"):
            assert all(len(line) <= WIDTH for line in text.splitlines())
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["check"], ["format", "--check", "--diff"]):
        done = subprocess.run(
            [*ruff, *words, "--isolated", "--line-length", str(WIDTH), "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
