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
from .records import Attempt, Failure, FailureClass, HiddenInput, Observation, RunState, StepRun, StepState
from .stepruns import StepRuns


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    at: int  # microseconds UTC


class RunStarted(_Event, tag="run_started", frozen=True, kw_only=True):
    """The run exists. Its parameters, code and environment are in its RunRecord."""


class RunResumed(_Event, tag="run_resumed", frozen=True, kw_only=True):
    """A new owner took the run over; writers of an older epoch are fenced."""

    epoch: int
    host: str = ""
    pid: int = 0
    engine_run: str = ""  # where an engine took it over: its own name of the run from here on
    deployment: str = ""  # …and of the pipeline, where penstock handed it over
    profile: str = ""  # with which it was handed over
    waived: tuple[str, ...] = ()  # what somebody accepted to do without from here on
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
    memory_limit: int | None = None  # bytes that this attempt may use; more than the first one had, where it has grown


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


class StepReopened(_StepEvent, tag="step_reopened", frozen=True, kw_only=True):
    """A step that was done is open again: what it gave is gone from the store, or what it needs is being made anew."""

    because: str


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
    | StepReopened
)


class Trouble(msgspec.Struct, frozen=True):
    """What the failed attempts of an instance mean for its next one."""

    out_of_memory: int = 0  # attempts that ran out of it, in the whole run: memory stays as it has grown
    last: str = ""  # key and sameness of the newest failure, since the newest resume; "" where it need not come again

    def after(self, failure: Failure, key: str | None) -> Trouble:
        """This, and one more failure."""
        more = self.out_of_memory + (failure.kind is FailureClass.OUT_OF_MEMORY)
        return Trouble(more, f"{key}:{failure.sameness}" if failure.sameness and key else "")


NO_TROUBLE = Trouble()

# The run's state is the first of these that applies once every instance is done; `succeeded` otherwise.
_WORST_FIRST = (
    (StepState.CANCELLED, RunState.CANCELLED),
    (StepState.FAILED, RunState.FAILED),
    (StepState.TIMED_OUT, RunState.FAILED),
    (StepState.UPSTREAM_FAILED, RunState.FAILED),
)


class Change(msgspec.Struct, frozen=True, gc=False):
    """One more fact, and the step run that it is about: as it was and as it is now. Of the run itself: None, None."""

    event: Event
    before: StepRun | None = None
    run: StepRun | None = None


class RunView:
    """What a run's events add up to so far. `apply` is the only way it changes."""

    def __init__(self) -> None:
        self.steps = StepRuns()
        self.sizes: dict[tuple[str, str], int] = {}  # (scope, enclosing index) -> size
        self.spent: dict[tuple[str, str], int] = {}  # attempts before the newest resume: a retry policy starts anew
        self.left_running: set[tuple[str, str]] = set()  # when the run's process died
        self.troubles: dict[tuple[str, str], Trouble] = {}  # of instances whose attempts failed
        self.kept: tuple[str, ...] = ()  # finished steps that older code made, since the newest resume
        self.lost: dict[tuple[str, str], dict[str, ArtifactRef]] = {}  # what a reopened step had given before
        self.epoch = 1
        self.cancel_requested = False
        self.finished: RunState | None = None
        self.error: str | None = None
        self.started_at = 0
        self.finished_at: int | None = None

    def step(self, name: str, index: str = "") -> StepRun:
        return self.steps.get((name, index)) or StepRun(name, index, StepState.PENDING)

    def trouble(self, name: str, index: str = "") -> Trouble:
        return self.troubles.get((name, index), NO_TROUBLE)

    def apply(self, event: Event) -> Change:
        if isinstance(event, _StepEvent):
            return self._apply_to_step(event)
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
            case _:
                assert_never(event)
        return Change(event)

    def _apply_to_step(self, event: StepEvent) -> Change:
        key = (event.step, event.index)
        before = self.step(*key)
        if isinstance(event, AttemptFailed):
            self.troubles[key] = self.trouble(*key).after(event.failure, before.key)
        elif isinstance(event, StepReopened):
            self.spent[key] = before.attempts
            if before.state.has_output:
                self.lost[key] = before.outputs
        run = self.steps[key] = next_step_run(before, event)
        return Change(event, before, run)

    def _reopen(self) -> None:
        """Resume keeps what is finished and gives everything else another chance; attempt numbers go on counting."""
        for key in list(self.steps):
            run = self.steps[key]
            if run.state.has_output:
                continue  # it stays as it is, and an attempt that a loss makes necessary begins to count at that loss
            reopened = reopened_step_run(run)
            self.spent[key] = run.attempts
            if run.state is StepState.RUNNING:
                self.left_running.add(key)
            if reopened is None:
                del self.steps[key]
            elif reopened is not run:
                self.steps[key] = reopened
        self.troubles = {key: Trouble(each.out_of_memory) for key, each in self.troubles.items()}

    def outcome(self) -> RunState:
        """The state of a run none of whose steps will run any more; the order is `_WORST_FIRST`."""
        states = self.steps.states
        if states[StepState.RUNNING] or states[StepState.PENDING]:
            return RunState.CANCELLED if self.cancel_requested else RunState.INTERRUPTED
        return next((outcome for state, outcome in _WORST_FIRST if states[state]), RunState.SUCCEEDED)

    def failed(self) -> StepRun | None:
        """The first step run that failed for good, or was stopped while it ran."""
        if not any(self.steps.states[state] for state in (StepState.FAILED, StepState.TIMED_OUT, StepState.CANCELLED)):
            return None
        return next((run for run in self.steps.values() if run.failure is not None and run.state.done), None)


