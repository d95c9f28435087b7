"""Where each step comes to stand: Kubeflow's DAGs inside each other, and who waits for whom in them.

    the pipeline
    ├── steps                   everything that runs; when it is over, however it ended,
    │   ├── load                an ordinary step
    │   ├── fits-list           asks how many elements a map has
    │   ├── fits-map            a ParallelFor over them, a DAG of its own for each element
    │   │   └── fits-fit
    │   └── when-gate           steps under a condition that Kubeflow may decide, a DAG of its own
    │       └── register
    └── end                     closes the run

A task waits for its neighbours in the same DAG only. So where a step needs one that stands deeper, it waits for the
whole map that this one stands in.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import msgspec

from ...graph import Graph, Guard, Node, Output, Scope, outputs_in
from .names import Names

END = "end"
STEPS = "steps"


class Entry(msgspec.Struct, eq=False):
    """One task of a DAG: a step, the list of a map, or a DAG inside it."""

    task: str
    node: Node | None = None
    listing: Scope | None = None
    place: Place | None = None
    after: set[str] = msgspec.field(default_factory=set)  # tasks of the same DAG


class Place(msgspec.Struct, eq=False):
    """One DAG."""

    task: str  # its own in the one above
    above: Place | None = None
    scope: Scope | None = None  # the map whose elements it stands for
    guards: tuple[Guard, ...] = ()  # the condition that Kubeflow decides
    entries: dict[str, Entry] = msgspec.field(default_factory=dict)

    @property
    def path(self) -> list[Place]:
        """From the outermost to this one."""
        return [*(self.above.path if self.above is not None else ()), self]

    def walk(self) -> Iterator[Place]:
        """This one and all inside it, the outer before the inner."""
        yield self
        for entry in self.entries.values():
            if entry.place is not None:
                yield from entry.place.walk()


class Layout:
    """The DAGs of a graph. `of` says where a node stands, `tasks` and `lists` what Kubeflow calls it."""

    def __init__(self, graph: Graph, groups: dict[str, tuple[Guard, ...]] | None = None) -> None:
        """groups: nodes that stand under a condition that Kubeflow decides; see `conditions`."""
        self.graph = graph
        self.tasks: dict[str, str] = {}
        self.lists: dict[str, str] = {}
        self.of: dict[str, Place] = {}
        self.steps = Place(STEPS)
        self._names = Names([END, STEPS])
        self._loops: dict[str, Place] = {}
        self._grouped: dict[tuple[str, tuple[Guard, ...]], Place] = {}
        groups = groups or {}
        for node in graph.nodes:
            self.tasks[node.name] = self._names.take(node.name)
        for node in graph.nodes:
            if node.scope is not None:
                self._add_scope(graph.scope(node.scope))
            place = self._within(self._place_of(node.scope), groups.get(node.name, ()))
            self.of[node.name] = place
            place.entries[self.tasks[node.name]] = Entry(self.tasks[node.name], node=node)
        for scope in graph.scopes:
            self._add_scope(scope)
        self._order()

    @property
    def places(self) -> Iterator[Place]:
        return self.steps.walk()

    def loop(self, scope: str) -> Place:
        return self._loops[scope]

    def _place_of(self, scope: str | None) -> Place:
        return self._loops[scope] if scope is not None else self.steps

    def _add_scope(self, scope: Scope) -> None:
        if scope.name in self._loops:
            return
        if scope.parent is not None:
            self._add_scope(self.graph.scope(scope.parent))
        place = self._place_of(scope.parent)
        listed = self._names.take(f"{scope.name}-list")
        loop = Place(self._names.take(f"{scope.name}-map"), above=place, scope=scope)
        place.entries[listed] = Entry(listed, listing=scope)
        place.entries[loop.task] = Entry(loop.task, place=loop, after={listed})
        self.lists[scope.name] = listed
        self._loops[scope.name] = loop

    def _within(self, place: Place, guards: tuple[Guard, ...]) -> Place:
        if not guards:
            return place
        key = (place.task, guards)
        if key not in self._grouped:
            value = guards[0].value
            about = value.node if isinstance(value, Output) else "it"
            inner = Place(self._names.take(f"when-{about}"), above=place, guards=guards)
            place.entries[inner.task] = Entry(inner.task, place=inner)
            self._grouped[key] = inner
        return self._grouped[key]

    # -- who waits for whom --------------------------------------------------------------------------------------

    def _order(self) -> None:
        for place in self.places:
            for entry in place.entries.values():
                for needed in needs(entry):
                    self._wait(place, entry, self.of[needed], self.tasks[needed])
                if entry.place is not None:
                    for guard in entry.place.guards:
                        for output in outputs_in(guard.value):
                            self._wait(place, entry, self.of[output.node], self.tasks[output.node])

    def _wait(self, place: Place, entry: Entry, other: Place, task: str) -> None:
        """Let the two neighbours that these stand in, or are, wait for each other."""
        ours, theirs = place.path, other.path
        depth = 0
        while depth < min(len(ours), len(theirs)) and ours[depth] is theirs[depth]:
            depth += 1
        common = ours[depth - 1]
        waits = ours[depth].task if depth < len(ours) else entry.task
        for_whom = theirs[depth].task if depth < len(theirs) else task
        if waits != for_whom:
            common.entries[waits].after.add(for_whom)

    def circle(self) -> list[str]:
        """Tasks that would wait for each other for ever, because a map is waited for as a whole; [] as a rule."""
        for place in self.places:
            sorter = TopologicalSorter({task: entry.after for task, entry in place.entries.items()})
            try:
                sorter.prepare()
            except CycleError as error:
                return list(error.args[1])
        return []


def needs(entry: Entry) -> list[str]:
    """The nodes that a step, or a map's list, must wait for."""
    if entry.node is not None:
        arguments = [*entry.node.inputs.values(), *(guard.value for guard in entry.node.guards)]
        found = [output.node for argument in arguments for output in outputs_in(argument)]
        return [*found, *entry.node.after]
    if entry.listing is not None:
        arguments = [*entry.listing.over.values(), *(guard.value for guard in entry.listing.guards)]
        return [output.node for argument in arguments for output in outputs_in(argument)]
    return []
