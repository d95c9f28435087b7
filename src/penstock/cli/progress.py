"""Who tells how a run goes: plain lines, or one JSON object per line. `live` has the form for terminals.

Progress goes to stderr: stdout belongs to what the user's steps print, and to --json.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from time import monotonic, time
from typing import Any, TextIO

import msgspec

from ..core.units import shown_size
from ..graph import Graph
from ..ports.events import (
    AttemptFailed,
    AttemptStarted,
    Change,
    Event,
    MapExpanded,
    RunView,
    StepCached,
    StepSucceeded,
)
from ..ports.records import RunRecord, StepRun, StepState
from .again import again
from .records import failure_shown
from .render import counted, paint, shortened, shown_seconds, symbol, without_control
from .streams import lasting
from .summary import Summary, failure_words, name_of

_UPDATE_S = {"plain": 10.0, "json": 0.2}
_FAILURES = 10  # told one by one at the end of a run
_ORDER = ("succeeded", "cached", "skipped", "failed", "timed_out", "upstream_failed", "cancelled")


class Elements:
    """Those of a mapped step that are done, counted: however many there are, they take no room."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.seconds = 0.0  # that they ran
        self.before = 0  # finished before this resume, and still so
        self.begun = False
        self.told = False

    @property
    def done(self) -> int:
        return self.states.total() + self.before

    def add(self, run: StepRun, times: int = 1) -> None:
        if run.state.done:
            self.states[run.state.value] += times
            self.seconds += times * run.seconds if run.state is not StepState.CACHED else 0.0


