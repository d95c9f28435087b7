"""Parameters on their way to Prefect: types of JSON stay what they are, anything else is a text or left open."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from penstock.backends.prefect import PrefectBackend
from penstock.backends.prefect.parameters import flow_parameters, parameter_schema
from penstock.graph import Graph, Parameter
from penstock.graph.demands import Demand, demands, features
from penstock.ports.backend import Blueprint, Support, Verdict, check


def graph(*parameters: Parameter) -> Graph:
    return Graph.checked(pipeline="p", target="p.py:p", parameters=parameters)


@pytest.mark.parametrize(
    ("annotation", "python", "schema"),
    [
        ("int", "int", {"type": "integer"}),
        ("bool", "bool", {"type": "boolean"}),
        ("list[int]", "list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("tuple[int, str]", "list", {"type": "array", "items": {}}),
        ("dict[str, float]", "dict[str, float]", {"type": "object", "additionalProperties": {"type": "number"}}),
        ("dict", "dict", {"type": "object", "additionalProperties": True}),
        ("int | None", "int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("Optional[int]", "int | None", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("Literal['a', 'b']", 'Literal["a", "b"]', {"enum": ["a", "b"], "type": "string"}),
        ("Literal[1]", "Literal[1]", {"const": 1, "type": "integer"}),
        ("Literal['a', 1]", 'Literal["a", 1]', {"enum": ["a", 1]}),
        ("list[list[str] | None]", "list[list[str] | None]", None),
        ("datetime.date", "str", {"type": "string"}),
        ("Path", "str", {"type": "string"}),
        ("Any", "Any", {}),
        ("shop.Size", "Any", {}),
        ("<class 'thing'>", "Any", {}),
        ("int | shop.Size", "Any", {}),
    ],
)
def test_annotations(annotation: str, python: str, schema: dict[str, Any] | None) -> None:
    (found,) = flow_parameters(graph(Parameter("x", annotation)))
    assert found.annotation == python
    ast.parse(found.annotation)
    if schema is not None:
        assert found.schema == schema


def test_defaults_are_plain_values_and_any_other_stays_the_pipelines_own() -> None:
    depths, day = flow_parameters(
        graph(Parameter("depths", "list[int]", "[4,6]"), Parameter("day", "date", '{"$":"date","v":"2026-01-31"}'))
    )
    assert (depths.default, depths.own) == ([4, 6], "")
    assert (day.default, day.annotation, day.own) == (None, "str | None", '{"$":"date","v":"2026-01-31"}')


def test_required_parameters_come_first_and_secrets_and_fixed_ones_not_at_all() -> None:
    given = graph(
        Parameter("a", "int", "1"),
        Parameter("b", "int"),
        Parameter("token", "str", '"TOKEN"', secret=True),
        Parameter("k", "int", "3", static=True),
    )
    assert [each.name for each in flow_parameters(given)] == ["b", "a"]
    assert parameter_schema(given)["required"] == ["b"]
    assert set(parameter_schema(given)["properties"]) == {"a", "b"}


@pytest.mark.parametrize("name", ["wait_for", "return_state", "_private"])
def test_a_parameter_that_prefect_would_not_take_is_refused_by_name(name: str) -> None:
    wrong = graph(Parameter(name, "int", "1"))
    report = _report(wrong)
    (row,) = report.refused
    assert row.demand.feature == "parameters"
    assert f"'{name}'" in row.verdict.how


def test_every_feature_has_a_verdict_with_words() -> None:
    declared = PrefectBackend().declarations(_blueprint(graph()))
    assert set(declared) == set(features())
    for feature, found in declared.items():
        verdict = found if isinstance(found, Verdict) else found(Demand(feature, ""))
        assert verdict.how, feature


def test_a_form_that_prefect_does_not_have_is_refused_whole() -> None:
    report = check(
        "prefect", PrefectBackend().declarations(_blueprint(graph(), form="docker")), graph(), [*_asked()], ()
    )
    assert [row.verdict.support for row in report.rows] == [Support.REFUSED]
    assert '"docker"' in report.rows[0].verdict.how


def _asked() -> list[Demand]:
    return [each for each in demands(graph()) if each.feature == "steps"]


def _report(given: Graph) -> Any:
    return check("prefect", PrefectBackend().declarations(_blueprint(given)), given, demands(given), ())


def _blueprint(given: Graph, form: str = "") -> Blueprint:
    return Blueprint(
        graph=given, name="p", digest="d", manifest="", root="/p", python="/p/python", runs="r", artifacts="a",
        home="h", form=form,
    )  # fmt: skip
