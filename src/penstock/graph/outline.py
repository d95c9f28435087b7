"""What a drawing of a pipeline shows, before anybody knows where: vertices, edges, and groups inside groups.

Besides steps there are pills (parameters) and diamonds (conditions). A group is a nested pipeline or a map over more
than one step; a map over a single step is a mark on that step.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from ..core.errors import CodecError
from ..core.jsonvalue import loads
from .graph import Argument, Fields, Graph, Guard, Item, Many, Mapping, Node, Output, Param, Scope, outputs_in


class Vertex(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something with a place of its own."""

    id: str
    kind: Literal["step", "parameter", "condition"]
    label: str
    detail: str = ""  # what a step returns, what a parameter is
    each: str = ""  # what a map of this one step goes over


class Edge(msgspec.Struct, frozen=True, omit_defaults=True):
    """From one vertex to another. `dashed`: an order without data, or a condition."""

    source: str
    target: str
    label: str = ""
    dashed: bool = False


class Group(msgspec.Struct):
    """A frame around vertices and other groups."""

    id: str
    label: str
    kind: Literal["all", "pipeline", "map"]
    vertices: list[str] = []
    groups: list[Group] = []

    def everything(self) -> list[str]:
        """Every vertex in it, at any depth."""
        return [*self.vertices, *(name for group in self.groups for name in group.everything())]


class Outline(msgspec.Struct, frozen=True):
    """All of it. `root` holds everything."""

    title: str
    vertices: dict[str, Vertex]
    edges: tuple[Edge, ...]
    root: Group


def outline(graph: Graph) -> Outline:
    """What to draw of a graph."""
    return _Outlining(graph).outline()


