"""Steps whose failure must not stop Kubeflow, because something that waits for them still has to run.

Kubeflow starts nothing that waits for a failed task, and nothing that waits for those. In penstock a step may run all
the same: it takes an optional input from a step that a condition skips, and that one also needs what has failed; or it
collects one step of a map while another one, beside it, has failed. A container of such a failing step ends well, with
`state: failed` in what it tells Kubeflow; the end of the run makes the run fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from itertools import product

from ...graph import Graph, Guard, Node, Output, Scope, outputs_in
from .places import Entry, Layout, Place

RUNS, SKIPPED, BLOCKED = "runs", "skipped", "blocked"
_MOST_LOOKS = 5_000_000  # at one step under one set of answers; beyond, every candidate is taken for one
Answers = Mapping[str, str]  # what a condition looks at -> its value


def go_on_after(layout: Layout) -> frozenset[str]:
    """Names of the steps whose failure must not stop Kubeflow."""
    graph = layout.graph
    skips = any(node.guards for node in graph.nodes)
    if not skips and not graph.scopes:
        return frozenset()
    before, order = _waits(layout), graph.order()
    needed = _needed(graph, order)
    suspects = [
        node.name for node in graph.nodes if (skips and _forgives(node)) or not before[node.name] <= needed[node.name]
    ]
    found: set[str] = set()
    for suspect in suspects:
        around = before[suspect] | needed[suspect] | {suspect}
        cone = _Cone(graph, [name for name in order if name in around])
        found |= cone.stoppers(suspect, before[suspect])
    return frozenset(found)


def _needed(graph: Graph, order: tuple[str, ...]) -> dict[str, set[str]]:
    """For each node, all that it needs, directly or not."""
    needs, found = graph.needs(), dict[str, set[str]]()
    for name in order:
        found[name] = set(needs[name]).union(*(found[each] for each in needs[name]))
    return found


def _forgives(node: Node) -> bool:
    return bool(node.after) or any(output.optional for each in node.inputs.values() for output in outputs_in(each))


def _chain(place: Place, task: str) -> Iterator[tuple[Place, str]]:
    """A task in its DAG, and each DAG around it in its own."""
    at: Place | None = place
    while at is not None:
        yield at, task
        task, at = at.task, at.above


def _waits(layout: Layout) -> dict[str, set[str]]:
    """For each node, all nodes whose failure keeps Kubeflow from starting it."""
    known: dict[str, dict[str, set[str]]] = {}  # task of a DAG -> task in it -> nodes before that one

    def before(place: Place, task: str) -> set[str]:
        if place.task not in known:
            found = known[place.task] = {}
            waits = {each: entry.after for each, entry in place.entries.items()}
            for each in TopologicalSorter(waits).static_order():
                found[each] = set().union(*(found[other] | _inside(place.entries[other]) for other in waits[each]))
        return known[place.task][task]

    return {
        name: set().union(*(before(at, task) for at, task in _chain(place, layout.tasks[name])))
        for name, place in layout.of.items()
    }


def _inside(entry: Entry) -> set[str]:
    if entry.node is not None:
        return {entry.node.name}
    if entry.place is None:
        return set()
    return {each.node.name for place in entry.place.walk() for each in place.entries.values() if each.node is not None}


class _Cone:
    """A step and all that comes before it: what becomes of each, given answers to conditions and one failure."""

    def __init__(self, graph: Graph, order: list[str]) -> None:
        self._nodes = {node.name: node for node in graph.nodes}
        scopes = {scope.name: scope for scope in graph.scopes}
        self._scopes = {name: [scopes[each] for each in graph.scopes_of(self._nodes[name].scope)] for name in order}
        self._order = order
        self._domains = self._asked()

    def stoppers(self, suspect: str, before: set[str]) -> set[str]:
        """Those before the suspect after whose failure it may have to run."""
        trials = len(before)
        for domain in self._domains.values():
            trials *= len(domain)
        if trials * len(self._order) > _MOST_LOOKS:
            return set(before)
        found: set[str] = set()
        for values in product(*self._domains.values()):
            answers = dict(zip(self._domains, values, strict=True))
            calm = self._states(answers, None)
            for name in before - found:
                if calm[name] == RUNS and self._states(answers, name)[suspect] == RUNS:
                    found.add(name)
        return found

    def _asked(self) -> dict[str, list[str]]:
        """What conditions look at -> the values that make a difference."""
        found: dict[str, set[str]] = {}
        for name in self._order:
            for guard in (*self._nodes[name].guards, *(guard for each in self._scopes[name] for guard in each.guards)):
                found.setdefault(_asks(guard), set()).add(guard.equals)
        yes_no = {"true", "false"}
        return {asked: sorted(values | (yes_no if values <= yes_no else {""})) for asked, values in found.items()}

    def _states(self, answers: Answers, failing: str | None) -> dict[str, str]:
        states: dict[str, str] = {}
        for name in self._order:
            states[name] = BLOCKED if name == failing else self._state(self._nodes[name], answers, states)
        return states

    def _state(self, node: Node, answers: Answers, states: dict[str, str]) -> str:
        """As the launcher decides it: guards first, then the order without data, then inputs, where a skip wins."""
        for scope in self._scopes[node.name]:
            if (held := _of_scope(scope, answers, states)) != RUNS:
                return held
        if (held := _of_guards(node.guards, answers, states)) != RUNS:
            return held
        if any(states.get(name, RUNS) == BLOCKED for name in node.after):
            return BLOCKED
        return _of_inputs([o for each in node.inputs.values() for o in outputs_in(each)], states)


def _asks(guard: Guard) -> str:
    return repr(guard.value)


def _of_scope(scope: Scope, answers: Answers, states: dict[str, str]) -> str:
    held = _of_guards(scope.guards, answers, states)
    return held if held != RUNS else _of_inputs([o for each in scope.over.values() for o in outputs_in(each)], states)


def _of_guards(guards: tuple[Guard, ...], answers: Answers, states: dict[str, str]) -> str:
    for guard in guards:
        for output in outputs_in(guard.value):
            if (state := states.get(output.node, RUNS)) != RUNS:
                return state
        if answers[_asks(guard)] != guard.equals:
            return SKIPPED
    return RUNS


def _of_inputs(outputs: list[Output], states: dict[str, str]) -> str:
    found = [(states.get(output.node, RUNS), output.optional) for output in outputs]
    if any(state == SKIPPED and not optional for state, optional in found):
        return SKIPPED
    return BLOCKED if any(state == BLOCKED for state, _ in found) else RUNS
