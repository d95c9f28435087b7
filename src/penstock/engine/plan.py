"""What a run would do, without doing any of it: which steps run, which hit, which depend on another, and why.

It asks the launcher itself, over a store that keeps nothing, so that a plan cannot differ from what the run then
decides. `run` and `hit` are promises; what follows from a step that runs is only said to depend on it, because its
output may come out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from ..core.errors import PenstockError
from ..graph import Graph, Node, outputs_in
from ..ports.events import AttemptFailed, MapExpanded, RunView, StepBlocked, StepCached, StepSkipped
from ..ports.records import CodePart, Fingerprint, HiddenInput, Observation, RunRecord, StepRun, StepState
from ..ports.runlog import CacheEntry, CacheIndex
from .arguments import Blocked, NotReady, Skipped
from .comparison import Change, Computation, History, Reader, changes, instance, observed, place, shortened, unseen_by
from .frontier import Frontier, Item
from .hidden.declared import hint, told, undeclared
from .launcher import Launcher, Prepared, is_masked
from .outside import Answers, Unseen, look
from .services import Services

Verdict = Literal["run", "hit", "depends", "skip", "blocked"]


class PlanItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What would become of one instance. An index that ends in "*" stands for every element of a map."""

    step: str
    index: str
    verdict: Verdict
    why: str
    on: str | None = None  # the step it depends on
    saved_seconds: float = 0.0
    origin: tuple[str, str, str] | None = None  # run, step, index whose result a hit takes
    changes: tuple[Change, ...] = ()
    unseen: tuple[str, ...] = ()  # what its code may depend on and its key cannot see
    hidden: tuple[HiddenInput, ...] = ()  # undeclared; while there are any, nothing is kept of it
    way_out: str = ""  # how to declare that


class PlanStore(Reader, CacheIndex, Protocol):
    """The parts of a store that a plan reads."""


def plan(graph: Graph, record: RunRecord, store: PlanStore, services: Services) -> list[PlanItem]:
    """The plan of a new run. `record` holds parameters, seed and options as the run would have them.

    Writes nothing, as long as `services.artifacts.save` does not: a list that is mapped over is taken apart by it.
    """
    return _Planner(graph, record, store, services).plan()


class _Unwritten:
    """The launcher's view of the store, with every write left out."""

    def __init__(self, store: PlanStore) -> None:
        self._store = store

    def entries(self, key: str) -> list[CacheEntry]:
        return self._store.entries(key)

    def forget(self, key: str, run_id: str) -> None:
        return

    def lease(self, key: str, owner: str, seconds: float, *, while_alive: bool = False) -> bool:
        return True

    def unlease(self, key: str, owner: str) -> None:
        return

    def find_holder(self, key: str) -> str | None:
        return None

    def put_code(
        self, fingerprint: str, parts: Sequence[CodePart], packages: dict[str, str], unseen: Sequence[str] = ()
    ) -> None:
        return

    def get_code(self, fingerprint: str) -> tuple[list[CodePart], dict[str, str]] | None:
        return self._store.get_code(fingerprint)

    def get_unseen(self, fingerprint: str) -> tuple[str, ...]:
        return self._store.get_unseen(fingerprint)


