"""A pipeline's parameters as Prefect knows them: Python types in the flow's signature, a JSON schema in a deployment.

Prefect shows a form made of the schema and checks values against the types. Types that JSON has are kept; any other
(a date, a path, an enumeration) is a text there, which penstock reads as the pipeline's annotation wants it.
"""

from __future__ import annotations

import ast
import json
from typing import Any

import msgspec

from ...core.jsonvalue import TAG
from ...graph import Graph, Parameter
from .layout import literal

_PLAIN = {"int": "integer", "float": "number", "str": "string", "bool": "boolean", "None": "null"}
_LISTS = {"list", "tuple", "set", "frozenset", "Sequence", "Iterable", "Collection"}
_DICTS = {"dict", "Mapping"}
RESERVED = ("return_state", "wait_for")  # Prefect's own arguments of a flow call


class FlowParameter(msgspec.Struct, frozen=True):
    """One parameter of the flow."""

    name: str
    annotation: str  # as Python source, of builtins, Any and Literal
    schema: dict[str, Any]
    required: bool
    default: Any = None  # a plain value
    own: str = ""  # the pipeline's own default, in words, where it is no plain value: None stands for it


def flow_parameters(graph: Graph) -> list[FlowParameter]:
    """What is given when a run starts; required ones first, as Python wants them. No secret passes through Prefect."""
    found = [_translated(each) for each in graph.parameters if not each.static and not each.secret]
    return [each for each in found if each.required] + [each for each in found if not each.required]


def unusable(graph: Graph) -> list[str]:
    """Names that Prefect cannot take as a flow's parameter."""
    return [
        each.name
        for each in graph.parameters
        if not each.static and not each.secret and (each.name in RESERVED or each.name.startswith("_"))
    ]


def parameter_schema(graph: Graph) -> dict[str, Any]:
    """As Prefect derives it from a flow's signature, for a deployment that is made without Prefect at hand."""
    found = flow_parameters(graph)
    properties: dict[str, Any] = {}
    for position, each in enumerate(found):
        default = {} if each.required else {"default": each.default}
        properties[each.name] = {**each.schema, **default, "title": each.name, "position": position}
    required = [each.name for each in found if each.required]
    return {
        "title": "Parameters",
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "definitions": {},
    }


def _translated(parameter: Parameter) -> FlowParameter:
    try:
        tree: ast.expr | None = ast.parse(parameter.annotation, mode="eval").body
    except SyntaxError:
        tree = None  # such as <class '…'>: a type that has no short name
    annotation, schema = _type(tree)
    if parameter.default is None:
        return FlowParameter(parameter.name, annotation, schema, True)
    value = _listed(json.loads(parameter.default))
    if not _holds_tag(value):
        return FlowParameter(parameter.name, annotation, schema, False, value)
    if annotation != "Any" and "None" not in annotation:
        annotation, schema = f"{annotation} | None", {"anyOf": [schema, {"type": "null"}]}
    return FlowParameter(parameter.name, annotation, schema, False, None, parameter.default)


def _listed(value: Any) -> Any:
    """A tuple as the list that it is read from again."""
    if isinstance(value, dict) and value.get(TAG) == "tuple":
        return [_listed(each) for each in value["v"]]
    return [_listed(each) for each in value] if isinstance(value, list) else value


def _choices(values: list[Any]) -> dict[str, Any]:
    kinds = {type(each).__name__ for each in values}
    kind = {"type": _PLAIN[kinds.pop()]} if len(kinds) == 1 and kinds <= set(_PLAIN) else {}
    return {"const": values[0], **kind} if len(values) == 1 else {"enum": values, **kind}


def _holds_tag(value: Any) -> bool:
    if isinstance(value, dict):
        return TAG in value or any(_holds_tag(each) for each in value.values())
    return isinstance(value, list) and any(_holds_tag(each) for each in value)


def _type(tree: ast.expr | None) -> tuple[str, dict[str, Any]]:
    """(Python source, JSON schema) of an annotation."""
    match tree:
        case None | ast.Name(id="Any" | "object"):
            return "Any", {}
        case ast.Constant(value=None):
            return "None", {"type": "null"}
        case ast.Name(id=name) if name in _PLAIN:
            return name, {"type": _PLAIN[name]}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([left, right])
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _union([inner, ast.Constant(None)])
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            return _union(members)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            if all(isinstance(each, ast.Constant) for each in members):
                values = [each.value for each in members if isinstance(each, ast.Constant)]
                return f"Literal[{literal(values)[1:-1]}]", _choices(values)
            return "Any", {}
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return _named(tree)
        case _:
            return "Any", {}


def _named(tree: ast.Name | ast.Attribute | ast.Subscript) -> tuple[str, dict[str, Any]]:
    outer = tree.value if isinstance(tree, ast.Subscript) else tree
    name = outer.id if isinstance(outer, ast.Name) else outer.attr if isinstance(outer, ast.Attribute) else ""
    inner = tree.slice if isinstance(tree, ast.Subscript) else None
    if name in _LISTS:
        if inner is None or isinstance(inner, ast.Tuple):  # a tuple's places may differ in type
            return "list", {"type": "array", "items": {}}
        annotation, schema = _type(inner)
        return f"list[{annotation}]", {"type": "array", "items": schema}
    if name in _DICTS:
        if not isinstance(inner, ast.Tuple) or _type(inner.elts[0])[0] != "str":
            return "dict", {"type": "object", "additionalProperties": True}
        annotation, schema = _type(inner.elts[1])
        return f"dict[str, {annotation}]", {"type": "object", "additionalProperties": schema}
    if inner is None and name in ("date", "datetime", "time", "timedelta", "Path", "Decimal", "UUID"):
        return "str", {"type": "string"}
    return "Any", {}


def _union(members: list[ast.expr]) -> tuple[str, dict[str, Any]]:
    found = [_type(each) for each in members]
    if any(annotation == "Any" for annotation, _ in found):
        return "Any", {}
    flat = [part for annotation, schema in found for part in (schema["anyOf"] if " | " in annotation else [schema])]
    return " | ".join(annotation for annotation, _ in found), {"anyOf": flat}
