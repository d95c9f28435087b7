"""Which secrets a graph asks for: names only, for whoever brings the variables to where a step runs."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.jsonvalue import loads
from .graph import Argument, Fields, Graph, Many, Mapping, Node, Param, Secret

_PREFIX = "secret:"  # of a secret parameter's text


def secret_names(graph: Graph, node: Node | None = None) -> set[str]:
    """The secrets that a step reads, or all steps, with the defaults of secret parameters."""
    defaults = {each.name: _name_in(each.default) for each in graph.parameters if each.secret and each.default}
    nodes = graph.nodes if node is None else (node,)
    return {name for each in nodes for value in each.inputs.values() for name in _of(value, defaults)}


def _name_in(default: str) -> str:
    return str(loads(default)).removeprefix(_PREFIX)


def _of(argument: Argument, defaults: dict[str, str]) -> Iterator[str]:
    match argument:
        case Secret(name):
            yield name
        case Param(name) if name in defaults:
            yield defaults[name]
        case Many() | Mapping() | Fields():
            for item in argument.items:
                yield from _of(item, defaults)
        case _:
            return