class Tally:
    """A listener that keeps count; the ground under every other one, and all that --quiet needs."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.graph: Graph | None = None
        self.saved_seconds = 0.0
        self.began = monotonic()
        self.before: Counter[str] = Counter()  # states of what was finished before this resume, and still is
        self._attempts: dict[str, int] = {}
        self._scopes: dict[str, tuple[str, ...]] = {}
        self._elements: dict[str, Elements] = {}  # of mapped steps
        self._sizes: dict[tuple[str, str], int] = {}  # of maps: scope, enclosing index -> elements
        self._maps: dict[str, tuple[int, int]] = {}  # scope -> how often it was expanded, elements in all of these
        self._saved: dict[str, float] = {}  # step -> seconds that the cache saved
        self._spent: dict[tuple[str, str], int] = {}  # attempts before this resume: a retry policy starts anew
        self._finished_until = -1  # the newest end of what was finished before this resume

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        self.run_id, self.graph, self._spent = record.id, graph, before.spent
        for node in graph.nodes:
            retry = node.options.retry
            self._attempts[node.name] = retry.attempts if retry else 1
            self._scopes[node.name] = tuple(graph.scopes_of(node.scope))
        for (scope, index), size in before.sizes.items():
            self._opened(scope, index, size)
        for run in before.steps.values():
            if run.state.has_output:
                self.before[run.state.value] += 1
                self._finished_until = max(self._finished_until, run.finished_at or 0)
                if self.is_mapped(run.step):
                    self._elements_of(run.step).before += 1

    def event(self, change: Change) -> None:
        event, before, run = change.event, change.before, change.run
        if isinstance(event, MapExpanded):
            self._opened(event.scope, event.index, event.size)
            if event.size == 0:
                self.map_finished(event.scope, Elements())
        elif isinstance(event, StepCached):
            self.saved_seconds += event.saved_seconds
            self._saved[event.step] = self.saved_by(event.step) + event.saved_seconds
        if before is None or run is None:
            return
        was_there = before.state.has_output and (before.finished_at or 0) <= self._finished_until
        if was_there:
            self.before[before.state.value] -= 1
        if not self._scopes[run.step]:
            self.step_changed(run, event)
            return
        elements = self._elements_of(run.step)
        elements.begun = True
        if was_there:
            elements.before -= 1
        else:
            elements.add(before, -1)
        elements.add(run)
        self.step_changed(run, event)
        if run.state.done and self._is_complete(run.step):
            self._collapse(run.step, elements)

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None:
        return

    def waiting(self, step: str, index: str, run_id: str, pool: str = "") -> None:
        return

    def queued(self, pipeline: str, run_ids: Sequence[str]) -> None:
        return

    def text(self, step: str, index: str, text: str) -> None:
        """Steps of other processes print where steps of this one do."""
        if text:
            lasting(sys.stdout).write(text)

    def stopping(self, at_once: bool) -> None:
        """Inside a signal handler: no lock, no buffered stream."""
        resume = f"penstock resume {self.run_id}" if self.run_id else ""
        words = f"stopped at once; {resume}" if at_once else "stopping cleanly; press again to stop at once"
        try:
            os.write(2, f"\n{words}\n".encode())
        except OSError:  # nobody reads it any more
            pass

    def finish(self, summary: Summary | None) -> None:
        """The run is over; None: it could not even begin, or broke off."""

    # -- for those who show it ---------------------------------------------------------------------------------------

    def step_changed(self, run: StepRun, event: Event) -> None:
        """One more fact about a step run."""

    def map_finished(self, name: str, elements: Elements) -> None:
        """Every element of a mapped step is done (none: the map was empty, and `name` is its scope)."""

    def is_mapped(self, step: str) -> bool:
        return bool(self._scopes.get(step))

    def attempts_of(self, step: str) -> int:
        return self._attempts.get(step, 1)

    def attempt_of(self, run: StepRun) -> int:
        """The number of the newest attempt, among those that the retry policy counts: since the run was resumed."""
        return run.attempts - self._spent.get((run.step, run.index), 0)

    def saved_by(self, step: str) -> float:
        """Seconds that the cache saved in all elements of a step."""
        return self._saved.get(step, 0.0)

    def elements_of(self, step: str) -> int | None:
        """How many elements a mapped step has; None: not known yet."""
        outer = 1
        for scope in self._scopes[step]:
            times, elements = self._maps.get(scope, (0, 0))
            if times < outer:
                return None
            outer = elements
        return outer

    def done_of(self, step: str) -> int:
        """How many elements of a mapped step are done, before this resume too."""
        return self._elements_of(step).done

    def open_maps(self) -> list[str]:
        """Mapped steps that have begun and are not done."""
        return [step for step, elements in [*self._elements.items()] if elements.begun and not elements.told]

    def _elements_of(self, step: str) -> Elements:
        return self._elements.get(step) or self._elements.setdefault(step, Elements())

    def _opened(self, scope: str, index: str, size: int) -> None:
        if (scope, index) not in self._sizes:
            self._sizes[scope, index] = size
            times, elements = self._maps.get(scope, (0, 0))
            self._maps[scope] = times + 1, elements + size

    def _is_complete(self, step: str) -> bool:
        """Whether every element is done. Counted as events come: an event costs the same however many there are."""
        elements = self.elements_of(step)
        return elements is not None and self.done_of(step) >= elements

    def _collapse(self, step: str, elements: Elements) -> None:
        if not elements.told:
            elements.told = True
            self.map_finished(step, elements)

    def collapse_rest(self) -> None:
        """Maps that did not come to their end are told too."""
        for step in self.open_maps():
            if self._elements[step].states.total():
                self._collapse(step, self._elements[step])


class PlainProgress(Tally):
    """One line per fact, on stderr, without control codes (colours only where FORCE_COLOR asks for them)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = lasting(stream or sys.stderr)
        self._shown_at: dict[tuple[str, str], float] = {}

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        super().begin(record, graph, before)
        self.line(begun(record, graph, before, self._stream))

    def step_changed(self, run: StepRun, event: Event) -> None:
        if self.is_mapped(run.step):
            self._tell_map(run.step, event)
        if isinstance(event, AttemptStarted):
            attempt = self.attempt_of(run)
            if attempt > 1 or not self.is_mapped(event.step):
                more = f", with {shown_size(event.memory_limit)}" if event.memory_limit is not None else ""
                of = f" (attempt {attempt} of {self.attempts_of(run.step)}{more})" if attempt > 1 else ""
                self.line(f"{symbol('running', self._stream)} {name_of(run.step, run.index)}{of}")
        elif isinstance(event, AttemptFailed) and event.retry_at is not None:
            of = f"{self.attempt_of(run)} of {self.attempts_of(run.step)}"
            self.line(retried(run, event, of, self._stream))
        elif run.state.done and (not self.is_mapped(run.step) or run.failure is not None):
            self.line(finished(run, event, self.attempt_of(run), self._stream))

    def _tell_map(self, step: str, event: Event) -> None:
        """How far a map is: when its first element starts, then every ten seconds."""
        now, at = monotonic(), self._shown_at.get((step, ""))
        if isinstance(event, AttemptStarted) if at is None else now - at >= _UPDATE_S["plain"]:
            self._shown_at[step, ""] = now
            if not self._is_complete(step):
                self.line(f"{symbol('running', self._stream)} {how_far(step, self)}")

    def waiting(self, step: str, index: str, run_id: str, pool: str = "") -> None:
        self.line(waits(step, index, run_id, pool))

    def queued(self, pipeline: str, run_ids: Sequence[str]) -> None:
        self.line(waits_to_begin(pipeline, run_ids))

    def map_finished(self, name: str, elements: Elements) -> None:
        self.line(mapped(name, elements, self.saved_by(name), self._stream))

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None:
        now = monotonic()
        if now - self._shown_at.get((step, index), self.began) < _UPDATE_S["plain"]:
            return
        self._shown_at[step, index] = now
        of = f" of {total:g}" if total is not None else ""
        self.line(f"  {name_of(step, index)}: {done:g}{of} {shortened(note, 80)}".rstrip())

    def finish(self, summary: Summary | None) -> None:
        self.collapse_rest()
        if summary is not None:
            for line in summary_lines(summary, self._stream):
                self.line(line)

    def line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class Quiet(Tally):
    """Nothing, unless the run did not succeed."""

    def finish(self, summary: Summary | None) -> None:
        if summary is not None and summary.state != "succeeded":
            lasting(sys.stderr).write("\n".join(summary_lines(summary, sys.stderr)) + "\n")


