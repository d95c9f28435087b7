"""Parameters come back from Kubeflow as what they were, though it knows doubles and texts only."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.kubeflow.kinds import artifact_kind, artifact_kinds, from_kubeflow, parameter_kind, to_kubeflow
from penstock.core.errors import ParameterError
from penstock.graph import Node, Parameter

numbers = st.integers(-(2**53), 2**53)
floats = st.floats(allow_nan=False, allow_infinity=False)
typed = st.one_of(
    st.tuples(st.just("int"), numbers),
    st.tuples(st.just("float"), floats),
    st.tuples(st.just("str"), st.text()),
    st.tuples(st.just("bool"), st.booleans()),
    st.tuples(st.just("list[int]"), st.lists(numbers)),
    st.tuples(st.just("list[float]"), st.lists(floats)),
    st.tuples(st.just("dict[str, bool]"), st.dictionaries(st.text(), st.booleans())),
    st.tuples(st.just("int | None"), st.none() | numbers),
    st.tuples(st.just("str | None"), st.none() | st.text()),
    st.tuples(st.just("list[list[int]]"), st.lists(st.lists(numbers))),
)


def as_doubles(value: Any) -> Any:
    """What a protobuf value makes of it."""
    if isinstance(value, bool) or not isinstance(value, int | float | list | dict):
        return value
    if isinstance(value, list):
        return [as_doubles(each) for each in value]
    if isinstance(value, dict):
        return {name: as_doubles(each) for name, each in value.items()}
    return float(value)


@given(typed)
def test_a_value_comes_back_with_its_type(case: tuple[str, Any]) -> None:
    annotation, value = case
    declared = Parameter("x", annotation)
    sent = json.loads(json.dumps(as_doubles(to_kubeflow(declared, value))))
    found = from_kubeflow([declared], {"x": sent})["x"]
    assert found == value
    assert repr(found) == repr(value) or value == 0  # -0.0 and 0 are one number


def test_what_equals_the_default_is_left_to_the_launcher() -> None:
    """Its own default is exact: 1 stays 1 for a float, which Kubeflow would have made 1.0."""
    declared = [Parameter("rate", "float", "1"), Parameter("n", "int", "3"), Parameter("on", "bool", "true")]
    assert from_kubeflow(declared, {"rate": 1.0, "n": 4.0, "on": True}) == {"n": 4}


def test_one_and_true_are_not_the_same_default() -> None:
    assert from_kubeflow([Parameter("x", "int | bool", "true")], {"x": "1"}) == {"x": 1}


@pytest.mark.parametrize("value", [2**53 + 1, math.inf, -math.inf])
def test_a_number_that_would_be_rounded_is_refused(value: float) -> None:
    with pytest.raises(ParameterError, match="double"):
        to_kubeflow(Parameter("x", "float"), value)
    with pytest.raises(ParameterError, match="double"):
        to_kubeflow(Parameter("x", "list[int]"), [1, value])


def test_static_and_secret_parameters_are_not_kubeflow_s() -> None:
    declared = [Parameter("a", "int", "1", static=True), Parameter("b", "str", '"secret:T"', secret=True)]
    assert from_kubeflow(declared, {"a": 2.0, "b": "other"}) == {}


def test_what_is_typed_by_hand_is_read_as_on_the_command_line() -> None:
    assert from_kubeflow([Parameter("when", "datetime")], {"when": "2026-01-31"}) == {"when": "2026-01-31"}


@pytest.mark.parametrize(
    ("returns", "kind"),
    [
        ("pd.DataFrame", "system.Dataset"),
        ("pandera.typing.DataFrame[Orders]", "system.Dataset"),
        ("pyarrow.Table", "system.Dataset"),
        ("RandomForestClassifier", "system.Model"),
        ("sklearn.pipeline.Pipeline", "system.Model"),
        ("dict[str, float]", "system.Metrics"),
        ("dict[str, str]", "system.Artifact"),
        ("list[Model]", "system.Model"),
        ("ModelCard", "system.Artifact"),
        ("int", "system.Artifact"),
        ("", "system.Artifact"),
    ],
)
def test_kinds_of_artifacts(returns: str, kind: str) -> None:
    assert artifact_kind(returns) == kind


def test_each_of_several_outputs_is_what_its_own_annotation_says() -> None:
    split = Node(
        "s", "f.py:s", outputs=("train", "model"), several=True, returns="Split", types=("pd.DataFrame", "Model")
    )
    assert artifact_kinds(split) == {"train": "system.Dataset", "model": "system.Model"}


def test_a_step_that_returns_nothing_shows_nothing() -> None:
    assert artifact_kinds(Node("s", "f.py:s", returns="None")) == {}


def test_a_parameter_that_kubeflow_has_no_type_for_is_text() -> None:
    assert [parameter_kind(Parameter("x", each)) for each in ("Path", "tuple[int, str]", "Any", "dict[int, str]")] == [
        "STRING"
    ] * 4
