"""Which conditions Kubeflow decides itself, so that what they hold back costs no container and is shown as skipped.

Kubeflow starts nothing that waits for a task it skipped. So a condition is left to it only where nobody outside waits
for the steps under it; everywhere else their containers start, and the launcher skips them.
"""

from __future__ import annotations

from ...graph import Graph, Guard, Node, Output, outputs_in


class Conditions:
    """The conditions of a graph, by the step that each looks at and the name under which it tells Kubeflow of it."""

    def __init__(self, graph: Graph) -> None:
        self._names = [node.name for node in graph.nodes]
        self._looked: dict[str, dict[tuple[str | None, str], Guard]] = {}
        for guard in (guard for node in graph.nodes for guard in node.guards):
            if isinstance(guard.value, Output):
                self._looked.setdefault(guard.value.node, {})[guard.value.field, guard.equals] = guard

    def on(self, node: str) -> dict[str, Guard]:
        """Conditions on what a node returns: "when-1", "when-2", …"""
        return {f"when-{number}": guard for number, guard in enumerate(self._looked.get(node, {}).values(), 1)}

    def key(self, guard: Guard) -> tuple[str, str]:
        """The node that a condition looks at, and its name there."""
        assert isinstance(guard.value, Output)
        looked = self._looked[guard.value.node]
        return guard.value.node, f"when-{list(looked).index((guard.value.field, guard.equals)) + 1}"

    def told(self, decided: dict[str, tuple[Guard, ...]]) -> dict[str, list[str]]:
        """For each node, the names of the conditions on it that Kubeflow decides."""
        found: dict[str, list[str]] = {name: [] for name in self._names}
        for guards in dict.fromkeys(decided.values()):
            for guard in guards:
                node, key = self.key(guard)
                if key not in found[node]:
                    found[node].append(key)
        return found


def decided_by_kubeflow(graph: Graph) -> dict[str, tuple[Guard, ...]]:
    """Nodes that stand under a condition of Kubeflow's -> that condition."""
    nodes = {node.name: node for node in graph.nodes}
    groups: dict[tuple[str | None, tuple[Guard, ...]], list[Node]] = {}
    for node in graph.nodes:
        if node.guards and all(_is_plain(guard, node, nodes) for guard in node.guards):
            groups.setdefault((node.scope, node.guards), []).append(node)
    if not groups:
        return {}
    takers, needs, order = _takers(graph), graph.needs(), graph.order()
    found: dict[str, tuple[Guard, ...]] = {}
    for (_, guards), members in groups.items():
        every = _with_those_after(members, nodes, takers)
        if every is not None and _need_the_same(every, needs, order):
            found |= dict.fromkeys(every, guards)
    return found


def _is_plain(guard: Guard, node: Node, nodes: dict[str, Node]) -> bool:
    """Whether it looks at one value of one step that stands in the same DAG."""
    return isinstance(guard.value, Output) and nodes[guard.value.node].scope == node.scope


def _takers(graph: Graph) -> dict[str, list[tuple[str, str | None, bool]]]:
    """A node -> who waits for it: a node or "scope:NAME", its map, and whether a skipped one holds it back."""
    found: dict[str, list[tuple[str, str | None, bool]]] = {}
    for node in graph.nodes:
        for argument in node.inputs.values():
            for output in outputs_in(argument):
                found.setdefault(output.node, []).append((node.name, node.scope, not output.optional))
        for guard in node.guards:
            for output in outputs_in(guard.value):
                found.setdefault(output.node, []).append((node.name, node.scope, True))
        for name in node.after:
            found.setdefault(name, []).append((node.name, node.scope, False))
    for scope in graph.scopes:
        for argument in (*scope.over.values(), *(guard.value for guard in scope.guards)):
            for output in outputs_in(argument):
                found.setdefault(output.node, []).append((f"scope:{scope.name}", scope.parent, False))
    return found


def _with_those_after(
    group: list[Node], nodes: dict[str, Node], takers: dict[str, list[tuple[str, str | None, bool]]]
) -> set[str] | None:
    """The nodes and all that are skipped with them; None where somebody else waits for one."""
    scope, guards = group[0].scope, group[0].guards
    found = [node.name for node in group]
    members = set(found)
    for name in found:
        for taker, where, is_held_back in takers.get(name, ()):
            if taker in members:
                continue
            if where != scope or not is_held_back or nodes[taker].guards not in ((), guards):
                return None
            found.append(taker)
            members.add(taker)
    return members


def _need_the_same(members: set[str], needs: dict[str, frozenset[str]], order: tuple[str, ...]) -> bool:
    """Whether all of them need the same steps outside. Otherwise one of these could fail and hold back, with the whole
    group, a step that does not need it."""
    outside: dict[str, set[str]] = {}
    for name in order:
        if name in members:
            theirs = (outside[each] for each in needs[name] & members)
            outside[name] = set(needs[name] - members).union(*theirs)
    return len({frozenset(each) for each in outside.values()}) == 1
