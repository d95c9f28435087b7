"""Nodes, what they receive, and the scopes that fan them out.

An *instance* of a node is (node name, index path). A node outside any scope has the one instance with index "".
A scope fans everything inside it out over a list; scopes nest, so an instance two scopes deep has an index such as
"2.0". An argument that refers to a node of an enclosing scope takes that instance; one that refers into a scope from
outside collects every element, as (nested) lists in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from ..core.canonical import canonical_json
from ..core.errors import DefinitionError, StoreTooNewError
from ..core.location import Location
from .options import Cron, StepOptions

FORMAT = 1  # of the JSON form; raised when an older penstock could misread it


class Value(msgspec.Struct, frozen=True, tag="value"):
    """A constant written in the pipeline; `json` is core.jsonvalue text."""

    json: str


class Param(msgspec.Struct, frozen=True, tag="param"):
    """A parameter of the pipeline."""

    name: str


class Output(msgspec.Struct, frozen=True, tag="output", omit_defaults=True):
    """What another node returned: one field of it, or the whole (`field` None).

    `optional`: a skipped node is taken as None instead of skipping this one too.
    """

    node: str
    field: str | None = None
    optional: bool = False


class Item(msgspec.Struct, frozen=True, tag="item"):
    """The element that a scope hands to this index, under the name it has in `Scope.over`."""

    scope: str
    name: str


class Secret(msgspec.Struct, frozen=True, tag="secret"):
    """A secret by name; resolved where the step runs, never stored, logged or hashed."""

    name: str


class Many(msgspec.Struct, frozen=True, tag="many"):
    """A list or tuple written in the pipeline, with handles among its elements."""

    items: tuple[Argument, ...]
    as_tuple: bool = False


class Mapping(msgspec.Struct, frozen=True, tag="mapping"):
    """A dict written in the pipeline, with handles among its values."""

    keys: tuple[str, ...]
    items: tuple[Argument, ...]


class Fields(msgspec.Struct, frozen=True, tag="fields"):
    """A pipeline's several named results."""

    target: str  # of the NamedTuple or dataclass, "file.py:Qualname"
    keys: tuple[str, ...]
    items: tuple[Argument, ...]


Argument = Value | Param | Output | Item | Secret | Many | Mapping | Fields


class Guard(msgspec.Struct, frozen=True, omit_defaults=True):
    """The node runs only if the value equals `equals` (JSON text)."""

    value: Argument
    equals: str = "true"


class Scope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fan-out: one index per element of the lists in `over`, taken side by side (equal lengths)."""

    name: str
    over: dict[str, Argument]
    parent: str | None = None
    max_size: int | None = None
    guards: tuple[Guard, ...] = ()
    where: Location | None = None


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step call: what to run, on what, under which conditions."""

    name: str  # unique; nested pipelines prefix theirs: "prepare/split"
    target: str  # "project/relative/file.py:qualname", or "penstock.module:qualname" for ready-made steps
    inputs: dict[str, Argument] = {}
    outputs: tuple[str, ...] = ("output",)
    several: bool = False  # outputs are the fields of a NamedTuple or dataclass
    scope: str | None = None
    guards: tuple[Guard, ...] = ()
    after: tuple[str, ...] = ()
    options: StepOptions = StepOptions()
    where: Location | None = None  # of the call
    payload: str | None = None  # a function that is in no file (a notebook cell): cloudpickle, base64
    returns: str = ""  # the annotation, as text for people
    types: tuple[str, ...] = ()  # of several outputs, each field's own


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parameter of the pipeline's signature."""

    name: str
    annotation: str
    default: str | None = None  # JSON text; None = required
    static: bool = False  # fixed when the graph was traced, with `default` its value
    secret: bool = False


