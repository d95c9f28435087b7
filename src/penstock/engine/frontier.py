"""What may start next: a pure walk over the graph as instances finish and scopes learn their sizes.

Two kinds of items become ready: a step instance, and a scope whose lists are known and which may be expanded. An item
waits for *groups*: (node, index prefix) is complete when every instance below that prefix is done. Costs O(1) per
edge, so that ten thousand elements are no quadratic loop; and a map's elements are opened as they are asked for, so
that a million of them take the room of one byte each until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from ..graph import Graph, Node, Scope, outputs_in

Group = tuple[str, str]  # node, index prefix
_OPENED = 256  # elements at a time


class Item(msgspec.Struct, frozen=True, gc=False):
    """A step instance, or a scope at the index of its parent."""

    name: str
    index: str
    is_scope: bool = False


class Frontier:
    """Feed it `finished`, `expanded` and `closed`; take what is `ready`."""

    def __init__(self, graph: Graph) -> None:
        self._chains = {node.name: graph.scopes_of(node.scope) for node in graph.nodes}
        self._scope_chains = {scope.name: graph.scopes_of(scope.name) for scope in graph.scopes}
        self._nodes_in: dict[str | None, list[Node]] = {}
        self._scopes_in: dict[str | None, list[Scope]] = {}
        self._needs = {node.name: _node_needs(node) for node in graph.nodes}
        self._scope_needs = {scope.name: _scope_needs(scope) for scope in graph.scopes}
        for node in graph.nodes:
            self._nodes_in.setdefault(node.scope, []).append(node)
        for scope in graph.scopes:
            self._scopes_in.setdefault(scope.parent, []).append(scope)
        self._waiting: dict[Item, int] = {}
        self._waiters: dict[Group, list[Item]] = {}
        self._children_left: dict[Group, int] = {}
        self._complete: set[Group] = set()  # those that lie in no open group
        self._done: dict[Group, bytearray] = {}  # open group -> which of its children are complete
        self._unopened: deque[tuple[str, str, int, int]] = deque()  # scope, enclosing index, next position, size
        self.ready: deque[Item] = deque()
        self.held: set[str] = set()  # scopes whose next elements are not opened for now
        self._open(None, "")

    def finished(self, node: str, index: str) -> None:
        """An instance is done, in whatever way."""
        self._completed((node, index))

    def expanded(self, scope: str, index: str, size: int) -> list[str]:
        """A scope learned its size at the index of its parent; returns the nodes inside."""
        inside = self.inside(scope)
        if size == 0:
            for name in inside:
                self._completed((name, index))
            return inside
        for name in inside:
            self._children_left[name, index] = size
            self._done[name, index] = bytearray(size)
        self._unopened.append((scope, index, 0, size))
        return inside

    def inside(self, scope: str) -> list[str]:
        """The nodes in a scope, also those in scopes inside it."""
        return [name for name, chain in self._chains.items() if scope in chain]

    @property
    def has_ready(self) -> bool:
        """Whether `ready` holds anything, or would after `open_more`."""
        if self.ready or not self.held:
            return bool(self.ready or self._unopened)
        return any(scope not in self.held for scope, _, _, _ in self._unopened)

    def open_more(self) -> bool:
        """Fill `ready` with elements of maps that were expanded, where it is empty. Whether it holds anything."""
        left = len(self._unopened)
        while not self.ready and self._unopened and left:
            scope, index, start, size = self._unopened.popleft()
            if scope in self.held:
                self._unopened.append((scope, index, start, size))
                left -= 1
                continue
            end = min(start + _OPENED, size)
            if end < size:
                self._unopened.appendleft((scope, index, end, size))
            for position in range(start, end):
                self._open(scope, child(index, position))
        return bool(self.ready)

    def closed(self, scope: str, index: str) -> list[str]:
        """A scope will never be expanded here; returns the nodes inside, each done at this index."""
        inside = self.inside(scope)
        for name in inside:
            self._completed((name, index))
        return inside

    @property
    def waiting(self) -> Iterator[Item]:
        """Items whose needs are not complete, or that were not opened yet."""
        yield from self._waiting
        for scope, index, start, size in self._unopened:
            for position in range(start, size):
                for node in self._nodes_in.get(scope, ()):
                    yield Item(node.name, child(index, position))
                for inner in self._scopes_in.get(scope, ()):
                    yield Item(inner.name, child(index, position), is_scope=True)

    def _open(self, scope: str | None, index: str) -> None:
        for node in self._nodes_in.get(scope, ()):
            self._add(Item(node.name, index), self._needs[node.name], self._chains[node.name])
        for inner in self._scopes_in.get(scope, ()):
            chain = self._scope_chains[inner.name][:-1]
            self._add(Item(inner.name, index, is_scope=True), self._scope_needs[inner.name], chain)

    def _add(self, item: Item, needs: frozenset[str], chain: tuple[str, ...]) -> None:
        missing = 0
        for need in needs:
            group = (need, shared_prefix(item.index, chain, self._chains[need]))
            if not self._is_complete(group):
                self._waiters.setdefault(group, []).append(item)
                missing += 1
        if missing:
            self._waiting[item] = missing
        else:
            self.ready.append(item)

    def _is_complete(self, group: Group) -> bool:
        name, index = group
        while index:
            above, _, position = index.rpartition(".")
            done = self._done.get((name, above))
            if done is not None:
                return bool(done[int(position)])
            index = above  # what lies in a complete group is complete
        return (name, "") in self._complete

    def _completed(self, group: Group) -> None:
        while not self._is_complete(group):
            name, index = group
            above, _, position = index.rpartition(".")
            if index:
                self._done[name, above][int(position)] = 1
            else:
                self._complete.add(group)
            self._done.pop(group, None)
            for item in self._waiters.pop(group, ()):
                self._waiting[item] -= 1
                if not self._waiting[item]:
                    del self._waiting[item]
                    self.ready.append(item)
            if not index:
                return
            group = (name, above)
            self._children_left[group] -= 1
            if self._children_left[group]:
                return
            del self._children_left[group]


def child(index: str, position: int) -> str:
    """The index path one level deeper.

    >>> child("", 2), child("2", 0)
    ('2', '2.0')
    """
    return f"{index}.{position}" if index else str(position)


def shared_prefix(index: str, chain: tuple[str, ...], other: tuple[str, ...]) -> str:
    """The part of `index` that lies in the scopes which both chains have.

    >>> shared_prefix("2.0", ("shops", "days"), ("shops",))
    '2'
    """
    common = 0
    for left, right in zip(chain, other, strict=False):
        if left != right:
            break
        common += 1
    return ".".join(index.split(".")[:common]) if index and common else ""


def _node_needs(node: Node) -> frozenset[str]:
    names = {output.node for argument in node.inputs.values() for output in outputs_in(argument)}
    names |= {output.node for guard in node.guards for output in outputs_in(guard.value)}
    return frozenset(names | set(node.after))


def _scope_needs(scope: Scope) -> frozenset[str]:
    names = {output.node for argument in scope.over.values() for output in outputs_in(argument)}
    return frozenset(names | {output.node for guard in scope.guards for output in outputs_in(guard.value)})
