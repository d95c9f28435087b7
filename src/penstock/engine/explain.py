"""Why a step run came to what it came to: why it ran, was a hit, was skipped, blocked or failed; line by line.

What changed is found by comparing it with the newest earlier run of the same pipeline that decided the same instance.
Reads the run log and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from ..core.errors import NotFoundError, did_you_mean
from ..graph import Node, Output
from ..ports.events import AttemptFailed, AttemptStarted, Event, RunResumed, StepSucceeded, next_step_run
from ..ports.records import Attempt, HiddenInput, Observation, RunRecord, RunSummary, StepRun, StepState
from .comparison import (
    LOOK_BACK,
    Change,
    Earlier,
    History,
    Reader,
    changes,
    code_changes,
    instance,
    observation_changes,
    place,
    unseen_by,
)
from .hidden.declared import hint, told

_MOST_ALIKE = 200  # elements of a map in one state that are compared one by one


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why one instance of a step came to its state."""

    run: str
    step: str
    index: str
    state: StepState
    headline: str
    changes: tuple[Change, ...] = ()
    compared_with: tuple[str, StepState] | None = None  # the earlier run, and what the step came to there
    origin: tuple[str, str, str] | None = None  # run, step, index whose result a hit took
    observations: tuple[Observation, ...] = ()  # what was seen of the outside; for a hit: it still held
    attempts: tuple[Attempt, ...] = ()
    note: str | None = None
    waived: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()  # what its code may depend on and its key cannot see
    hidden: tuple[HiddenInput, ...] = ()  # what it looked at undeclared
    way_out: str = ""  # how to declare that


class Alike(msgspec.Struct, frozen=True):
    """Elements of a map that came to the same for the same kind of reason; the explanation is that of the first."""

    indices: tuple[str, ...]
    explanation: Explanation


class Whole(msgspec.Struct, frozen=True):
    """Why the elements of a map came to their states; the greatest group first."""

    run: str
    step: str
    runs: tuple[StepRun, ...]
    groups: tuple[Alike, ...]
    left_out: int = 0  # elements of a large map that are like others by their state and were not looked at


def why(store: Reader, summary: RunSummary, step: str, index: str = "") -> Explanation:
    """Explain one instance. Raises NotFoundError where the run has no such step or element."""
    record = summary.record
    history = History(store, record.pipeline, before=record.id)
    node = _node(history, record, step)
    run = _find(history, record, node, index)
    attempts = tuple(each for each in store.attempts(record.id, step) if each.index == run.index)
    return _Explaining(store, history, record, node, run, attempts).explanation()


def why_map(store: Reader, summary: RunSummary, step: str) -> Whole | None:
    """Explain a map as a whole; None where the step has no elements in this run, or one."""
    record = summary.record
    history = History(store, record.pipeline, before=record.id)
    node = _node(history, record, step)
    found = [run for (name, index), run in history.steps(record.id).items() if name == step and index]
    runs = tuple(sorted(found, key=lambda run: place(run.index)))
    if len(runs) < 2:
        return None
    attempts: dict[str, list[Attempt]] = {}
    for attempt in store.attempts(record.id, step):
        attempts.setdefault(attempt.index, []).append(attempt)
    events = _events_by_index(store, record.id, step, [run.index for run in runs])
    groups: dict[tuple[object, ...], list[Explanation]] = {}
    looked_at: Counter[StepState] = Counter()
    for run in runs:
        looked_at[run.state] += 1
        if looked_at[run.state] <= _MOST_ALIKE:
            own = tuple(attempts.get(run.index, ()))
            each = _Explaining(store, history, record, node, run, own, events.get(run.index, [])).explanation()
            groups.setdefault(_reason(each, run), []).append(each)
    alike = [Alike(tuple(one.index for one in group), group[0]) for group in groups.values()]
    alike.sort(key=lambda each: -len(each.indices))
    return Whole(record.id, step, runs, tuple(alike), len(runs) - sum(len(each.indices) for each in alike))


def _reason(found: Explanation, run: StepRun) -> tuple[object, ...]:
    """What elements have in common that are told together: the values that changed are each one's own."""
    kinds = tuple((change.kind, change.name) for change in found.changes)
    said = found.headline if not kinds and found.origin is None else ""
    failure = (run.failure.name, run.failure.message) if run.failure is not None else None
    return run.state, said, found.origin and found.origin[0], found.compared_with, kinds, failure


def _events_by_index(store: Reader, run_id: str, step: str, indices: list[str]) -> dict[str, list[Event]]:
    """The events of each element and the resumes among them, read once."""
    found: dict[str, list[Event]] = {index: [] for index in indices}
    for _, event in store.events(run_id):
        if isinstance(event, RunResumed):
            for own in found.values():
                own.append(event)
        elif isinstance(event, AttemptStarted | AttemptFailed | StepSucceeded) and event.step == step:
            found.setdefault(event.index, []).append(event)
    return found


