"""What a pipeline asks of whoever runs it, as a list that a backend answers row by row: supported, emulated or refused.

A feature is named by the option that asks for it ("retry.jitter", "limits.memory") or by the form of the graph ("map",
"guard"). Options are walked field by field, so that one that is added tomorrow is a feature of its own at once, which
no backend has declared: it is refused until somebody says how it is kept. Nothing can be forgotten silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, get_args

import msgspec

from ..core.location import Location
from .graph import (
    Argument,
    Fields,
    Graph,
    Guard,
    Item,
    Many,
    Mapping,
    Node,
    Output,
    Param,
    Parameter,
    Scope,
    Secret,
    Value,
)
from .options import Growth, Quarantine, RetryPolicy, StepOptions

# A field -> the word for it in a feature's name, where they differ.
_WORDS = {
    "timeout_s": "timeout",
    "base_s": "base",
    "cap_s": "cap",
    "memory_bytes": "memory",
    "cap_bytes": "cap",
    "quarantine": "on_invalid",
}

# What the form of a graph asks for, and what it means. Options name themselves.
FORMS: dict[str, str] = {
    "steps": "steps that run one after the other",
    "steps in parallel": "branches that do not wait for each other",
    "several outputs": "a step that returns a NamedTuple or dataclass, one handle per field",
    "nested pipeline": "a pipeline called inside another one",
    "map": "a fan-out over a list",
    "map.of a step's output": "a list whose length is known when a step has run",
    "map.nested": "a fan-out inside a fan-out",
    "map.several lists": "lists that are taken side by side",
    "map.max_size": "a declared limit to a map's size",
    "guard": "steps under a condition",
    "guard.inside a map": "a condition of each element",
    "optional input": "an input that may have been skipped, and is None then",
    "after": "an order without data",
    "secret": "a value that is resolved where the step runs, and never stored",
    "parameters": "values that are given when a run starts",
    "parameters.static": "values that are fixed when the pipeline is compiled",
    "result": "what the pipeline returns",
    "tags": "labels that are kept with every run",
    "notebook function": "a step that is in no file, and travels by value",
}

# Fields that name things, or that `FORMS` speaks of. Every other field of the graph's records is a feature.
_STRUCTURE: dict[str, frozenset[str]] = {
    "Graph": frozenset({"pipeline", "target", "nodes", "scopes", "parameters", "result", "tags", "format"}),
    "Node": frozenset(
        {
            "name", "target", "inputs", "outputs", "several", "scope", "guards", "after", "options", "where", "payload",
            "returns", "types",
        }
    ),
    "Scope": frozenset({"name", "over", "parent", "max_size", "guards", "where"}),
    "Parameter": frozenset({"name", "annotation", "default", "static", "secret"}),
}  # fmt: skip


class Demand(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that one step, map or pipeline asks for."""

    feature: str
    subject: str  # the step or map; "" for the pipeline itself
    value: str = ""  # as people read it: "full", "30 s", "3"
    where: Location | None = None
    raw: Any = None  # the option's value itself

    @property
    def name(self) -> str:
        """What `--accept` takes: step.feature, or the feature alone for the pipeline."""
        return f"{self.subject}.{self.feature}" if self.subject else self.feature


def demands(graph: Graph) -> list[Demand]:
    """Everything this pipeline asks for, the pipeline's own first, then step by step in the order written."""
    return [*_of_pipeline(graph), *_of_scopes(graph), *(each for node in graph.nodes for each in _of_node(graph, node))]


def features() -> dict[str, str]:
    """Every feature that there is -> what it means; options by introspection of their records."""
    found = dict(FORMS)
    for record, prefix in ((StepOptions, ""), (Graph, ""), (Node, ""), (Scope, "map."), (Parameter, "parameters.")):
        for feature, field in _fields(record, prefix):
            found.setdefault(feature, f"the option {field}")
    return found


# -- the form ----------------------------------------------------------------------------------------------------------


def _of_pipeline(graph: Graph) -> Iterator[Demand]:
    where = next((node.where for node in graph.nodes if node.where is not None), None)
    yield Demand("steps", "", str(len(graph.nodes)), where)
    if _is_parallel(graph):
        yield Demand("steps in parallel", "", "", where)
    given = [each for each in graph.parameters if not each.static]
    if given:
        yield Demand("parameters", "", ", ".join(each.name for each in given), where)
    if fixed := [each.name for each in graph.parameters if each.static]:
        yield Demand("parameters.static", "", ", ".join(fixed), where)
    if hidden := [each.name for each in graph.parameters if each.secret]:
        yield Demand("secret", "", ", ".join(hidden), where)
    if graph.result is not None:
        yield Demand("result", "", "", where)
    if graph.tags:
        yield Demand("tags", "", ", ".join(f"{name}={value}" for name, value in graph.tags.items()), where)
    if nested := sorted({node.name.rpartition("/")[0] for node in graph.nodes if "/" in node.name}):
        yield Demand("nested pipeline", "", ", ".join(nested), where)
    for each in graph.parameters:
        yield from _of_options(each, each.name, "parameters.", where)
    yield from _of_options(graph, "", "", where)


