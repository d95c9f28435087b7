"""Steps whose failure must not stop Kubeflow, because something that waits for them still has to run.

Kubeflow starts nothing that waits for a failed task, and nothing that waits for those. In penstock a step may run all
the same: it takes an optional input from a step that a condition skips, and that one also needs what has failed; or it
collects one step of a map while another one, beside it, has failed; or it stands in a map, and only its neighbour there
needs what has failed. A container of such a failing step ends well, with `state: failed` in what it tells Kubeflow; the
end of the run makes the run fail.

What is found may be more than need be, never less: a condition is taken to come out either way wherever its step is not
itself after the failure. Sets of nodes are bits of whole numbers, so that a thousand steps take no second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from itertools import product

from ...graph import Graph, Guard, Output, outputs_in
from .places import Entry, Layout, Place

RUNS, SKIPPED, BLOCKED = "runs", "skipped", "blocked"
_MOST_LOOKS = 20_000  # at one step under one set of answers; beyond, a step is taken for one that must not stop it
_LOOKS_EACH = 200  # for each step of the pipeline, all in all
Answers = Mapping[str, str]  # what a condition looks at -> its value


def go_on_after(layout: Layout) -> frozenset[str]:
    """Names of the steps whose failure must not stop Kubeflow."""
    graph = layout.graph
    if not any(node.guards for node in graph.nodes) and not graph.scopes:
        return frozenset()
    return _GoingOn(layout).found()


class _GoingOn:
    def __init__(self, layout: Layout) -> None:
        graph = layout.graph
        self._nodes = {node.name: node for node in graph.nodes}
        self._order = graph.order()
        self._at = {name: 1 << number for number, name in enumerate(self._order)}
        self._needs = {name: self._bits(needs) for name, needs in graph.needs().items()}
        self._needed = self._all_needed()
        self._before = _waits(layout, self._at)
        self._rules = _Rules(graph, self._order)
        self._skippable = self._rules.skippable
        self._survives: dict[str, int] = {}  # node -> those after whose failure it may run
        self._looks = _LOOKS_EACH * len(self._order)

    def found(self) -> frozenset[str]:
        stoppers = 0
        for name in self._order:
            forgives = any(self._skippable[each] for each in self._rules.forgiven(name))
            if forgives or self._before[name] & ~self._needed[name]:
                self._survives[name] = self._tried(name)
                stoppers |= self._survives[name]
            else:
                self._survives[name] = self._passed_on(name)
        return frozenset(self._names(stoppers))

    def _passed_on(self, name: str) -> int:
        """Of a step that needs each of its needs: it survives what all of them survive that come after it."""
        found = self._needed[name]
        for need in self._names(self._needs[name]):
            found &= ~(self._needed[need] | self._at[need]) | self._survives[need]
        return found

    def _tried(self, name: str) -> int:
        """Nearest first: behind a step that keeps this one from running, and is never skipped, nothing new is met."""
        found, todo = 0, self._before[name]
        while todo:
            bit = 1 << (todo.bit_length() - 1)
            other = self._order[todo.bit_length() - 1]
            todo ^= bit
            if not self._needed[name] & bit:
                may_run = not self._rules.exclude(name, other)
            else:
                between = self._needed[name] & ~((bit << 1) - 1)
                self._looks -= between.bit_count() // 4
                if self._looks < 0:
                    return found | bit | todo
                cone = [each for each in self._names(between) if self._needed[each] & bit]
                may_run, looks = self._rules.may_run(name, other, cone, min(_MOST_LOOKS, self._looks))
                self._looks -= looks
            if may_run:
                found |= bit
            elif not self._skippable[other]:
                todo &= ~(self._needed[other] & ~self._survives[other])
        return found

    def _all_needed(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in self._order:
            found[name] = self._needs[name]
            for need in self._names(self._needs[name]):
                found[name] |= found[need]
        return found

    def _bits(self, names: frozenset[str]) -> int:
        return sum(self._at[name] for name in names)

    def _names(self, bits: int) -> Iterator[str]:
        """In order: what comes first has the lowest bit."""
        while bits:
            lowest = bits & -bits
            yield self._order[lowest.bit_length() - 1]
            bits ^= lowest


def _waits(layout: Layout, at: dict[str, int]) -> dict[str, int]:
    """For each node, all nodes whose failure keeps Kubeflow from starting it."""
    known: dict[str, dict[str, int]] = {}  # task of a DAG -> task in it -> nodes before that one

    def inside(entry: Entry) -> int:
        if entry.node is not None:
            return at[entry.node.name]
        return sum(inside(each) for each in entry.place.entries.values()) if entry.place is not None else 0

    def before(place: Place, task: str) -> int:
        if place.task not in known:
            found = known[place.task] = {}
            waits = {each: entry.after for each, entry in place.entries.items()}
            for each in TopologicalSorter(waits).static_order():
                found[each] = 0
                for other in waits[each]:
                    found[each] |= found[other] | inside(place.entries[other])
        return known[place.task][task]

    def around(place: Place, task: str) -> int:
        return before(place, task) | (around(place.above, place.task) if place.above is not None else 0)

    return {name: around(place, layout.tasks[name]) for name, place in layout.of.items()}


class _Rules:
    """The launcher's rules for one graph, without a run."""

    def __init__(self, graph: Graph, order: tuple[str, ...]) -> None:
        self._nodes = {node.name: node for node in graph.nodes}
        self._chains = {node.name: graph.scopes_of(node.scope) for node in graph.nodes}
        self._inputs: dict[str, list[Output]] = {}
        self._over: dict[str, list[Output]] = {}
        self._guards: dict[str, list[Guard]] = {}
        for node in graph.nodes:
            scopes = [graph.scope(each) for each in graph.scopes_of(node.scope)]
            self._inputs[node.name] = [o for each in node.inputs.values() for o in outputs_in(each)]
            self._over[node.name] = [o for scope in scopes for each in scope.over.values() for o in outputs_in(each)]
            self._guards[node.name] = [*(guard for scope in scopes for guard in scope.guards), *node.guards]
        self.skippable = self._skippable(order)

    def forgiven(self, name: str) -> list[str]:
        """Those that it takes for None, or is glad to come after, when they are skipped."""
        return [*self._nodes[name].after, *(output.node for output in self._inputs[name] if output.optional)]

    def _skippable(self, order: tuple[str, ...]) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for name in order:
            looked = [o.node for guard in self._guards[name] for o in outputs_in(guard.value)]
            taken = [o.node for o in (*self._inputs[name], *self._over[name]) if not o.optional]
            found[name] = bool(self._guards[name]) or any(found[each] for each in (*looked, *taken))
        return found

    def exclude(self, name: str, other: str) -> bool:
        """Whether no two answers let both run."""
        wanted = {_asks(guard): guard.equals for guard in self._guards[other]}
        return any(wanted.get(_asks(guard), guard.equals) != guard.equals for guard in self._guards[name])

    def may_run(self, name: str, failing: str, cone: list[str], most: int) -> tuple[bool, int]:
        """Whether a step may have to run though another has failed, and what it took to find out.

        cone: what lies between them
        """
        held = {_asks(guard): guard.equals for guard in self._guards[failing]}
        domains: dict[str, set[str]] = {}
        free: set[str] = set()
        for each in (*cone, name):
            for guard in self._guards[each]:
                domains.setdefault(_asks(guard), set()).add(guard.equals)
            free |= self._free(each, {failing, *cone})
        values = {asked: [held[asked]] if asked in held else _either(found) for asked, found in domains.items()}
        trials = (len(cone) + 1) << len(free)
        for domain in values.values():
            trials *= len(domain)
        if trials > most:
            return True, 0
        for chosen, flags in product(product(*values.values()), product((False, True), repeat=len(free))):
            answers = dict(zip(values, chosen, strict=True))
            skipped = {each for each, is_so in zip(sorted(free), flags, strict=True) if is_so}
            states = {failing: BLOCKED}
            for each in cone:
                states[each] = self._state(each, answers, states, skipped)
            if self._state(name, answers, states, skipped) == RUNS:
                return True, trials
        return False, trials

    def _free(self, name: str, around: set[str]) -> set[str]:
        """Those it needs that may be skipped whatever the answers are: they come not after the failure, or have other
        elements, which have answers of their own."""
        guarded = [o for guard in self._guards[name] for o in outputs_in(guard.value)]
        taken = [o for o in (*guarded, *self._over[name], *self._inputs[name]) if not o.optional]
        return {
            output.node
            for output in taken
            if self.skippable[output.node] and (output.node not in around or self._collects(name, output.node))
        }

    def _collects(self, name: str, other: str) -> bool:
        theirs = self._chains[other]
        return self._chains[name][: len(theirs)] != theirs

    def _state(self, name: str, answers: Answers, states: dict[str, str], skipped: set[str]) -> str:
        """As the launcher decides it: guards first, then the order without data, then inputs, where a skip wins."""

        def of(other: str) -> set[str]:
            if other in states and (other not in skipped or self._collects(name, other)):
                return {states[other], SKIPPED} if other in skipped else {states[other]}
            return {SKIPPED} if other in skipped else {RUNS}

        def taken(outputs: list[Output]) -> str:
            found = [(of(output.node), output.optional) for output in outputs]
            if any(SKIPPED in held and not optional for held, optional in found):
                return SKIPPED
            return BLOCKED if any(BLOCKED in held for held, _ in found) else RUNS

        if (held := taken(self._over[name])) != RUNS:
            return held
        for guard in self._guards[name]:
            if (held := taken(list(outputs_in(guard.value)))) != RUNS:
                return held
            if answers[_asks(guard)] != guard.equals:
                return SKIPPED
        if any(BLOCKED in of(each) for each in self._nodes[name].after):
            return BLOCKED
        return taken(self._inputs[name])


def _asks(guard: Guard) -> str:
    return repr(guard.value)


def _either(wanted: set[str]) -> list[str]:
    """Values that make a difference: those that are asked for, and another one."""
    yes_no = {"true", "false"}
    return sorted(wanted | (yes_no if wanted <= yes_no else {""}))