def _node(history: History, record: RunRecord, step: str) -> Node:
    graph = history.graph(record.manifest)
    node = next((node for node in graph.nodes if node.name == step), None)
    if node is None:
        raise NotFoundError(
            f"run {record.id} has no step '{step}'", hint=did_you_mean(step, [each.name for each in graph.nodes])
        )
    return node


def _find(history: History, record: RunRecord, node: Node, index: str) -> StepRun:
    runs = history.steps(record.id)
    found = runs.get((node.name, index))
    if found is not None:
        return found
    known = [each for name, each in runs if name == node.name]
    if len(known) == 1 and not index:
        return runs[node.name, known[0]]
    if known and not index:
        raise NotFoundError(
            f"step '{node.name}' of run {record.id} is a map of {len(known)} elements",
            hint=f"choose one: --index {known[0]}" + (f" … {known[-1]}" if len(known) > 1 else ""),
        )
    if known:
        raise NotFoundError(
            f"step '{node.name}' of run {record.id} has no element {index}", hint=did_you_mean(index, known)
        )
    return StepRun(node.name, index, StepState.PENDING)


class _Explaining:
    def __init__(
        self,
        store: Reader,
        history: History,
        record: RunRecord,
        node: Node,
        run: StepRun,
        attempts: tuple[Attempt, ...],
        events: list[Event] | None = None,
    ) -> None:
        self._store = store
        self._history = history
        self._record = record
        self._node = node
        self._run = run
        self._attempts = attempts
        self._events = events  # of this instance, and the resumes; None: not read yet

    def explanation(self) -> Explanation:
        run = self._run
        match run.state:
            case StepState.SKIPPED:
                return self._told(f"skipped: {run.note}" if run.note else "skipped")
            case StepState.UPSTREAM_FAILED:
                return self._told(self._blocked())
            case StepState.PENDING if not self._attempts:
                return self._told("not decided yet: what it needs is not done, or the run ended before")
            case StepState.CANCELLED if not self._attempts:
                return self._told(f"cancelled before it started: {run.note}" if run.note else "cancelled")
            case StepState.CACHED:
                return self._told(self._hit(), origin=run.origin)
            case _:
                return self._ran()

    def _told(
        self,
        headline: str,
        found: tuple[Change, ...] = (),
        *,
        earlier: Earlier | None = None,
        origin: tuple[str, str, str] | None = None,
    ) -> Explanation:
        run = self._run
        return Explanation(
            run=self._record.id,
            step=run.step,
            index=run.index,
            state=run.state,
            headline=headline,
            changes=found,
            compared_with=(earlier.record.id, earlier.run.state) if earlier else None,
            origin=origin,
            observations=run.observations,
            attempts=self._attempts,
            note=run.note if run.state.has_output else None,
            waived=run.waived,
            unseen=self._unseen(),
            hidden=run.hidden,
            way_out=self._way_out(),
        )

    def _unseen(self) -> tuple[str, ...]:
        code = self._run.parts.get("code")
        return unseen_by(self._node, self._store.get_unseen(code), self._run.observations) if code else ()

    def _way_out(self) -> str:
        if not self._run.hidden:
            return ""
        code = self._store.get_code(self._run.parts.get("code", ""))
        return hint(self._run.hidden, [part.text for part in code[0]] if code is not None else None)

    def _hit(self) -> str:
        origin = self._run.origin
        if origin is None:
            return "taken from the cache"
        same = "this step" if origin[1:] == (self._run.step, self._run.index) else f"'{instance(*origin[1:])}'"
        seen = ", and what it saw of the outside still held" if self._run.observations else ""
        return f"taken from run {origin[0]}: {same} had the same code, parameters and inputs there{seen}"

    def _blocked(self) -> str:
        failed = next(
            (
                run
                for run in self._history.steps(self._record.id).values()
                if run.failure is not None and run.state.done
            ),
            None,
        )
        text = f"never started: {self._run.note}" if self._run.note else "never started: something it needs failed"
        if failed is None or failed.failure is None:
            return text
        return (
            f"{text}; '{instance(failed.step, failed.index)}' failed with {failed.failure.name}: "
            + (failed.failure.message.partition("\n")[0])
        )

    # -- it ran ------------------------------------------------------------------------------------------------------

    def _ran(self) -> Explanation:
        for_sure = self._asked_for()
        before_resume = self._before_resume()
        earlier = before_resume or self._history.latest(self._run.step, self._run.index)
        if earlier is None:
            if for_sure is not None:
                return self._told(for_sure)
            if self._run.index and self._history.knows(self._run.step):
                return self._told("it ran because this element of the map is new")
            return self._told(f"it ran because no run before it had it (of the last {LOOK_BACK} of this pipeline)")
        before = earlier.computation(self._store)
        after = Earlier(self._record, self._run, self._history.graph(self._record.manifest)).computation(self._store)
        if before is None or after is None:
            return self._told(for_sure or "it ran because the pipeline changed", earlier=earlier)
        found = changes(before, after, self._because(earlier))
        if not self._node.options.cache and before.node.target == after.node.target:
            found = self._record_code(earlier) + found
        unfinished = not earlier.run.state.has_output
        if before_resume is not None and unfinished and not found and for_sure is None:
            state = earlier.run.state.value.replace("_", " ")
            done = f"its attempt before the run was resumed did not finish ({state}); nothing changed since"
            return self._told(f"it ran again because {done}", earlier=earlier)
        found += observation_changes(earlier.run.observations, self._run.observations)
        return self._told(for_sure or self._headline(found, earlier), tuple(found), earlier=earlier)

    def _before_resume(self) -> Earlier | None:
        """The last attempt of this very instance before the run was resumed; None where there is none."""
        run = StepRun(self._run.step, self._run.index, StepState.PENDING)
        before, record, retraced = None, self._record, False
        events = self._events
        for event in events if events is not None else (each for _, each in self._store.events(self._record.id)):
            if isinstance(event, RunResumed):
                if run.attempts and run is not before:
                    before, record, retraced = run, self._record, False
                retraced = retraced or event.manifest is not None
                if event.earlier_code and before is run:
                    record = msgspec.structs.replace(self._record, code={"steps": event.earlier_code})
            elif isinstance(event, AttemptStarted | AttemptFailed | StepSucceeded) and (
                (event.step, event.index) == (run.step, run.index)
            ):
                run = next_step_run(run, event)
        if before is None or run is before or not run.started_at or before.attempts == self._run.attempts:
            return None
        graph = self._history.graph(self._record.manifest)
        if retraced:  # what was written there then is not kept: only that an input was another one
            strip = msgspec.structs.replace
            graph = strip(graph, nodes=tuple(strip(node, inputs={}) for node in graph.nodes))
        return Earlier(record, before, graph)

    def _asked_for(self) -> str | None:
        """A reason that needs no comparison."""
        if not self._record.options.get("cache", True):
            return "it ran because the cache was off for this run"
        if self._run.step in self._record.options.get("force", ()):
            return "it ran because it was asked to run anew (or follows a step that was)"
        if self._run.key is None and self._attempts and not self._run.hidden:
            if not self._node.options.cache:
                return "it ran because its cache is off: it runs every time"
            return "it ran because its source is not known, so nothing is kept of it"
        return None

    def _headline(self, found: list[Change], earlier: Earlier) -> str:
        if found:
            if len(found) > 1 and earlier.record.id == self._record.id:
                return f"it ran because of a change; {len(found)} things changed since its attempt before the resume"
            only = f": {found[0].text}" if len(found) == 1 else f"; {len(found)} things changed since run "
            return "it ran because of a change" + (only if len(found) == 1 else only + earlier.record.id)
        if earlier.run.hidden and earlier.run.key is None:
            return f"it ran because nothing was kept of run {earlier.record.id}, where it {told(earlier.run.hidden)}"
        if not earlier.run.state.has_output:
            word = earlier.run.state.value.replace("_", " ")
            return f"it ran because it did not finish in run {earlier.record.id} ({word}); nothing changed since"
        if earlier.run.key != self._run.key:
            return f"it ran because an input is stored in another form than in run {earlier.record.id}"
        return (
            f"it ran because the result of run {earlier.record.id} was no longer usable: deleted, damaged or forgotten"
        )

    def _record_code(self, earlier: Earlier) -> list[Change]:
        """Code of a step that has no key, from what the runs recorded of it."""
        target = self._node.target
        digests = [record.code.get("steps", {}).get(target) for record in (earlier.record, self._record)]
        if None in digests or digests[0] == digests[1]:
            return []
        return code_changes(self._store.get_code(digests[0]), self._store.get_code(digests[1]), target)

    def _because(self, earlier: Earlier) -> Callable[[Output], str | None]:
        """Why the output of another step is a new one: one level, the rest is that step's own `why`."""
        now, then = self._history.steps(self._record.id), self._history.steps(earlier.record.id)

        def because(output: Output) -> str | None:
            runs = [run for (name, _), run in now.items() if name == output.node]
            anew = [run for run in runs if run.state is StepState.SUCCEEDED]
            if anew:
                return f"step '{output.node}' ran anew" + (f" ({len(anew)} of {len(runs)})" if len(runs) > 1 else "")
            if not any(name == output.node for name, _ in then):
                return f"it comes from step '{output.node}', which was not there before"
            other = next((run.origin for run in runs if run.origin is not None), None)
            return f"step '{output.node}' took the result of run {other[0]}" if other else None

        return because
