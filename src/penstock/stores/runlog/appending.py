"""One append: which rows its events change. What an event means is `ports.events`; here its result is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ...core.errors import FencedError
from ...ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    MapExpanded,
    RunCancelRequested,
    RunFinished,
    RunResumed,
    RunStarted,
    StepCached,
    StepEvent,
    StepSucceeded,
    next_step_run,
    reopened_step_run,
)
from ...ports.records import StepRun, StepState
from .database import Batch, Row, packed, place_of
from .rows import StoredStep, encoded, event_body

StepKey = tuple[str, str]


class Append:
    """Collects the rows of one append, event by event, against the stored step runs.

    `find` gives a stored step run or None, `find_all` all of a run's; both are asked inside the transaction. `claimed`
    are the instances whose starts claim their key for their run; `inline` holds digests of values that are in no blob.
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
        claimed: Collection[StepKey] = (),
        inline: set[str] | None = None,
        is_over: bool = False,
    ) -> None:
        self.run_id = run_id
        self.run_no = run_no
        self.epoch = epoch
        self.seq = last_seq
        self.steps: dict[StepKey, StoredStep] = {}  # what changed
        self.gone: set[StepKey] = set()  # what was undone, before what changed since
        self._find = find
        self._find_all = find_all
        self._lease_until = lease_until
        self._claimed = claimed
        self._inline = set() if inline is None else inline
        self._is_over = is_over
        self._events: list[Row] = []
        self._run_changes: list[Batch] = []
        self._artifacts: list[Row] = []
        self._made: list[Row] = []
        self._taken: list[Row] = []
        self._cache_entries: list[Row] = []

    def add(self, event: Event, writer_epoch: int) -> None:
        """Take one event, or raise FencedError."""
        self.seq = seq = self.seq + 1
        self._events.append((place_of(self.run_no, seq), event_body(event)))
        kind = type(event)
        if kind is RunResumed:
            self._resume(event)  # type: ignore[arg-type]
            return
        if kind is RunCancelRequested:  # anybody may ask
            self._change_run("request_cancel")
            return
        self._check_epoch(writer_epoch)
        if self._is_over:
            raise FencedError(
                f"run '{self.run_id}' is over: nothing more of it is recorded", hint=f"penstock show {self.run_id}"
            )
        match event:
            case RunStarted():
                self._change_run("start_run", event.at)
            case RunFinished():
                self._is_over = True
                self._change_run("finish_run", event.state.value, event.error, event.at)
            case MapExpanded():
                pass
            case _:
                self._add_to_step(event)  # type: ignore[arg-type]

    def run_batches(self) -> list[Batch]:
        """What the events change of the run itself, and the events."""
        return [("insert_event", self._events), *self._run_changes]

    def step_batches(self) -> list[Batch]:
        """What they change of step runs, and what is found through these."""
        every: list[Batch] = [
            ("delete_step_run", [(self.run_no, *key) for key in self.gone]),
            ("upsert_step_run", [stored.row(self.run_no) for stored in self.steps.values()]),
            ("insert_artifact", self._artifacts),
            ("insert_use", self._made),
            ("insert_use_of_stored", self._taken),
            ("insert_cache_entry", self._cache_entries),
        ]
        return [batch for batch in every if batch[1]]

    def _add_to_step(self, event: StepEvent) -> None:
        key = (event.step, event.index)
        stored = self.steps.get(key) or (None if key in self.gone else self._find(key))
        before = stored.run if stored is not None else StepRun(event.step, event.index, StepState.PENDING)
        claim: bytes | None = None
        match event:
            case AttemptStarted():
                if event.attempt <= before.attempts:
                    raise FencedError(
                        f"attempt {event.attempt} of step '{_shown(event)}' in run '{self.run_id}' belongs to another "
                        "process",
                        hint="the newest attempt goes on; this one must stop",
                    )
                if event.key is not None and key in self._claimed:
                    claim = packed(event.key)
                self._take(event.inputs)
            case StepSucceeded() | AttemptFailed():
                if event.attempt != before.attempts or before.state is not StepState.RUNNING:
                    raise FencedError(
                        f"attempt {event.attempt} of step '{_shown(event)}' in run '{self.run_id}' may not finish: the "
                        f"step is {before.state.value} and its newest attempt is {before.attempts}",
                        hint="what this attempt did is not recorded; the newest attempt counts",
                    )
                if isinstance(event, StepSucceeded):
                    self._make(event)
                    if event.key is not None:
                        self._cache_entries.append((packed(event.key), place_of(self.run_no, self.seq)))
            case StepCached():
                self._take(event.inputs)
                self._make(event)
            case _:
                pass
        self._keep(key, stored, next_step_run(before, event), claim)

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
        self.epoch, self._is_over = event.epoch, False
        manifest = None if event.manifest is None else packed(event.manifest)
        self._change_run("resume_run", event.epoch, event.host, event.pid, manifest, self._lease_until())
        if event.code is not None or event.environment is not None:
            code = None if event.code is None else encoded(event.code)
            environment = None if event.environment is None else encoded(event.environment)
            self._change_run("renew_run_record", code, environment)
        found = {(stored.run.step, stored.run.index): stored for stored in self._find_all()}
        every = {key: stored for key, stored in found.items() if key not in self.gone} | self.steps
        for key, stored in every.items():
            reopened = reopened_step_run(stored.run)
            if reopened is None:
                self._undo(key)
            elif reopened is not stored.run:
                self._keep(key, stored, reopened, None)

    def _undo(self, key: StepKey) -> None:
        """A step run that is as if it had never been decided."""
        self.gone.add(key)
        self.steps.pop(key, None)

    def _keep(self, key: StepKey, stored: StoredStep | None, run: StepRun, claim: bytes | None) -> None:
        """Store what became of a step run."""
        before = stored.seqs if stored is not None else ()
        self.steps[key] = StoredStep(run, (*before, self.seq), claim)

    def _make(self, event: StepSucceeded | StepCached) -> None:
        for ref in event.outputs.values():
            if ref.inline is not None:
                self._inline.add(ref.digest)
                continue
            digest = packed(ref.digest)
            self._artifacts.append((digest, ref.codec, ref.size_bytes, encoded(ref)))
            self._made.append((digest, place_of(self.run_no, self.seq)))

    def _take(self, inputs: dict[str, list[str]]) -> None:
        """Inputs that lie in blobs are found again by their digest; of the others nobody asks who used them."""
        for digests in inputs.values():
            for digest in digests:
                if digest not in self._inline:
                    self._taken.append((place_of(self.run_no, self.seq), packed(digest)))


def _shown(event: StepEvent) -> str:
    return f"{event.step}[{event.index}]" if event.index else event.step