class _Outlining:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._vertices: dict[str, Vertex] = {}
        self._labels: dict[tuple[str, str, bool], list[str]] = {}
        self._root = Group("", graph.pipeline, "all")
        self._groups: dict[str, Group] = {"": self._root}
        self._diamonds: dict[Guard, str] = {}
        self._guards = {node.name: self._guards_of(node) for node in graph.nodes}
        self._inside = {
            scope.name: [node.name for node in graph.nodes if scope.name in graph.scopes_of(node.scope)]
            for scope in graph.scopes
        }

    def outline(self) -> Outline:
        for node in self._graph.nodes:
            self._step(node)
        for node in self._graph.nodes:
            self._inputs(node)
            self._conditions(node)
        for name, vertex in self._vertices.items():
            if vertex.kind == "parameter":
                self._root.vertices.insert(0, name)
        edges = tuple(
            Edge(source, target, ", ".join(dict.fromkeys(filter(None, labels))), dashed)
            for (source, target, dashed), labels in self._labels.items()
        )
        return Outline(self._graph.pipeline, self._vertices, edges, self._root)

    def _step(self, node: Node) -> None:
        each = ""
        if node.scope is not None and len(self._inside[node.scope]) == 1:
            each = each_of(self._graph, self._graph.scope(node.scope))
        self._vertices[node.name] = Vertex(
            node.name, "step", node.name.rpartition("/")[2], short_type(node.returns), each
        )
        self._group_of(node).vertices.append(node.name)

    def _group_of(self, node: Node) -> Group:
        """The innermost frame, made with all around it when it is first needed."""
        scopes = [name for name in self._graph.scopes_of(node.scope) if len(self._inside[name]) > 1]
        folders = node.name.split("/")[:-1]
        group = self._root
        for depth in range(len(folders) + 1):
            path = "/".join(folders[:depth])
            named = next((name for name in scopes if name == path), None)
            if depth and named is None:
                group = self._child(group, f"pipeline {path}", folders[depth - 1], "pipeline")
            for name in scopes:
                if name.rpartition("/")[0] == path:
                    what = f"{name.rpartition('/')[2]} × {each_of(self._graph, self._graph.scope(name))}"
                    group = self._child(group, f"map {name}", what, "map")
        return group

    def _child(self, parent: Group, name: str, label: str, kind: Literal["pipeline", "map"]) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(name, label, kind)
            parent.groups.append(self._groups[name])
        return self._groups[name]

    def _inputs(self, node: Node) -> None:
        for argument in node.inputs.values():
            self._argument(argument, node.name)
        for name in node.after:
            self._edge(name, node.name, "", dashed=True)
        for scope_name in self._graph.scopes_of(node.scope):
            if self._inside[scope_name][0] == node.name and not self._uses(scope_name):
                for argument in self._graph.scope(scope_name).over.values():
                    self._argument(argument, node.name)

    def _uses(self, scope: str) -> bool:
        """Whether a step of the map takes the element; else the edge goes to its first step."""
        return any(
            isinstance(leaf, Item) and leaf.scope == scope
            for name in self._inside[scope]
            for argument in self._graph.node(name).inputs.values()
            for leaf in _leaves(argument)
        )

    def _argument(self, argument: Argument, target: str) -> None:
        for leaf in _leaves(argument):
            match leaf:
                case Output(node, field):
                    self._edge(node, target, field or "")
                case Param(name):
                    self._edge(self._parameter(name), target)
                case Item(scope, name):
                    self._argument(self._graph.scope(scope).over[name], target)
                case _:
                    pass

    def _parameter(self, name: str) -> str:
        vertex = f"parameter {name}"
        if vertex not in self._vertices:
            kind = next((each.annotation for each in self._graph.parameters if each.name == name), "")
            self._vertices[vertex] = Vertex(vertex, "parameter", name, kind)
        return vertex

    def _conditions(self, node: Node) -> None:
        """A diamond leads to the first guarded steps; what follows from these needs no edge of its own."""
        inherited = {
            guard
            for argument in node.inputs.values()
            for output in outputs_in(argument)
            for guard in self._guards[output.node]
        }
        for guard in self._guards[node.name]:
            if guard in inherited:
                continue
            label = guard_label(guard)
            vertex = self._diamonds.get(guard)
            if vertex is None:
                vertex = self._diamonds[guard] = f"condition {len(self._diamonds)}"
                self._vertices[vertex] = Vertex(vertex, "condition", f"{label}?")
                self._common_group(guard).vertices.append(vertex)
                for leaf in _leaves(guard.value):
                    self._argument(leaf, vertex)
            self._edge(vertex, node.name, dashed=True)

    def _guards_of(self, node: Node) -> tuple[Guard, ...]:
        scopes = (self._graph.scope(name) for name in self._graph.scopes_of(node.scope))
        return tuple(dict.fromkeys([*(guard for scope in scopes for guard in scope.guards), *node.guards]))

    def _common_group(self, guard: Guard) -> Group:
        guarded = {name for name, guards in self._guards.items() if guard in guards}
        group = self._root
        while inner := next((each for each in group.groups if guarded <= set(each.everything())), None):
            group = inner
        return group

    def _edge(self, source: str, target: str, label: str = "", *, dashed: bool = False) -> None:
        self._labels.setdefault((source, target, dashed), []).append(label)


def guard_label(guard: Guard) -> str:
    """A condition in a few words: `gate.passed`, `country = "FR"`, `not gate.passed`."""
    match guard.value:
        case Output(node, field):
            name = node.rpartition("/")[2]
            what = f"{name}.{field}" if field else name
        case Param(name) | Item(_, name):
            what = name
        case _:
            what = "condition"
    if guard.equals == "true":
        return what
    if guard.equals == "false":
        return f"not {what}"
    return f"{what} = {guard.equals}"


def short_type(annotation: str) -> str:
    """An annotation without the modules in front of its names.

    >>> short_type("pandera.pandas.DataFrame[pipeline.Orders]")
    'DataFrame[Orders]'
    """
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", annotation)


def each_of(graph: Graph, scope: Scope) -> str:
    """What a map goes over: `each depth`, and how many where that is written in the pipeline."""
    sizes = set()
    for argument in scope.over.values():
        default = next((p.default for p in graph.parameters if p.static and argument == Param(p.name)), None)
        text = getattr(argument, "json", default)
        try:
            value = loads(text) if text is not None else None
        except CodecError:
            value = None
        if isinstance(value, list | tuple):
            sizes.add(len(value))
        if isinstance(argument, Many):
            sizes.add(len(argument.items))
    return (f"{sizes.pop()} " if len(sizes) == 1 else "each ") + ", ".join(scope.over)


def _leaves(argument: Argument) -> list[Argument]:
    if isinstance(argument, Many | Mapping | Fields):
        return [leaf for item in argument.items for leaf in _leaves(item)]
    return [argument]