class Graph(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole pipeline. Build one with `Graph.checked`, read one with `Graph.from_json`."""

    pipeline: str
    target: str
    nodes: tuple[Node, ...] = ()
    scopes: tuple[Scope, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    result: Argument | None = None
    tags: dict[str, str] = {}
    schedule: Cron | None = None
    on_data: tuple[str, ...] = ()  # URLs of data: a run starts when all of them were updated
    max_active_runs: int | None = None
    fail_fast: bool = False
    format: int = FORMAT

    @classmethod
    def checked(cls, **fields: Any) -> Graph:
        """A graph that is closed and acyclic, or DefinitionError listing every fault."""
        graph = cls(**fields)
        problems = list(_faults(graph))
        if problems:
            raise DefinitionError(f"pipeline '{graph.pipeline}' cannot be built", problems=problems)
        return graph

    @classmethod
    def from_json(cls, content: bytes) -> Graph:
        head = msgspec.json.decode(content, type=_Head)
        if head.format > FORMAT:
            raise StoreTooNewError(
                f"this manifest has format {head.format}; this penstock reads up to {FORMAT}",
                hint="upgrade penstock",
            )
        return msgspec.json.decode(content, type=cls)

    def to_json(self) -> bytes:
        return canonical_json(self)

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def scope(self, name: str) -> Scope:
        for scope in self.scopes:
            if scope.name == name:
                return scope
        raise KeyError(name)

    def scopes_of(self, name: str | None) -> tuple[str, ...]:
        """The chain of scopes from the outermost to `name`."""
        chain: list[str] = []
        while name is not None:
            chain.append(name)
            name = self.scope(name).parent
        return tuple(reversed(chain))

    def needs(self) -> dict[str, frozenset[str]]:
        """For each node, the nodes that must be done before it: inputs, guards, `after`, and its scopes' lists."""
        by_scope = {scope.name: frozenset(_scope_needs(scope)) for scope in self.scopes}
        return {
            node.name: frozenset(node.after).union(
                *(_names(argument) for argument in node.inputs.values()),
                *(_names(guard.value) for guard in node.guards),
                *(by_scope[scope] for scope in self.scopes_of(node.scope)),
            )
            for node in self.nodes
        }

    def order(self) -> tuple[str, ...]:
        """Node names, every one after what it needs; ties in the order they were written."""
        position = {node.name: at for at, node in enumerate(self.nodes)}
        sorter = TopologicalSorter(self.needs())
        sorter.prepare()
        result: list[str] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=position.__getitem__)
            result += ready
            sorter.done(*ready)
        return tuple(result)

    def downstream(self, *names: str) -> frozenset[str]:
        """The given nodes and everything that needs them, directly or not."""
        needs = self.needs()
        reached = set(names)
        for name in self.order():
            if needs[name] & reached:
                reached.add(name)
        return frozenset(reached)


class _Head(msgspec.Struct):
    format: int = FORMAT


def outputs_in(argument: Argument | None) -> Iterator[Output]:
    """Every reference to a node inside an argument."""
    match argument:
        case Output():
            yield argument
        case Many() | Mapping() | Fields():
            for item in argument.items:
                yield from outputs_in(item)
        case _:
            return


def _names(argument: Argument) -> set[str]:
    return {output.node for output in outputs_in(argument)}


def _scope_needs(scope: Scope) -> set[str]:
    needs: set[str] = set()
    for argument in scope.over.values():
        needs |= _names(argument)
    for guard in scope.guards:
        needs |= _names(guard.value)
    return needs


def _is_in_order(graph: Graph) -> bool:
    """Whether every node is written after what it needs, as a trace writes them: then nothing waits in a circle."""
    seen: set[str] = set()
    for name, needed in graph.needs().items():
        if not needed <= seen:
            return False
        seen.add(name)
    return True


def _faults(graph: Graph) -> Iterator[DefinitionError]:
    places = {node.name: node.where for node in graph.nodes}
    if len(places) < len(graph.nodes):
        seen: set[str] = set()
        for node in graph.nodes:
            if node.name in seen:
                yield DefinitionError(
                    f"two steps are named '{node.name}'",
                    where=node.where,
                    hint='give one of them another name with .named("…")',
                )
            seen.add(node.name)
    for node in graph.nodes:
        for name in (*node.after, *(o.node for a in node.inputs.values() for o in outputs_in(a))):
            if name not in places:
                yield DefinitionError(
                    f"step '{node.name}' needs '{name}', which is not in the pipeline", where=node.where
                )
                return
    if _is_in_order(graph):
        return
    try:
        graph.order()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        yield DefinitionError(
            "these steps wait for each other: " + " → ".join(cycle),
            where=places.get(cycle[0]),
            hint="remove one of the .after() calls between them",
        )
