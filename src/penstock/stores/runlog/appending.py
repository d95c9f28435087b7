"""One append: which rows its events change. What an event means is `ports.events`; here its result is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never

import msgspec

from ...core.errors import FencedError
from ...ports.artifacts import ArtifactRef
from ...ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    MapExpanded,
    RunCancelRequested,
    RunFinished,
    RunResumed,
    RunStarted,
    StepBlocked,
    StepCached,
    StepCancelled,
    StepEvent,
    StepReopened,
    StepSkipped,
    StepSucceeded,
    next_step_run,
    reopened_step_run,
)
from ...ports.records import StepRun, StepState
from .database import Batch, Row, packed
from .rows import STATE_AT, StoredStep, encoded

StepKey = tuple[str, str]


class Append:
    """Collects the rows of one append, event by event, against the stored step runs.

    `find` gives a stored step run or None, `find_all` all of a run's; both are asked inside the transaction.
    """

    def __init__(
        self,
        run_id: str,
        run_no: int,
        epoch: int,
        last_seq: int,
        find: Callable[[StepKey], StoredStep | None],
        find_all: Callable[[], list[StoredStep]],
        lease_until: Callable[[], int],
    ) -> None:
        self.run_id = run_id
        self.run_no = run_no
        self.epoch = epoch
        self.seq = last_seq
        self.steps: dict[StepKey, StoredStep] = {}  # what changed
        self._find = find
        self._find_all = find_all
        self._lease_until = lease_until
        self._counts = [0] * len(STATE_AT)
        self._events: list[Row] = []
        self._run_changes: list[Batch] = []
        self._new_attempts: list[Row] = []
        self._ended_attempts: list[Row] = []
        self._artifacts: list[Row] = []
        self._dropped_edges: list[Row] = []
        self._edges: dict[tuple[str, str, str], list[Row]] = {}
        self._cache_entries: list[Row] = []

    def add(self, event: Event, writer_epoch: int) -> None:
        """Take one event, or raise FencedError."""
        self.seq += 1
        self._events.append((self.run_no, self.seq, encoded(event)))
        match event:
            case StepSucceeded() | AttemptFailed():
                self._check_epoch(writer_epoch)
                self._finish_attempt(event)
            case AttemptStarted():
                self._check_epoch(writer_epoch)
                self._start_attempt(event)
            case StepCached() | StepSkipped() | StepBlocked() | StepCancelled() | StepReopened():
                self._check_epoch(writer_epoch)
                stored = self._stored(event)
                self._leave_attempt(stored.run, event.at, by_cancel=isinstance(event, StepCancelled))
                self._step(event, stored)
            case MapExpanded():
                self._check_epoch(writer_epoch)
            case RunStarted():
                self._check_epoch(writer_epoch)
                self._change_run("start_run", event.at)
            case RunFinished():
                self._check_epoch(writer_epoch)
                self._change_run("finish_run", event.state.value, event.error, event.at)
            case RunCancelRequested():  # anybody may ask
                self._change_run("request_cancel")
            case RunResumed():
                self._resume(event)
            case _:
                assert_never(event)

    def batches(self) -> list[Batch]:
        """Everything to write, in order."""
        edges = [row for rows in self._edges.values() for row in rows]
        steps = [stored.row(self.run_no) for stored in self.steps.values()]
        every: list[Batch] = [
            ("insert_event", self._events),
            ("insert_attempt", self._new_attempts),
            ("end_attempt", self._ended_attempts),
            ("upsert_step_run", steps),
            ("delete_edges", self._dropped_edges),
            ("insert_edge", edges),
            ("insert_artifact", self._artifacts),
            ("upsert_cache_entry", self._cache_entries),
            *self._run_changes,
            ("update_run", [(self.seq, *self._counts, self.run_no)]),
        ]
        return [batch for batch in every if batch[1]]

    def _check_epoch(self, writer: int) -> None:
        if writer != self.epoch:
            raise FencedError(
                f"run '{self.run_id}' has been taken over: its epoch is {self.epoch}, this process has {writer}",
                hint=f"it goes on elsewhere; see: penstock show {self.run_id}",
            )

    def _change_run(self, statement: str, *values: Any) -> None:
        self._run_changes.append((statement, [(*values, self.run_no)]))

    def _resume(self, event: RunResumed) -> None:
        if event.epoch != self.epoch + 1:
            raise FencedError(
                f"run '{self.run_id}' cannot be resumed as epoch {event.epoch}: it is at {self.epoch}, so another "
                "process has resumed it",
                hint=f"see: penstock show {self.run_id}",
            )
        self.epoch = event.epoch
        manifest = None if event.manifest is None else packed(event.manifest)
        self._change_run("resume_run", event.epoch, event.host, event.pid, manifest, self._lease_until())
        if event.code is not None or event.environment is not None:
            code = None if event.code is None else encoded(event.code)
            environment = None if event.environment is None else encoded(event.environment)
            self._change_run("renew_run_record", code, environment)
        every = {(stored.run.step, stored.run.index): stored for stored in self._find_all()} | self.steps
        for key, stored in every.items():
            reopened = reopened_step_run(stored.run)
            if reopened is not stored.run:
                self._leave_attempt(stored.run, event.at)
                self._keep(key, stored, reopened)

    def _start_attempt(self, event: AttemptStarted) -> None:
        stored = self._stored(event)
        before = stored.run
        if event.attempt <= before.attempts:
            raise FencedError(
                f"attempt {event.attempt} of step '{_shown(event)}' in run '{self.run_id}' belongs to another process",
                hint="the newest attempt goes on; this one must stop",
            )
        self._leave_attempt(before, event.at)
        self._new_attempts.append(
            (
                self.run_no,
                event.step,
                event.index,
                event.attempt,
                event.at,
                event.host,
                event.pid,
                event.engine_attempt,
            )
        )
        self._step(event, stored)

    def _finish_attempt(self, event: StepSucceeded | AttemptFailed) -> None:
        stored = self._stored(event)
        before = stored.run
        if event.attempt != before.attempts or before.state is not StepState.RUNNING:
            raise FencedError(
                f"attempt {event.attempt} of step '{_shown(event)}' in run '{self.run_id}' may not finish: the step is "
                f"{before.state.value} and its newest attempt is {before.attempts}",
                hint="what this attempt did is not recorded; the newest attempt counts",
            )
        seconds, cpu_seconds, at = event.seconds, event.cpu_seconds, event.at
        if isinstance(event, AttemptFailed):
            final = msgspec.structs.replace(event, retry_at=None) if event.retry_at is not None else event
            state = next_step_run(before, final).state.value
            self._end_attempt(event.step, event.index, event.attempt, state, at, seconds, cpu_seconds, failed=True)
        else:
            self._end_attempt(event.step, event.index, event.attempt, "succeeded", at, seconds, cpu_seconds)
            if event.key is not None:
                self._cache_entries.append((packed(event.key), self.run_no, event.step, event.index, at, self.seq))
        self._step(event, stored)

    def _leave_attempt(self, before: StepRun, at: int, *, by_cancel: bool = False) -> None:
        """An attempt that was running is over without having said so: its process was lost or told to stop."""
        if before.state is StepState.RUNNING:
            state = "cancelled" if by_cancel else "interrupted"
            self._end_attempt(before.step, before.index, before.attempts, state, at)

    def _end_attempt(
        self,
        step: str,
        index: str,
        number: int,
        state: str,
        at: int,
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
        *,
        failed: bool = False,
    ) -> None:
        failure_seq = self.seq if failed else None
        self._ended_attempts.append((state, at, seconds, cpu_seconds, failure_seq, self.run_no, step, index, number))

    def _stored(self, event: StepEvent) -> StoredStep:
        key = (event.step, event.index)
        stored = self.steps.get(key) or self._find(key)
        return stored or StoredStep(StepRun(event.step, event.index, StepState.PENDING), 0, {})

    def _step(self, event: StepEvent, stored: StoredStep) -> None:
        self._keep((event.step, event.index), stored, next_step_run(stored.run, event))

    def _keep(self, key: StepKey, stored: StoredStep, run: StepRun) -> None:
        """Store what became of a step run, with its counters and edges."""
        before = stored.run
        if stored.first_seq:
            self._counts[STATE_AT[before.state]] -= 1
        else:
            stored.first_seq = self.seq
        self._counts[STATE_AT[run.state]] += 1
        self.steps[key] = stored.followed_by(run, self.seq)
        if run.inputs is not before.inputs:
            self._replace_edges(key, "in", before.inputs, _in_edges(self.run_no, key, run.inputs))
        if run.outputs is not before.outputs:
            self._replace_edges(key, "out", before.outputs, self._out_edges(key, run.outputs))

    def _replace_edges(
        self, key: StepKey, direction: str, before: Sequence[str] | dict[str, Any], rows: list[Row]
    ) -> None:
        if before:
            self._dropped_edges.append((self.run_no, *key, direction))
        if rows or before:
            self._edges[(*key, direction)] = rows

    def _out_edges(self, key: StepKey, outputs: dict[str, ArtifactRef]) -> list[Row]:
        rows: list[Row] = []
        for name, ref in outputs.items():
            digest = packed(ref.digest)
            self._artifacts.append((digest, ref.codec, ref.size_bytes, encoded(ref)))
            rows.append((self.run_no, *key, "out", name, 0, digest))
        return rows


def _in_edges(run_no: int, key: StepKey, inputs: dict[str, list[str]]) -> list[Row]:
    return [
        (run_no, *key, "in", name, position, packed(digest))
        for name, digests in inputs.items()
        for position, digest in enumerate(digests)
    ]


def _shown(event: StepEvent) -> str:
    return f"{event.step}[{event.index}]" if event.index else event.step
