"""Kubeflow's own types for what penstock passes around: artifacts for people to look at, and typed parameters.

Kubeflow keeps every number as a double and knows no None. So a parameter whose annotation is not one of its own types
travels as JSON text, and a value that equals the declared default is left out: the launcher takes its own default,
exactly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.errors import ParameterError
from ...graph import Node, Parameter

ARTIFACT, DATASET, MODEL, METRICS = "system.Artifact", "system.Dataset", "system.Model", "system.Metrics"

_TABLES = re.compile(r"\b(DataFrame|LazyFrame|Table|RecordBatch|Series|ndarray|Dataset|GeoDataFrame)\b")
_MODELS = re.compile(
    r"\b(Model|Estimator|BaseEstimator|Pipeline|Module|Booster|\w*(?:Classifier|Regressor|Regression|Forest|Model))\b"
)
_NUMBERS = re.compile(r"(?:dict|Dict|Mapping)\[str, (?:float|int|float \| int|int \| float)\]")

_TYPES = {"int": "NUMBER_INTEGER", "float": "NUMBER_DOUBLE", "str": "STRING", "bool": "BOOLEAN"}
_LISTS = re.compile(r"(?:list|List)\[(int|float|str|bool)\]")
_DICTS = re.compile(r"(?:dict|Dict)\[str, (int|float|str|bool)\]")
_EXACT = 2**53  # beyond it a double is not the whole number that was meant


def artifact_kind(annotation: str) -> str:
    """What an output is shown as, told from its annotation.

    >>> [artifact_kind(each) for each in ("pd.DataFrame", "LogisticRegression", "dict[str, float]", "Ridge")]
    ['system.Dataset', 'system.Model', 'system.Metrics', 'system.Artifact']
    """
    if _NUMBERS.fullmatch(annotation):
        return METRICS
    if _TABLES.search(annotation):
        return DATASET
    return MODEL if _MODELS.search(annotation) else ARTIFACT


def artifact_kinds(node: Node) -> dict[str, str]:
    """The outputs of a step that are shown, with what they are. A step that returns nothing shows none."""
    if node.returns == "None":
        return {}
    types = node.types if node.several else (node.returns,)
    return {name: artifact_kind(types[at] if at < len(types) else "") for at, name in enumerate(node.outputs)}


def parameter_kind(parameter: Parameter) -> str:
    """The type that Kubeflow shows and checks.

    >>> [parameter_kind(Parameter("x", each)) for each in ("int", "list[str]", "int | None", "dict[str, float]")]
    ['NUMBER_INTEGER', 'LIST', 'STRING', 'STRUCT']
    """
    if _LISTS.fullmatch(parameter.annotation):
        return "LIST"
    if _DICTS.fullmatch(parameter.annotation):
        return "STRUCT"
    return _TYPES.get(parameter.annotation, "STRING")


def given(parameters: Sequence[Parameter]) -> list[Parameter]:
    """Those that are given when a run starts. A secret's name is fixed when the pipeline is compiled."""
    return [each for each in parameters if not each.static and not each.secret]


def to_kubeflow(parameter: Parameter, value: Any) -> Any:
    """A plain value as Kubeflow takes it. Raises ParameterError where it would arrive as another one.

    >>> to_kubeflow(Parameter("x", "int | None"), None), to_kubeflow(Parameter("x", "float"), 1)
    ('null', 1)
    """
    if not _is_native(parameter):
        return json.dumps(value, ensure_ascii=False, default=str)
    for number in _numbers(value):
        if not math.isfinite(number) or (isinstance(number, int) and abs(number) > _EXACT):
            raise ParameterError(
                f"'{parameter.name}' is {number}, which Kubeflow would round: it keeps every number as a double",
                hint="give it as text (str)",
            )
    return value


def shown_in_kubeflow(parameter: Parameter, value: Any) -> Any:
    """The same for a run that penstock has made: the exact values are in the run log, and here they are for people.

    >>> shown_in_kubeflow(Parameter("x", "int"), 2**60 + 1)
    1152921504606846976
    >>> shown_in_kubeflow(Parameter("x", "float"), {"$": "float", "v": "inf"})
    1e+300
    """
    return _rounded(value) if _is_native(parameter) else to_kubeflow(parameter, value)


def _rounded(value: Any) -> Any:
    """What Kubeflow can hold that is nearest to it."""
    match value:
        case list():
            return [_rounded(each) for each in value]
        case {"$": "float", "v": str(text)}:
            return _rounded(float(text) if text in ("inf", "-inf") else math.nan)
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case bool():
            return value
        case int() if abs(value) > _EXACT:
            return int(float(value)) if abs(value) < 10**300 else int(math.copysign(1, value)) * 10**300
        case float() if not math.isfinite(value):
            return 0.0 if math.isnan(value) else math.copysign(1e300, value)
        case _:
            return value


def from_kubeflow(parameters: Sequence[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was given, as plain values for the launcher: without what equals the default.

    >>> from_kubeflow([Parameter("n", "int", "3"), Parameter("m", "list[int]"), Parameter("o", "int | None", "null")],
    ...               {"n": 3.0, "m": [1.0, 2.0], "o": "null"})
    {'m': [1, 2]}
    """
    found: dict[str, Any] = {}
    for parameter in given(parameters):
        if parameter.name not in values:
            continue
        value = _read(parameter, values[parameter.name])
        if parameter.default is None or not _same(value, parameter.default):
            found[parameter.name] = value
    return found


def _is_native(parameter: Parameter) -> bool:
    return parameter_kind(parameter) != "STRING" or parameter.annotation == "str"


def _read(parameter: Parameter, value: Any) -> Any:
    if not _is_native(parameter):
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value  # typed in by hand: read as on the command line
    of = _LISTS.fullmatch(parameter.annotation) or _DICTS.fullmatch(parameter.annotation)
    kind = of[1] if of else parameter.annotation
    if isinstance(value, list):
        return [_number(each, kind) for each in value]
    if isinstance(value, dict):
        return {name: _number(each, kind) for name, each in value.items()}
    return _number(value, kind)


def _number(value: Any, kind: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if kind == "float":
        return float(value)
    return int(value) if value == int(value) else value


def _numbers(value: Any) -> list[int | float]:
    if isinstance(value, dict):
        return [number for each in value.values() for number in _numbers(each)]
    if isinstance(value, list | tuple):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _same(value: Any, default: str) -> bool:
    try:
        expected = json.loads(default)
    except ValueError:
        return False
    return bool(value == expected) and isinstance(value, bool) == isinstance(expected, bool)
