"""Facts about a run, in order, and the one pure fold that decides what they mean.

The run log stores events; its tables are projections of them; the scheduler, `show` and another engine's finaliser
all read a run through `RunView.apply`. The type checker finds a missed case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, assert_never

import msgspec

from ..graph import Graph
from .artifacts import ArtifactRef
from .records import Failure, FailureClass, HiddenInput, Observation, RunState, StepRun, StepState


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    at: int  # microseconds UTC


class RunStarted(_Event, tag="run_started", frozen=True, kw_only=True):
    """The run exists. Its parameters, code and environment are in its RunRecord."""


class RunResumed(_Event, tag="run_resumed", frozen=True, kw_only=True):
    """A new owner took the run over; writers of an older epoch are fenced."""

    epoch: int
    host: str = ""
    pid: int = 0
    manifest: str | None = None  # when resumed with the current code, as all that follows
    code: dict[str, Any] | None = None  # what RunRecord.code and .environment are from here on
    environment: dict[str, Any] | None = None
    earlier_code: dict[str, str] = {}  # target -> digest, as it was until here
    kept: tuple[str, ...] = ()  # finished steps that stay although their code is another one now


class RunCancelRequested(_Event, tag="run_cancel_requested", frozen=True, kw_only=True):
    by: str = ""


class RunFinished(_Event, tag="run_finished", frozen=True, kw_only=True):
    state: RunState
    error: str | None = None


class MapExpanded(_Event, tag="map_expanded", frozen=True, kw_only=True):
    """A scope learned its size. `index` is the enclosing index path."""

    scope: str
    index: str = ""
    size: int


class _StepEvent(_Event, frozen=True, kw_only=True):
    step: str
    index: str = ""


class AttemptStarted(_StepEvent, tag="attempt_started", frozen=True, kw_only=True):
    """Ownership of one attempt. Attempt numbers count from 1; a number can be taken once."""

    attempt: int
    host: str = ""
    pid: int = 0
    key: str | None = None
    inputs: dict[str, list[str]] = {}  # argument -> digests: the edges of the lineage
    parts: dict[str, str] = {}  # the rest of what the cache key is made of: code, python, seed, declared environment
    waived: tuple[str, ...] = ()  # requests that this place does not keep, such as "gpu=1"
    engine_attempt: int | None = None


class AttemptFailed(_StepEvent, tag="attempt_failed", frozen=True, kw_only=True):
    """The attempt is over. `retry_at` None: no further attempt will be made."""

    attempt: int
    failure: Failure
    retry_at: int | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class StepSucceeded(_StepEvent, tag="step_succeeded", frozen=True, kw_only=True):
    """Outputs are committed. With `key`, others may take them while the observations still hold.

    `hidden` is what the result may depend on besides; where the key was kept all the same, only to tell.
    """

    attempt: int
    outputs: dict[str, ArtifactRef]
    key: str | None = None
    observations: tuple[Observation, ...] = ()
    metrics: dict[str, float] = {}
    note: str | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    hidden: tuple[HiddenInput, ...] = ()


class StepCached(_StepEvent, tag="step_cached", frozen=True, kw_only=True):
    """A verified hit: the outputs of `origin` (run, step, index) stand for this step's."""

    key: str
    outputs: dict[str, ArtifactRef]
    origin: tuple[str, str, str]
    inputs: dict[str, list[str]] = {}
    parts: dict[str, str] = {}
    observations: tuple[Observation, ...] = ()
    metrics: dict[str, float] = {}
    note: str | None = None
    saved_seconds: float = 0.0


class StepSkipped(_StepEvent, tag="step_skipped", frozen=True, kw_only=True):
    because: str


class StepBlocked(_StepEvent, tag="step_blocked", frozen=True, kw_only=True):
    """Something it needs failed; it can never start in this run."""

    because: str


class StepCancelled(_StepEvent, tag="step_cancelled", frozen=True, kw_only=True):
    because: str = ""


Event: TypeAlias = (
    RunStarted
    | RunResumed
    | RunCancelRequested
    | RunFinished
    | MapExpanded
    | AttemptStarted
    | AttemptFailed
    | StepSucceeded
    | StepCached
    | StepSkipped
    | StepBlocked
    | StepCancelled
)

# The run's state is the first of these that applies once every instance is done; `succeeded` otherwise.
_WORST_FIRST = (
    (StepState.CANCELLED, RunState.CANCELLED),
    (StepState.FAILED, RunState.FAILED),
    (StepState.TIMED_OUT, RunState.FAILED),
    (StepState.UPSTREAM_FAILED, RunState.FAILED),
)


