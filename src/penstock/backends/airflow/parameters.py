"""The pipeline's parameters as Airflow's: a JSON schema from the annotation's text, so that the Trigger form shows the
right field and refuses what does not fit. The launcher checks the value again, against the annotation itself."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from ...core.plain import NotPlainError, plain
from ...graph import Parameter
from .literals import Call

_PLAIN: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string"},  # "date-time" would refuse a time without a zone
    "time": {"type": "string"},
    "timedelta": {"type": "string"},
    "Path": {"type": "string"},
    "PosixPath": {"type": "string"},
    "PathLike": {"type": "string"},
    "Decimal": {"type": ["string", "number"]},
    "UUID": {"type": "string"},
    "None": {"type": "null"},
}
_LISTS = frozenset({"list", "tuple", "set", "frozenset", "Sequence", "Iterable", "Collection"})
_TABLES = frozenset({"dict", "Mapping", "MutableMapping"})
# Airflow carries 64 bits; a larger integer that has to be given is given as text.
_INTEGER = {"type": ["integer", "string"], "pattern": "^-?[0-9]+$"}
_UNKNOWN: dict[str, Any] = {}


class Form:
    """The parameters of a pipeline that the Trigger form asks for."""

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        self.params: dict[str, Call] = {}
        self.as_written: list[str] = []  # null means the pipeline's own default, which the form cannot show
        for each in parameters:
            if not each.static and not each.secret:
                self._add(each)

    def _add(self, parameter: Parameter) -> None:
        options: dict[str, Any] = dict(schema_of(parameter.annotation))
        arguments: list[Any] = []
        if parameter.default is not None:
            try:
                shown = plain(json.loads(parameter.default))
            except NotPlainError:
                shown = None
            if shown is None and parameter.default != "null":
                self.as_written.append(parameter.name)
            if shown is None and options:
                options = _or_null(options)
            arguments = [shown]
        elif options == _PLAIN["int"]:
            options = dict(_INTEGER)
        options["description"] = parameter.annotation
        self.params[parameter.name] = Call("Param", *arguments, **options)


def schema_of(annotation: str) -> dict[str, Any]:
    """The JSON schema of an annotation's text; empty where it says nothing that a schema could.

    >>> schema_of("list[int] | None")
    {'type': ['array', 'null'], 'items': {'type': 'integer'}}
    >>> schema_of("Literal['a', 'b']"), schema_of("Optional[date]")
    ({'enum': ['a', 'b']}, {'type': ['string', 'null'], 'format': 'date'})
    """
    try:
        return _schema(ast.parse(annotation, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError):
        return _UNKNOWN


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that Airflow can show, as somebody would write them into its form.

    >>> plain_values({"n": {"$": "int", "v": "0x10"}, "rate": {"$": "float", "v": "nan"}})
    {'n': 16}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        try:
            found[name] = plain(value)
        except NotPlainError:
            continue
    return found


def _schema(node: ast.expr) -> dict[str, Any]:
    match node:
        case ast.Constant(None):
            return _PLAIN["None"]
        case ast.Name(name) | ast.Attribute(attr=name):
            if name in _LISTS:
                return {"type": "array"}
            return {"type": "object"} if name in _TABLES else _PLAIN.get(name, _UNKNOWN)
        case ast.BinOp(left, ast.BitOr(), right):
            return _union([_schema(left), _schema(right)])
        case ast.Subscript(value, inside):
            return _generic(getattr(value, "id", getattr(value, "attr", "")), inside)
    return _UNKNOWN


def _generic(name: str, inside: ast.expr) -> dict[str, Any]:
    items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name == "Literal":
        return {"enum": [ast.literal_eval(each) for each in items]}
    if name == "Annotated":
        return _schema(items[0])
    if name == "Optional":
        return _union([_schema(items[0]), _PLAIN["None"]])
    if name == "Union":
        return _union([_schema(each) for each in items])
    if name in _TABLES:
        return {"type": "object"}
    if name not in _LISTS:
        return _UNKNOWN
    each = _schema(items[0]) if len(items) == 1 or ast.unparse(items[-1]) in ("...", "Ellipsis") else _UNKNOWN
    return {"type": "array", "items": each} if each else {"type": "array"}


def _union(members: list[dict[str, Any]]) -> dict[str, Any]:
    if not all(members):
        return _UNKNOWN
    given = [each for each in members if each != _PLAIN["None"]]
    if len(given) == 1 and len(members) == 2:
        return _or_null(given[0])
    if all(set(each) == {"type"} for each in members):
        return {"type": [kind for each in members for kind in _kinds(each)]}
    return _UNKNOWN


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "enum" in schema:
        return schema | {"enum": [*schema["enum"], None]} if None not in schema["enum"] else schema
    kinds = _kinds(schema)
    return schema | {"type": kinds if "null" in kinds else [*kinds, "null"]}


def _kinds(schema: dict[str, Any]) -> list[str]:
    kind = schema["type"]
    return [kind] if isinstance(kind, str) else list(kind)