class _Planner:
    def __init__(self, graph: Graph, record: RunRecord, store: PlanStore, services: Services) -> None:
        self._graph = graph
        self._record = record
        self._store = store
        self._services = services
        self._nodes = {node.name: node for node in graph.nodes}
        self._view = RunView()
        self._launcher = Launcher(graph, record, self._view, _Unwritten(store), services)
        self._frontier = Frontier(graph)
        self._history = History(store, graph.pipeline)
        self._items: dict[tuple[str, str], PlanItem] = {}
        self._computed: dict[str, str] = {}  # cache key -> the instance that will compute it
        self._settled: set[Item] = set()
        self._answers: Answers = {}  # what the latest decision found outside

    def plan(self) -> list[PlanItem]:
        self._drain()
        while self._settle_skipped():
            self._drain()
        for item in self._frontier.waiting:
            if item not in self._settled:
                self._depends(item)
        order = {name: at for at, name in enumerate(self._graph.order())}
        return sorted(self._items.values(), key=lambda item: (order[item.step], place(item.index.replace("*", "-1"))))

    # -- what is known -----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        while self._frontier.open_more():
            item = self._frontier.ready.popleft()
            if item not in self._settled:
                if item.is_scope:
                    self._expand(item)
                else:
                    self._decide(item)

    def _settle_skipped(self) -> bool:
        """A guard that is known to be false skips, though inputs are still open. Says whether there was one."""
        for item in list(self._frontier.waiting):
            if item in self._settled:
                continue
            found = (
                self._launcher.resolver.expand(item.name, item.index)
                if item.is_scope
                else self._launcher.resolver.arguments(self._nodes[item.name], item.index)
            )
            if isinstance(found, Skipped):
                self._settled.add(item)
                if item.is_scope:
                    self._close(item, found)
                else:
                    self._add(item.name, item.index, "skip", found.because)
                    self._finish(StepSkipped(at=0, step=item.name, index=item.index, because=found.because))
                return True
        return False

    def _expand(self, item: Item) -> None:
        size = self._launcher.resolver.expand(item.name, item.index)
        match size:
            case int():
                self._view.apply(MapExpanded(at=0, scope=item.name, index=item.index, size=size))
                self._frontier.expanded(item.name, item.index, size)
                if size == 0:
                    for name in self._inside(item.name):
                        self._add(name, _every(item.index), "skip", "the list it is mapped over is empty")
            case Blocked() | Skipped():
                self._close(item, size)
            case NotReady():
                raise AssertionError(f"{item.name} was ready without {size.needs}")

    def _close(self, item: Item, verdict: Blocked | Skipped) -> None:
        for name in self._frontier.closed(item.name, item.index):
            blocked = isinstance(verdict, Blocked)
            self._add(name, _every(item.index), "blocked" if blocked else "skip", verdict.because)
            kind = StepBlocked if blocked else StepSkipped
            self._view.apply(kind(at=0, step=name, index=item.index, because=verdict.because))

    def _decide(self, item: Item) -> None:
        self._answers = {}
        decision = self._launcher.decide(item.name, item.index, answers=self._answers)
        match decision:
            case StepCached():
                self._add(
                    item.name,
                    item.index,
                    "hit",
                    _hit_reason(decision),
                    saved_seconds=decision.saved_seconds,
                    origin=decision.origin,
                    seen=decision.observations,
                )
                self._finish(decision)
            case StepSkipped():
                self._add(item.name, item.index, "skip", decision.because)
                self._finish(decision)
            case StepBlocked():
                self._add(item.name, item.index, "blocked", decision.because)
                self._finish(decision)
            case AttemptFailed(failure=failure):  # a run makes good what is lost once it meets it; a plan only looks
                because = f"what it needs cannot be read: {failure.message}"
                self._add(item.name, item.index, "blocked", because)
                self._finish(StepBlocked(at=0, step=item.name, index=item.index, because=because))
            case Prepared():
                self._runs(item, decision)
            case _:
                raise AssertionError(f"a new run decided {decision!r}")

    def _runs(self, item: Item, prepared: Prepared) -> None:
        key, name = prepared.started.key, instance(item.name, item.index)
        hidden = self._hidden(self._nodes[item.name], item.index, prepared) if self._services.hidden == "on" else ()
        anew = bool(hidden) or not self._uses_cache() or item.name in self._forced()
        if key is not None and key in self._computed and not anew:
            first = self._computed[key]
            why = f"'{first}' computes the same; its result is taken if one is kept"
            self._add(item.name, item.index, "depends", why, on=first)
            return
        if key is not None:
            self._computed.setdefault(key, name)
        why, found = self._reason(self._nodes[item.name], item.index, prepared)
        earlier = self._history.latest(item.name, item.index)
        seen = earlier.run.observations if earlier is not None else ()
        self._add(item.name, item.index, "run", why, changes=tuple(found), hidden=hidden, seen=seen)

    def _finish(self, event: StepCached | StepSkipped | StepBlocked) -> None:
        self._view.apply(event)
        self._frontier.finished(event.step, event.index)

    def _hidden(self, node: Node, index: str, prepared: Prepared) -> tuple[HiddenInput, ...]:
        """What keeps its result out of the cache, as far as its code and its last run of that code tell."""
        if prepared.started.key is None or not prepared.task.watch:
            return ()
        fingerprint = self._launcher.fingerprint(node.target)
        earlier = self._history.latest(node.name, index)
        code = prepared.started.parts.get("code")
        if earlier is not None and earlier.run.state is StepState.SUCCEEDED and earlier.run.parts.get("code") == code:
            # Whoever declared something since then has not changed the code.
            return undeclared(node.options, earlier.run.observations, earlier.run.hidden)
        return undeclared(node.options, (), fingerprint.hidden) if fingerprint is not None else ()

    # -- why it runs -------------------------------------------------------------------------------------------------

    def _reason(self, node: Node, index: str, prepared: Prepared) -> tuple[str, list[Change]]:
        started = prepared.started
        if not self._uses_cache():
            return "the cache is off for this run", []
        if node.name in self._forced():
            return "asked to run anew", []
        if started.key is None:
            if node.options.cache:
                return "its source is not known, so nothing is kept of it", []
            return ("an effect that is done every time" if node.options.effect else "its cache is off"), []
        if (refused := self._refused(started.key)) is not None:
            return refused.text, [refused]
        earlier = self._history.latest(node.name, index)
        if earlier is not None and earlier.run.key is None and earlier.run.hidden:
            left = undeclared(node.options, earlier.run.observations, earlier.run.hidden)
            if left and earlier.run.parts == started.parts and earlier.run.inputs == started.inputs:
                return f"runs every time: it {told(left)}", []
        if earlier is None:
            known = bool(index) and self._history.knows(node.name)
            return ("this element is new" if known else "it has not run before"), []
        before = earlier.computation(self._store)
        if before is None:
            return "it has not run before", []
        fingerprint = self._launcher.fingerprint(node.target)
        code = (fingerprint.parts, fingerprint.packages) if fingerprint else None
        after = Computation(node, index, self._graph, self._record.parameters, started.parts, started.inputs, code)
        found = changes(before, after, lambda output: None)
        return (_joined(found) if found else _without_change(earlier.run, earlier.record.id)), found

    def _refused(self, key: str) -> Change | None:
        """Why the newest result with this very key is not good enough."""
        for entry in self._store.entries(key):
            if not all(self._services.artifacts.intact(ref) for ref in entry.outputs.values()):
                return Change("cache", entry.run_id, f"the stored result of run {entry.run_id} is missing or damaged")
            for seen in entry.observations:
                if (change := self._looked_at_again(seen)) is not None:
                    return change
        return None

    def _looked_at_again(self, seen: Observation) -> Change | None:
        """What became of something outside, where it is not as it was."""
        place = (seen.kind, seen.name)
        if not is_masked(seen) and place not in self._answers:
            self._answers |= look(self._services, Unseen.of([place]))
        now = self._answers.get(place)
        if now is None:
            return Change("observation", seen.name, f"{seen.kind} {shortened(seen.name)} cannot be looked at again")
        return observed(seen.kind, seen.name, seen.version, now or None) if now != seen.version else None

    def _uses_cache(self) -> bool:
        return bool(self._record.options.get("cache", True))

    def _forced(self) -> Sequence[str]:
        found: Sequence[str] = self._record.options.get("force", ())
        return found

    # -- what is not known -------------------------------------------------------------------------------------------

    def _depends(self, item: Item) -> None:
        if item.is_scope:
            found = self._launcher.resolver.expand(item.name, item.index)
            if isinstance(found, NotReady):
                for name in self._inside(item.name):
                    why = f"the size of the map depends on '{found.needs}'"
                    self._add(name, _every(item.index), "depends", why, on=found.needs)
            return
        node = self._nodes[item.name]
        arguments = self._launcher.resolver.arguments(node, item.index)
        # Blocked here, though an input is still open: it will be blocked whatever comes, but how is not yet decided.
        on = arguments.needs if isinstance(arguments, NotReady) else self._open_need(node)
        guards = {output.node for guard in node.guards for output in outputs_in(guard.value)}
        if on in guards:
            why = f"whether it runs depends on '{on}'"
        elif on in node.after and not any(on == o.node for each in node.inputs.values() for o in outputs_in(each)):
            why = f"it comes after '{on}'"
        else:
            why = f"it follows '{on}', which may come out the same"
        self._add(item.name, item.index, "depends", why, on=on)

    def _open_need(self, node: Node) -> str:
        return next(
            (
                name
                for name in sorted(self._graph.needs()[node.name])
                if any(each.step == name and each.verdict in ("run", "depends") for each in self._items.values())
            ),
            node.name,
        )

    def _inside(self, scope: str) -> list[str]:
        return [node.name for node in self._graph.nodes if scope in self._graph.scopes_of(node.scope)]

    def _add(
        self,
        step: str,
        index: str,
        verdict: Verdict,
        why: str,
        *,
        on: str | None = None,
        saved_seconds: float = 0.0,
        origin: tuple[str, str, str] | None = None,
        changes: tuple[Change, ...] = (),
        hidden: tuple[HiddenInput, ...] = (),
        seen: tuple[Observation, ...] = (),
    ) -> None:
        node = self._nodes[step]
        code = self._code(node) if verdict not in ("skip", "blocked") else None
        unseen = unseen_by(node, code.unseen, seen) if code is not None else ()
        way_out = hint(hidden, [part.text for part in code.parts] if code is not None else None) if hidden else ""
        self._items[step, index] = PlanItem(
            step, index, verdict, why, on, saved_seconds, origin, changes, unseen, hidden, way_out
        )

    def _code(self, node: Node) -> Fingerprint | None:
        try:
            return self._launcher.fingerprint(node.target)
        except PenstockError:
            return None  # whoever comes to it is told


def _hit_reason(hit: StepCached) -> str:
    run, step, index = hit.origin
    same = "" if (step, index) == (hit.step, hit.index) else f", {instance(step, index)}"
    seen = [f"{each.kind} {shortened(each.name, 40)}" for each in hit.observations]
    unchanged = f"; {', '.join(seen[:2])}{', …' if len(seen) > 2 else ''} unchanged" if seen else ""
    done = f"{hit.note}; " if hit.note and hit.note.startswith("already done") else ""
    return f"{done}same as in run {run}{same}{unchanged}"


def _without_change(run: StepRun, run_id: str) -> str:
    if run.hidden and run.key is None:
        return f"nothing was kept of run {run_id}, where it {told(run.hidden)}"
    if run.state.has_output:
        return f"the result of run {run_id} is no longer kept, or an input is stored in another form"
    return f"it did not finish in run {run_id} ({run.state.value.replace('_', ' ')})"


def _joined(found: list[Change]) -> str:
    shown = "; ".join(change.text for change in found[:3])
    return shown + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _every(index: str) -> str:
    return f"{index}.*" if index else "*"
