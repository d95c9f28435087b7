"""`exec-step`: one instance of one step in this process, for an engine that orders steps itself."""

from __future__ import annotations

import selectors
from enum import IntEnum
from time import monotonic

from ..core.errors import FencedError
from ..graph import Graph
from ..ports.events import AttemptFailed, StepBlocked, StepEvent, StepSucceeded, fold
from ..ports.records import RunRecord
from ..ports.runlog import Store
from .arguments import NotReady
from .capture import teed
from .execute import Execution
from .launcher import Launcher, Prepared
from .services import Services
from .tasks import StepOutcome
from .workers import Workers


class StepExit(IntEnum):
    """What an engine sees of `exec-step`."""

    DONE = 0  # succeeded, cached or skipped
    FAILED = 1  # for good: another attempt would be refused
    UPSTREAM_FAILED = 3
    NOT_READY = 4  # something it needs is not done; the engine called too early
    FENCED = 5  # a newer attempt or owner has taken over
    RETRY = 75  # failed; the policy would like another attempt


def execute_step(
    graph: Graph,
    record: RunRecord,
    store: Store,
    services: Services,
    *,
    step: str,
    index: str,
    engine_attempt: int | None,
    worker_module: str,
) -> tuple[StepExit, StepEvent | None]:
    """Own, decide, run and record one instance. Returns what the engine should see, and the last event."""
    view = fold(event for _, event in store.events(record.id))
    run = view.step(step, index)
    if run.state.has_output:
        return StepExit.DONE, None
    if run.state.done and run.failure is not None:
        return StepExit.FAILED, None  # a recorded final failure ends a later attempt before user code, uncounted
    launcher = Launcher(graph, record, view, store, services)
    decision = launcher.decide(step, index, engine_attempt=engine_attempt)
    try:
        match decision:
            case NotReady():
                return StepExit.NOT_READY, None
            case Prepared():
                store.append(record.id, view.epoch, [decision.started])
                event: StepEvent = launcher.concluded(decision, _outcome(decision, store, services, worker_module))
            case _:
                event = decision
        store.append(record.id, view.epoch, [event])
    except FencedError:
        return StepExit.FENCED, None
    match event:
        case AttemptFailed(retry_at=retry_at):
            return (StepExit.FAILED if retry_at is None else StepExit.RETRY), event
        case StepBlocked():
            return StepExit.UPSTREAM_FAILED, event
        case StepSucceeded() | _:
            return StepExit.DONE, event


def _outcome(prepared: Prepared, store: Store, services: Services, worker_module: str) -> StepOutcome:
    task = prepared.task

    def text(chunk: str) -> None:
        store.write_text(task.run_id, task.step, task.index, task.attempt, chunk)

    if task.timeout_s is None and task.limits is None:
        with teed(echo=True):
            return Execution(task, services, text=text).run()
    selector = selectors.DefaultSelector()
    workers = Workers(1, worker_module, services.boot, selector)
    worker = workers.start(task, text=text, progress=lambda done, total, note: None)
    while True:
        deadline = workers.next_deadline()
        ready = selector.select(None if deadline is None else max(0.0, deadline - monotonic()))
        ended = [*(workers.readable(worker) if ready else ()), *workers.overdue()]
        if ended:
            for _ in workers.stop(patience_s=0):
                pass
            return ended[-1][1]