class JsonStream(Tally):
    """One JSON object per line: the run, each event, progress, what steps print, and the summary."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = lasting(stream)
        self._shown_at: dict[tuple[str, str], float] = {}

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        super().begin(record, graph, before)
        names = ("pipeline", "project", "parameters", "created_at", "name", "tags")
        facts = {name: getattr(record, name) for name in names}
        facts["parameters"] = {name: msgspec.Raw(text.encode()) for name, text in record.parameters.items()}
        self.put({"type": "run", "run": record.id, **facts, "steps": [node.name for node in graph.nodes]})

    def event(self, change: Change) -> None:
        super().event(change)
        self.put(readable(change.event))

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None:
        now = monotonic()
        if now - self._shown_at.get((step, index), 0.0) < _UPDATE_S["json"]:
            return
        self._shown_at[step, index] = now
        self.put({"type": "progress", "step": step, "index": index, "done": done, "total": total, "note": note})

    def waiting(self, step: str, index: str, run_id: str, pool: str = "") -> None:
        self.put({"type": "waiting", "step": step, "index": index, "for": run_id, **({"pool": pool} if pool else {})})

    def queued(self, pipeline: str, run_ids: Sequence[str]) -> None:
        self.put({"type": "queued", "pipeline": pipeline, "for": list(run_ids)})

    def text(self, step: str, index: str, text: str) -> None:
        self.put({"type": "text", "step": step, "index": index, "text": text})

    def finish(self, summary: Summary | None) -> None:
        if summary is not None:
            self.put(summary)

    def put(self, value: Any) -> None:
        self._stream.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")
        self._stream.flush()


def readable(event: Any) -> Any:
    """Without the pickled exception, which is nobody's to read."""
    if isinstance(event, AttemptFailed) and event.failure.pickled is not None:
        return msgspec.structs.replace(event, failure=msgspec.structs.replace(event.failure, pickled=None))
    return event


# -- lines that both forms share ---------------------------------------------------------------------------------------


def begun(record: RunRecord, graph: Graph, before: RunView, stream: TextIO) -> str:
    """The first line of a run, or of its resume."""
    named = f" ({record.name})" if record.name else ""
    named += " resumed" if before.epoch > 1 else ""
    return f"run {paint(record.id, 'bold', stream)}{named}: {record.pipeline}, {counted(len(graph.nodes), 'step')}"


def finished(run: StepRun, event: Event, attempt: int, stream: TextIO) -> str:
    """A step that is done."""
    words = [symbol(run.state, stream), name_of(run.step, run.index)]
    if isinstance(event, StepCached):
        words.append(paint(f"from {event.origin[0]}, saved {shown_seconds(event.saved_seconds)}", "dim", stream))
    elif isinstance(event, StepSucceeded):
        words.append(paint(shown_seconds(event.seconds), "dim", stream))
        if attempt > 1:
            words.append(paint(f"on attempt {attempt}", "dim", stream))
    elif isinstance(event, AttemptFailed):
        words.append(f"{run.state.value.replace('_', ' ')}: {shown_failure(event)}")
    else:
        words.append(run.state.value.replace("_", " "))
    if run.note:
        words.append(paint(shortened(f"({run.note})", 100), "dim", stream))
    return " ".join(words)


def how_far(step: str, tally: Tally) -> str:
    """A mapped step that is not done: `fit 50/300`."""
    done, elements = tally.done_of(step), tally.elements_of(step)
    if elements is None:
        return f"{step} {done} done" if done else step
    return f"{step} {done}/{elements}"


