"""The end of a run that another engine ordered: what it never started, what it lost, and what that comes to."""

from __future__ import annotations

import threading
from time import monotonic

from ..core.errors import FencedError
from ..ports.events import AttemptFailed, Event, MapExpanded, RunFinished, StepBlocked, StepCancelled, StepSkipped
from ..ports.records import FailureClass, RunState, StepRun, StepState
from .arguments import Blocked, NotReady, Skipped
from .expanding import closed
from .failure import failure_of
from .frontier import Frontier, Item
from .single import StepSession

_PATIENCE_S = 5.0  # for a step whose process is about to record its end
_LOOK_S = 0.1


def close_run(session: StepSession, told: RunState | None = None, because: str = "") -> RunState:
    """Close the run, if nobody has. `told`: how the engine says that it ended; that it was cancelled counts. `because`:
    what kept it from beginning there.

    A step that never started gets the state that the launcher would have given it; one that could have started, and
    did not, is cancelled, and the run has failed.
    """
    session.catch_up()
    if session.view.finished is not None:
        return session.view.finished
    if not session.is_ours:
        raise FencedError(
            f"run {session.record.id} is not {session.engine}'s any more: it was taken over",
            hint=f"penstock show {session.record.id}",
        )
    try:
        _end_lost(session, told)
        missed = _decide_rest(session)
        session.catch_up()
        state, error = _state(session, told, missed)
        session.append(RunFinished(at=session.services.clock.now_us(), state=state, error=because or error))
    except FencedError:
        session.catch_up()
        if session.view.finished is None or not session.is_ours:
            raise
        return session.view.finished  # somebody else has closed it meanwhile
    session.catch_up()
    return session.view.finished or state


def _end_lost(session: StepSession, told: RunState | None) -> None:
    """Attempts that never recorded an end. One whose process lives here gets a moment to do so."""
    deadline = monotonic() + _PATIENCE_S
    while True:
        running = [run for run in session.view.steps.values() if run.state is StepState.RUNNING]
        alive = [run for run in running if session.is_worked_on(run.step, run.index)]
        if not alive or monotonic() > deadline:
            break
        threading.Event().wait(_LOOK_S)
        session.catch_up()
    now = session.services.clock.now_us()
    for run in running:
        if told is RunState.CANCELLED or session.view.cancel_requested:
            failure = failure_of(KeyboardInterrupt("stopped by the engine"))
            session.append(AttemptFailed(at=now, step=run.step, index=run.index, attempt=run.attempts, failure=failure))
        else:
            session.record_lost(run.step, run.index)
    session.catch_up()


def _decide_rest(session: StepSession) -> list[StepRun]:
    """Walk through the graph as the embedded engine would. Returns step runs that could have started and did not."""
    view, resolver, clock = session.view, session.launcher.resolver, session.services.clock
    frontier, missed = Frontier(session.graph), list[StepRun]()

    def record(*events: Event) -> None:
        session.append(*events)
        session.catch_up()

    while frontier.ready or frontier.open_more():
        item = frontier.ready.popleft()
        if item.is_scope:
            _expand(session, frontier, item)
            continue
        run = view.step(item.name, item.index)
        if not run.state.done and view.cancel_requested:  # whoever stops a run says no more of what is left
            because = _why_not(session, run)
            record(StepCancelled(at=clock.now_us(), step=item.name, index=item.index, because=because))
        elif not run.state.done:
            verdict = resolver.arguments(session.graph.node(item.name), item.index)
            kind: type[StepSkipped | StepBlocked | StepCancelled] = StepCancelled
            if isinstance(verdict, Skipped | Blocked):
                kind, because = StepSkipped if isinstance(verdict, Skipped) else StepBlocked, verdict.because
            else:
                missed.append(run)
                because = _why_not(session, run)
            record(kind(at=clock.now_us(), step=item.name, index=item.index, because=because))
        frontier.finished(item.name, item.index)
    return missed


def _expand(session: StepSession, frontier: Frontier, item: Item) -> None:
    now = session.services.clock.now_us()
    if session.view.cancel_requested and (item.name, item.index) not in session.view.sizes:
        session.append(
            *(
                StepCancelled(at=now, step=name, index=item.index, because=_why_not(session, run))
                for name in frontier.inside(item.name)
                if not (run := session.view.step(name, item.index)).state.done
            )
        )
        session.catch_up()
        frontier.closed(item.name, item.index)
        return
    size = session.launcher.resolver.expand(item.name, item.index)
    if isinstance(size, int):
        if session.view.sizes.get((item.name, item.index)) != size:
            session.append(MapExpanded(at=now, scope=item.name, index=item.index, size=size))
            session.catch_up()
        frontier.expanded(item.name, item.index, size)
        return
    verdict = Blocked(f"'{size.needs}' is not done") if isinstance(size, NotReady) else size
    if events := closed(session, item.name, item.index, verdict):
        session.append(*events)
        session.catch_up()
    frontier.closed(item.name, item.index)


def _why_not(session: StepSession, run: StepRun) -> str:
    if session.view.cancel_requested:
        return "another step failed (fail_fast)" if _failed(session) else "the run was asked to stop"
    engine = session.engine or "the engine"
    return f"{engine} made no further attempt" if run.attempts else f"{engine} never started it"


def _failed(session: StepSession) -> bool:
    states = session.view.steps.states
    return session.graph.fail_fast and bool(states[StepState.FAILED] or states[StepState.TIMED_OUT])


def _state(session: StepSession, told: RunState | None, missed: list[StepRun]) -> tuple[RunState, str | None]:
    """What the run comes to. A request to cancel that a failure made (fail_fast) is a failure."""
    view = session.view
    failed = next((run for run in view.steps.values() if run.failure is not None and _is_a_failure(run)), None)
    error = f"{failed.step}: {failed.failure.message}" if failed is not None and failed.failure is not None else None
    if told is RunState.CANCELLED or (view.cancel_requested and not _failed(session)):
        return RunState.CANCELLED, error
    if error is None and missed:
        error = f"{missed[0].step}: {_why_not(session, missed[0])}"
    state = view.outcome()
    if _failed(session) or missed or state is RunState.INTERRUPTED:
        return RunState.FAILED, error
    return state, error if state is not RunState.SUCCEEDED else None


def _is_a_failure(run: StepRun) -> bool:
    return run.state.done and run.failure is not None and run.failure.kind is not FailureClass.CANCELLED