def _of_scopes(graph: Graph) -> Iterator[Demand]:
    for scope in graph.scopes:
        over = list(scope.over.values())
        yield Demand("map", scope.name, ", ".join(scope.over), scope.where, scope)
        if any(_references(each, Output) for each in over):
            yield Demand("map.of a step's output", scope.name, "", scope.where, scope)
        if scope.parent is not None:
            yield Demand("map.nested", scope.name, f"in {scope.parent}", scope.where, scope)
        if len(over) > 1:
            yield Demand("map.several lists", scope.name, ", ".join(scope.over), scope.where, scope)
        if scope.max_size is not None:
            yield Demand("map.max_size", scope.name, str(scope.max_size), scope.where, scope.max_size)
        if scope.guards:
            feature = "guard" if scope.parent is None else "guard.inside a map"
            yield Demand(feature, scope.name, _shown_guards(scope.guards), scope.where, scope.guards)
        yield from _of_options(scope, scope.name, "map.", scope.where)


def _of_node(graph: Graph, node: Node) -> Iterator[Demand]:
    if node.several:
        yield Demand("several outputs", node.name, ", ".join(node.outputs), node.where)
    if node.guards:
        feature = "guard" if node.scope is None else "guard.inside a map"
        yield Demand(feature, node.name, _shown_guards(node.guards), node.where, node.guards)
    optional = [name for name, each in node.inputs.items() if any(o.optional for o in _found(each, Output))]
    if optional:
        yield Demand("optional input", node.name, ", ".join(optional), node.where)
    if node.after:
        yield Demand("after", node.name, ", ".join(node.after), node.where)
    if node.payload is not None:
        yield Demand("notebook function", node.name, node.target, node.where)
    secrets = [each.name for argument in node.inputs.values() for each in _found(argument, Secret)]
    named = {each.name for each in graph.parameters if each.secret}
    secrets += [
        each.name for argument in node.inputs.values() for each in _found(argument, Param) if each.name in named
    ]
    if secrets:
        yield Demand("secret", node.name, ", ".join(secrets), node.where)
    yield from _of_options(node.options, node.name, "", node.where)
    yield from _of_options(node, node.name, "", node.where)


def _is_parallel(graph: Graph) -> bool:
    """Whether any two steps may run at the same time: somebody is not waited for by the next one written."""
    if graph.scopes:
        return True
    needs = graph.needs()
    order = graph.order()
    return any(before not in needs[name] for before, name in pairwise(order))


# -- options -----------------------------------------------------------------------------------------------------------


_ALWAYS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    RetryPolicy: ("attempts", "base_s", "factor", "cap_s"),
    Growth: ("factor",),
    Quarantine: ("max_fraction",),
}


def _of_options(record: Any, subject: str, prefix: str, where: Location | None) -> Iterator[Demand]:
    """A demand for each field that says something; some do by being there at all, such as how long a retry waits."""
    always = _ALWAYS.get(type(record), ())
    if isinstance(record, RetryPolicy) and record.attempts < 2:
        return
    structure = _STRUCTURE.get(type(record).__name__, frozenset())
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if field.name in structure or (value == field.default and field.name not in always):
            continue
        feature = prefix + _WORDS.get(field.name, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _of_options(value, subject, f"{feature}.", where)
        else:
            yield Demand(feature, subject, _shown(field.name, value), where, value)


def _fields(record: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, str]]:
    """(feature, field) of a record and of the records inside it."""
    structure = _STRUCTURE.get(record.__name__, frozenset())
    for field in msgspec.structs.fields(record):
        if field.name in structure:
            continue
        feature = prefix + _WORDS.get(field.name, field.name)
        inner = _record_in(field.type)
        if inner is None:
            yield feature, f"{record.__name__}.{field.name}"
        else:
            yield from _fields(inner, f"{feature}.")


def _record_in(annotation: Any) -> type[msgspec.Struct] | None:
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each
    return None


def _shown(field: str, value: Any) -> str:
    if field.endswith("_s"):
        return f"{value:g} s"
    if isinstance(value, tuple):
        return ", ".join(str(each).removeprefix("builtins:") for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- arguments ---------------------------------------------------------------------------------------------------------


def _found(argument: Argument, kind: type[Any]) -> Iterator[Any]:
    match argument:
        case Many() | Mapping() | Fields():
            for item in argument.items:
                yield from _found(item, kind)
        case Value() | Param() | Output() | Item() | Secret():
            if isinstance(argument, kind):
                yield argument


def _references(argument: Argument, kind: type[Any]) -> bool:
    return next(_found(argument, kind), None) is not None


def _shown_guards(guards: tuple[Guard, ...]) -> str:
    def one(guard: Guard) -> str:
        match guard.value:
            case Output(node, field):
                name = f"{node}.{field}" if field else node
            case Param(name) | Item(_, name):
                pass
            case _:
                name = "the condition"
        return name if guard.equals == "true" else f"{name} = {guard.equals}"

    return " and ".join(one(guard) for guard in guards)