def mapped(name: str, elements: Elements, saved: float, stream: TextIO) -> str:
    """A mapped step that is done: its elements counted, and those that were finished before this resume."""
    states = +elements.states
    if not elements.done:
        return f"{symbol('skipped', stream)} {name}: nothing to map over"
    worst = max(states, key=_ORDER.index, default="succeeded")
    counts = ", ".join(f"{states[each]} {each.replace('_', ' ')}" for each in _ORDER if each in states)
    if worst == "cached" and "succeeded" in states:
        worst = "succeeded"
    if set(states) == {"cached"}:
        total = f", saved {shown_seconds(saved)}"
    else:
        total = f" {shown_seconds(elements.seconds)}"
        total += f", saved {shown_seconds(saved)}" if "cached" in states else ""
    counts += f", {elements.before} finished before" if elements.before else ""
    return f"{symbol(worst, stream)} {name} x {elements.done}: {counts}{paint(total, 'dim', stream)}"


def waits(step: str, index: str, run_id: str, pool: str = "") -> str:
    """A step that another run computes already, or one whose pool has no place left."""
    if pool:
        return f"  {step} waits for a place of pool '{pool}', which run {run_id} has"
    return f"  {name_of(step, index)} waits for run {run_id}, which computes the same"


def waits_to_begin(pipeline: str, run_ids: Sequence[str]) -> str:
    """A run that may not begin yet."""
    return f"waiting for {' or '.join(run_ids) or 'another run'} to end: so many runs of {pipeline} may be active"


def retried(run: StepRun, event: AttemptFailed, of: str, stream: TextIO) -> str:
    """An attempt that failed and will be made again."""
    wait = max(0.0, (event.retry_at or 0) / 1e6 - time())
    return (
        f"{paint('!', 'yellow', stream)} {name_of(run.step, run.index)} attempt {of} failed: "
        f"{shown_failure(event)}; next in {shown_seconds(wait)}"
    )


def shown_failure(event: AttemptFailed) -> str:
    return shortened(failure_shown(event.failure), 200)


def summary_lines(summary: Summary, stream: TextIO) -> list[str]:
    """State, duration, counts, what the cache saved; what refused, what was done outside, what failed; what next."""
    here = {state: number - summary.before.get(state, 0) for state, number in summary.counts.items()}
    counts = [f"{number} {state.replace('_', ' ')}" for state, number in _in_order(here) if number]
    counts += [f"{sum(summary.before.values())} finished before"] if summary.before else []
    saved = f"; the cache saved {shown_seconds(summary.saved_seconds)}" if summary.saved_seconds >= 0.001 else ""
    head = f"{symbol(summary.state, stream)} {summary.state} in {shown_seconds(summary.seconds)}"
    lines = [f"{head}{': ' if counts else ''}{', '.join(counts)}{saved}"]
    for told in summary.failures[:_FAILURES]:
        tries = f" on attempt {told.attempts}" if told.attempts > 1 else ""
        what = paint(f"{told.step} {told.state.replace('_', ' ')}{tries}", "red", stream)
        lines.append(f"  {what}: {failure_words(told.kind, told.exception, without_control(told.message))}")
        lines += [f"    at {told.where}"] if told.where else []
        lines += [f"    hint: {told.hint}"] if told.hint else []
    if len(summary.failures) > _FAILURES:
        lines.append(f"  … and {len(summary.failures) - _FAILURES} more that failed: penstock show {summary.run}")
    for gate in summary.gates:
        if not gate.passed:
            lines.append(f"  {paint(f'{gate.step} refused', 'yellow', stream)}: {'; '.join(gate.reasons)}")
    lines += [f"  ran with changed code: {', '.join(summary.changed)}"] if summary.changed else []
    lines += [f"  kept from older code: {', '.join(summary.kept)}"] if summary.kept else []
    lines += [f"  {note.step}: {note.note}" for note in summary.notes]
    lines += [
        f"  {paint('not cached', 'yellow', stream)}: {note.step} {note.note}; penstock why {summary.run} {note.step}"
        for note in summary.hidden
    ]
    if summary.output is not None and summary.state == "succeeded":
        lines.append(f"  output: {shortened(summary.output, 200)}")
    lines += [f"  next: {paint(again(each), 'bold', stream)}" for each in summary.next]
    return lines


def _in_order(counts: dict[str, int]) -> list[tuple[str, int]]:
    known = [(state, counts[state]) for state in _ORDER if state in counts]
    return known + [(state, number) for state, number in counts.items() if state not in _ORDER]
