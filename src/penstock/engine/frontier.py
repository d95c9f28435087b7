"""What may start next: a pure walk over the graph as instances finish and scopes learn their sizes.

Two kinds of items become ready: a step instance, and a scope whose lists are known and which may be expanded. An item
waits for *groups*: (node, index prefix) is complete when every instance below that prefix is done. Costs O(1) per
edge, so that ten thousand elements are no quadratic loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from ..graph import Graph, Node, Scope, outputs_in

Group = tuple[str, str]  # node, index prefix


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
        self._complete: set[Group] = set()
        self.ready: deque[Item] = deque()
        self._open(None, "")

    def finished(self, node: str, index: str) -> None:
        """An instance is done, in whatever way."""
        self._completed((node, index))

    def expanded(self, scope: str, index: str, size: int) -> list[str]:
        """A scope learned its size at the index of its parent; returns the nodes inside."""
        inside = [name for name, chain in self._chains.items() if scope in chain]
        if size == 0:
            for name in inside:
                self._completed((name, index))
            return inside
        for name in inside:
            self._children_left[name, index] = size
        for position in range(size):
            self._open(scope, child(index, position))
        return inside

    def closed(self, scope: str, index: str) -> list[str]:
        """A scope will never be expanded here; returns the nodes inside, each done at this index."""
        inside = [name for name, chain in self._chains.items() if scope in chain]
        for name in inside:
            self._completed((name, index))
        return inside

    @property
    def waiting(self) -> Iterator[Item]:
        """Items whose needs are not complete."""
        return iter(self._waiting)

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
            if group not in self._complete:
                self._waiters.setdefault(group, []).append(item)
                missing += 1
        if missing:
            self._waiting[item] = missing
        else:
            self.ready.append(item)

    def _completed(self, group: Group) -> None:
        while group not in self._complete:
            self._complete.add(group)
            for item in self._waiters.pop(group, ()):
                self._waiting[item] -= 1
                if not self._waiting[item]:
                    del self._waiting[item]
                    self.ready.append(item)
            if not group[1]:
                return
            group = (group[0], group[1].rpartition(".")[0])
            if group not in self._children_left:
                return
            self._children_left[group] -= 1
            if self._children_left[group]:
                return


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