class RunView:
    """What a run's events add up to so far. `apply` is the only way it changes."""

    def __init__(self) -> None:
        self.steps: dict[tuple[str, str], StepRun] = {}
        self.sizes: dict[tuple[str, str], int] = {}  # (scope, enclosing index) -> size
        self.spent: dict[tuple[str, str], int] = {}  # attempts before the newest resume: a retry policy starts anew
        self.kept: tuple[str, ...] = ()  # finished steps that older code made, since the newest resume
        self.epoch = 1
        self.cancel_requested = False
        self.finished: RunState | None = None
        self.error: str | None = None
        self.started_at = 0
        self.finished_at: int | None = None

    def step(self, name: str, index: str = "") -> StepRun:
        return self.steps.get((name, index)) or StepRun(name, index, StepState.PENDING)

    def apply(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.started_at = event.at
            case RunResumed():
                self.epoch, self.finished, self.finished_at = event.epoch, None, None
                self.cancel_requested, self.error = False, None
                self.kept = event.kept
                self._reopen()
            case RunCancelRequested():
                self.cancel_requested = True
            case RunFinished():
                self.finished, self.error, self.finished_at = event.state, event.error, event.at
            case MapExpanded():
                self.sizes[event.scope, event.index] = event.size
            case (
                AttemptStarted()
                | AttemptFailed()
                | StepSucceeded()
                | StepCached()
                | StepSkipped()
                | StepBlocked()
                | StepCancelled()
            ):
                self.steps[event.step, event.index] = next_step_run(self.step(event.step, event.index), event)
            case _:
                assert_never(event)

    def _reopen(self) -> None:
        """Resume keeps what is finished and gives everything else another chance; attempt numbers go on counting."""
        for key, run in list(self.steps.items()):
            reopened = reopened_step_run(run)
            self.spent[key] = run.attempts
            if reopened is not run:
                self.steps[key] = reopened

    def outcome(self) -> RunState:
        """The state of a run none of whose steps will run any more; the order is `_WORST_FIRST`."""
        states = {run.state for run in self.steps.values()}
        if states & {StepState.RUNNING, StepState.PENDING}:
            return RunState.CANCELLED if self.cancel_requested else RunState.INTERRUPTED
        return next((outcome for state, outcome in _WORST_FIRST if state in states), RunState.SUCCEEDED)


StepEvent: TypeAlias = (
    AttemptStarted | AttemptFailed | StepSucceeded | StepCached | StepSkipped | StepBlocked | StepCancelled
)


def reopened_step_run(run: StepRun) -> StepRun:
    """What resume makes of a step run: itself if finished well (or skipped: that is decided anew), else pending."""
    if run.state.has_output or (run.state is StepState.PENDING and run.retry_at is None):
        return run
    return StepRun(run.step, run.index, StepState.PENDING, attempts=run.attempts)


def next_step_run(run: StepRun, event: StepEvent) -> StepRun:
    """The step run after one more fact about it."""
    change = msgspec.structs.replace
    match event:
        case AttemptStarted():
            return change(
                run,
                state=StepState.RUNNING,
                attempts=event.attempt,
                key=event.key,
                inputs=event.inputs,
                parts=event.parts,
                waived=event.waived,
                started_at=run.started_at or event.at,
                failure=None,
                retry_at=None,
            )
        case AttemptFailed():
            if event.retry_at is not None:
                return change(run, state=StepState.PENDING, failure=event.failure, retry_at=event.retry_at)
            return change(
                run,
                state=_failed_state(event.failure),
                failure=event.failure,
                finished_at=event.at,
                seconds=event.seconds,
                retry_at=None,
            )
        case StepSucceeded():
            return change(
                run,
                state=StepState.SUCCEEDED,
                outputs=event.outputs,
                finished_at=event.at,
                seconds=event.seconds,
                note=event.note,
                observations=event.observations,
                failure=None,
                metrics=event.metrics,
                key=event.key if event.hidden else event.key or run.key,
                hidden=event.hidden,
            )
        case StepCached():
            return change(
                run,
                state=StepState.CACHED,
                key=event.key,
                outputs=event.outputs,
                inputs=event.inputs,
                parts=event.parts,
                origin=event.origin,
                started_at=run.started_at or event.at,
                finished_at=event.at,
                note=event.note,
                observations=event.observations,
                metrics=event.metrics,
                failure=None,
            )
        case StepSkipped():
            return change(run, state=StepState.SKIPPED, note=event.because, finished_at=event.at)
        case StepBlocked():
            return change(run, state=StepState.UPSTREAM_FAILED, note=event.because, finished_at=event.at)
        case StepCancelled():
            return change(run, state=StepState.CANCELLED, note=event.because or None, finished_at=event.at)
        case _:
            assert_never(event)


def _failed_state(failure: Failure) -> StepState:
    if failure.kind is FailureClass.TIMEOUT:
        return StepState.TIMED_OUT
    return StepState.CANCELLED if failure.kind is FailureClass.CANCELLED else StepState.FAILED


def fold(events: Iterable[Event]) -> RunView:
    """What these events, in order, add up to."""
    view = RunView()
    for event in events:
        view.apply(event)
    return view


def run_state(graph: Graph, view: RunView, *, owner_alive: bool) -> RunState:
    """The state to show: a run that is not finished and whose owner is gone is interrupted, never running for ever."""
    if view.finished is not None:
        return view.finished
    return RunState.RUNNING if owner_alive else RunState.INTERRUPTED


EVENT_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
