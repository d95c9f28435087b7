"""What a graph means: a small interpreter of its own, written from the documents and not from the engine.

It foretells how a life that nothing happens to must end, from what was there when it began: the state, the attempts,
the value and the lineage of every step instance. It knows graphs, values and retry policies, and no engine, launcher,
frontier or store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

from penstock.core.canonical import digest_bytes, digest_json
from penstock.core.jsonvalue import dumps, loads
from penstock.graph import Argument, Fields, Graph, Guard, Item, Many, Node, Output, Param, Scope, Value
from penstock.graph import Mapping as MappingArgument
from penstock.ports.records import Failure, FailureClass
from penstock.testing.rules import delay_after

Key = tuple[str, str]  # step, index
SUCCEEDED, CACHED, FAILED, BLOCKED, SKIPPED = "succeeded", "cached", "failed", "upstream_failed", "skipped"


class Ending(NamedTuple):
    """How one instance must end."""

    state: str  # CACHED also where it may be the one that computes: see `same`
    attempts: int
    fields: dict[str, Any]  # output name -> value
    inputs: dict[str, list[str]] | None  # argument -> digests; None where it was decided in an earlier life
    same: str | None = None  # what it computes: of the instances that compute the same, one does and the others take it


class Closed(NamedTuple):
    """A map that will not be expanded: its instances end here."""

    state: str


class _No(Exception):
    """An argument has no value, because something is SKIPPED or BLOCKED."""

    def __init__(self, state: str) -> None:
        self.state = state


class _Given:
    """A value: one thing that was stored, or put together from `parts` by the graph."""

    def __init__(self, value: Any, parts: list[_Given] | None = None, kind: str = "") -> None:
        self.value = value
        self.parts = parts
        self._kind = kind

    @classmethod
    def together(cls, parts: list[_Given], *, as_tuple: bool = False) -> _Given:
        values = [each.value for each in parts]
        return cls(tuple(values) if as_tuple else values, parts, "tuple" if as_tuple else "list")

    @property
    def digests(self) -> list[str]:
        """Of everything in it that was stored, in order: the edges of the lineage."""
        if self.parts is None:
            return [digest_bytes(dumps(self.value).encode())]
        return [digest for each in self.parts for digest in each.digests]

    @property
    def identity(self) -> Any:
        """What a cache key sees of it."""
        if self.parts is None:
            return self.digests[0]
        names = [*self.value] if isinstance(self.value, dict) else []
        return [self._kind, names, [each.identity for each in self.parts]]

    def element(self, at: int) -> _Given:
        return _Given(self.value[at]) if self.parts is None else self.parts[at]


class Before(NamedTuple):
    """What a life finds."""

    done: Mapping[Key, str]  # instances with outputs, and their state
    attempts: Mapping[Key, int]
    computed: frozenset[str]  # what the cache has


class Reference:
    """Foretells one life of one run."""

    def __init__(
        self,
        graph: Graph,
        parameters: Mapping[str, str],
        functions: Mapping[str, Callable[..., Any]],
        behaviour: Callable[[str, str, int], BaseException | None],
        before: Before,
        *,
        cache: bool,
    ) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        self._scopes = {scope.name: scope for scope in graph.scopes}
        self._parameters = {name: _Given(loads(text)) for name, text in parameters.items()}
        self._functions = functions
        self._behaviour = behaviour
        self._before = before
        self._cache = cache
        self._sizes: dict[Key, int | Closed] = {}
        self.endings: dict[Key, Ending] = {}
        for node in graph.nodes:
            self._instances(node, "", list(graph.scopes_of(node.scope)))

    def result(self) -> Any:
        """What the pipeline returned; None where it returns nothing that is there."""
        try:
            return None if self._graph.result is None else self._value(self._graph.result, "", ()).value
        except _No:
            return None

    # -- instances -----------------------------------------------------------------------------------------------

    def _instances(self, node: Node, index: str, scopes: list[str]) -> Any:
        """Every ending of a node below an index: one, or a list per map, in order."""
        if not scopes:
            return self._ending(node, index)
        size = self._size(self._scopes[scopes[0]], index)
        if isinstance(size, Closed):
            return self.endings.setdefault(
                (node.name, index), Ending(size.state, self._tried(node.name, index), {}, None)
            )
        return [self._instances(node, f"{index}.{at}" if index else str(at), scopes[1:]) for at in range(size)]

    def _size(self, scope: Scope, index: str) -> int | Closed:
        if (scope.name, index) not in self._sizes:
            self._sizes[scope.name, index] = self._sized(scope, index)
        return self._sizes[scope.name, index]

    def _sized(self, scope: Scope, index: str) -> int | Closed:
        chain = self._graph.scopes_of(scope.parent)
        try:
            self._obey(scope.guards, index, chain)
            sizes = {len(value.value) for value in self._all(scope.over, index, chain).values()}
        except _No as no:
            return Closed(no.state)
        return sizes.pop() if len(sizes) == 1 else Closed(BLOCKED)

    def _ending(self, node: Node, index: str) -> Ending:
        if (node.name, index) not in self.endings:
            self.endings[node.name, index] = self._ended(node, index)
        return self.endings[node.name, index]

    def _tried(self, name: str, index: str) -> int:
        return self._before.attempts.get((name, index), 0)

    def _ended(self, node: Node, index: str) -> Ending:
        key, tried = (node.name, index), self._tried(node.name, index)
        chain = self._graph.scopes_of(node.scope)
        try:
            self._obey(node.guards, index, chain)
            self._wait(node, index, chain)
            given = self._all(node.inputs, index, chain)
        except _No as no:
            return Ending(no.state, tried, {}, None)
        fields = self._called(node, {name: each.value for name, each in given.items()})
        inputs = {name: each.digests for name, each in given.items()}
        same = None
        if self._cache and node.options.cache:
            same = digest_json([node.target, {name: each.identity for name, each in given.items()}])
        if key in self._before.done:
            return Ending(self._before.done[key], tried, fields, None, same)
        if same in self._before.computed:
            return Ending(CACHED, tried, fields, inputs, same)
        if node.options.effect == "at-most-once" and tried:
            return Ending(FAILED, tried + 1, {}, None)
        state, attempts = self._attempted(node, index, tried)
        return Ending(state, attempts, fields if state == SUCCEEDED else {}, inputs, same)

    def _attempted(self, node: Node, index: str, tried: int) -> tuple[str, int]:
        policy = node.options.retry if node.options.effect != "at-most-once" else None
        for nth in range(1, 1000):
            error = self._behaviour(node.name, index, tried + nth)
            if error is None:
                return SUCCEEDED, tried + nth
            names = tuple(f"{cls.__module__}:{cls.__qualname__}" for cls in type(error).__mro__ if cls is not object)
            kind = FailureClass.OUT_OF_MEMORY if isinstance(error, MemoryError) else FailureClass.ERROR
            if delay_after(policy, Failure(kind, "", names), nth, "") is None:
                return FAILED, tried + nth
        raise AssertionError(f"{node.name} never ends")

    def _called(self, node: Node, arguments: dict[str, Any]) -> dict[str, Any]:
        with redirect_stdout(StringIO()):
            result = self._functions[node.target](**arguments)
        if not node.several:
            return {node.outputs[0]: result}
        return {name: getattr(result, name) for name in node.outputs}

    # -- conditions ----------------------------------------------------------------------------------------------

    def _obey(self, guards: tuple[Guard, ...], index: str, chain: tuple[str, ...]) -> None:
        for guard in guards:
            if dumps(self._value(guard.value, index, chain).value) != guard.equals:
                raise _No(SKIPPED)

    def _wait(self, node: Node, index: str, chain: tuple[str, ...]) -> None:
        """A step placed after others waits for them; a skipped one has been waited for."""
        for name in node.after:
            if any(each.state in (FAILED, BLOCKED) for each in _flat(self._seen_from(name, index, chain))):
                raise _No(BLOCKED)

    # -- values --------------------------------------------------------------------------------------------------

    def _all(self, arguments: Mapping[str, Argument], index: str, chain: tuple[str, ...]) -> dict[str, _Given]:
        """Every argument. A skipped one will never be there, whatever becomes of a failed one: it decides."""
        found: dict[str, _Given] = {}
        wrong: set[str] = set()
        for name, argument in arguments.items():
            try:
                found[name] = self._value(argument, index, chain)
            except _No as no:
                wrong.add(no.state)
        if wrong:
            raise _No(SKIPPED if SKIPPED in wrong else BLOCKED)
        return found

    def _value(self, argument: Argument, index: str, chain: tuple[str, ...]) -> _Given:
        match argument:
            case Value(text):
                return _Given(loads(text))
            case Param(name):
                return self._parameters[name]
            case Item(scope, name):
                depth = len(self._graph.scopes_of(scope))
                *outer, at = index.split(".")[:depth]
                declared = self._scopes[scope]
                outside = self._graph.scopes_of(declared.parent)
                return self._value(declared.over[name], ".".join(outer), outside).element(int(at))
            case Output():
                return self._output(argument, self._seen_from(argument.node, index, chain))
            case Many(items, as_tuple):
                parts = self._all({str(at): each for at, each in enumerate(items)}, index, chain)
                return _Given.together(list(parts.values()), as_tuple=as_tuple)
            case MappingArgument(keys, items):
                named = self._all(dict(zip(keys, items, strict=True)), index, chain)
                return _Given({key: each.value for key, each in named.items()}, list(named.values()), "dict")
            case Fields():
                raise AssertionError("no pipeline here returns named results")
        raise AssertionError(argument)

    def _seen_from(self, name: str, index: str, chain: tuple[str, ...]) -> Any:
        """The endings of a node, as an instance elsewhere sees them: in shared maps, those of the same element."""
        theirs = self._graph.scopes_of(self._nodes[name].scope)
        shared = 0
        while shared < min(len(chain), len(theirs)) and chain[shared] == theirs[shared]:
            shared += 1
        prefix = ".".join(index.split(".")[:shared]) if shared else ""
        return self._instances(self._nodes[name], prefix, list(theirs[shared:]))

    def _output(self, output: Output, seen: Any) -> _Given:
        """What an output looks like from outside its maps: a list per map that is left."""
        if isinstance(seen, list):
            found, wrong = [], set()
            for each in seen:
                try:
                    found.append(self._output(output, each))
                except _No as no:
                    wrong.add(no.state)
            if wrong:
                raise _No(SKIPPED if SKIPPED in wrong else BLOCKED)
            return _Given.together(found)
        if seen.state == SKIPPED:
            if output.optional:
                return _Given(None)
            raise _No(SKIPPED)
        if not seen.fields:
            raise _No(BLOCKED)
        node = self._nodes[output.node]
        if output.field is not None or not node.several:
            return _Given(seen.fields[output.field or node.outputs[0]])
        parts = [_Given(seen.fields[name]) for name in node.outputs]
        whole = self._whole(node)(*(each.value for each in parts))
        return _Given(whole, parts, f"record {node.target}")

    def _whole(self, node: Node) -> Callable[..., Any]:
        found: Callable[..., Any] = self._functions[node.target].__annotations__["return"]
        return found


def _flat(seen: Any) -> list[Ending]:
    return [ending for each in seen for ending in _flat(each)] if isinstance(seen, list) else [seen]