StepEvent: TypeAlias = (
    AttemptStarted
    | AttemptFailed
    | StepSucceeded
    | StepCached
    | StepSkipped
    | StepBlocked
    | StepCancelled
    | StepReopened
)


def reopened_step_run(run: StepRun) -> StepRun | None:
    """What resume makes of a step run: itself if finished well; pending if it was tried; else as if never decided.

    One that was skipped, blocked or cancelled before its first attempt leaves nothing behind: it may have stood for
    the whole of a map, whose elements are other instances once the map is expanded.
    """
    if run.state.has_output:
        return run
    if not run.attempts:
        return None
    if run.state is StepState.PENDING and run.retry_at is None:
        return run
    if not run.attempts:
        return None
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
                memory_limit=event.memory_limit,
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
        case StepReopened():
            return StepRun(run.step, run.index, StepState.PENDING, attempts=run.attempts)
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


def attempts_of(events: Iterable[Event]) -> list[Attempt]:
    """Every attempt in the order of their starts. One that was running when something else became of its step run was
    lost, or told to stop."""
    open_ones: dict[tuple[str, str], Attempt] = {}
    found: list[Attempt] = []

    def end(key: tuple[str, str], at: int, state: str, **more: Any) -> None:
        attempt = open_ones.pop(key, None)
        if attempt is not None:
            found.append(msgspec.structs.replace(attempt, finished_at=at, state=state, **more))

    for event in events:
        match event:
            case AttemptStarted(step=step, index=index):
                end((step, index), event.at, "interrupted")
                open_ones[step, index] = Attempt(
                    step, index, event.attempt, started_at=event.at, host=event.host, pid=event.pid
                )
            case AttemptFailed(step=step, index=index, failure=failure):
                spent = {"seconds": event.seconds, "cpu_seconds": event.cpu_seconds}
                end((step, index), event.at, _failed_state(failure).value, failure=failure, **spent)
            case StepSucceeded(step=step, index=index):
                spent = {"seconds": event.seconds, "cpu_seconds": event.cpu_seconds}
                end((step, index), event.at, StepState.SUCCEEDED.value, **spent)
            case StepCancelled(step=step, index=index):
                end((step, index), event.at, StepState.CANCELLED.value)
            case StepCached(step=step, index=index) | StepSkipped(step=step, index=index):
                end((step, index), event.at, "interrupted")
            case StepBlocked(step=step, index=index) | StepReopened(step=step, index=index):
                end((step, index), event.at, "interrupted")
            case RunResumed():
                for key in list(open_ones):
                    end(key, event.at, "interrupted")
            case _:
                pass
    found.extend(open_ones.values())
    return sorted(found, key=lambda each: (each.started_at, each.step, each.index, each.number))


def run_state(graph: Graph, view: RunView, *, owner_alive: bool) -> RunState:
    """The state to show: a run that is not finished and whose owner is gone is interrupted, never running for ever."""
    if view.finished is not None:
        return view.finished
    return RunState.RUNNING if owner_alive else RunState.INTERRUPTED


EVENT_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
