"""`exec-step`: one instance of one step in this process, for an engine that orders steps itself."""

from __future__ import annotations

import os
import re
import selectors
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType

from ..core.errors import FencedError, NotFoundError, UsageError, did_you_mean
from ..graph import Graph
from ..ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunView,
    StepBlocked,
    StepEvent,
    StepSucceeded,
    fold,
)
from ..ports.records import FailureClass, RunRecord, StepState
from ..ports.runlog import Claim, Store
from .arguments import NotReady
from .capture import teed
from .endings import ending
from .execute import Execution
from .failure import failure_of
from .frontier import child
from .launcher import Launcher, Prepared, refused
from .processes import StepExit as StepExit
from .processes import die_with_engine
from .processtree import adopt_orphans, is_there_since, kill_below
from .services import Services
from .tasks import StepOutcome, StepTask
from .workers import Workers

_ELSEWHERE_S = 0.1
_PATIENCE_S = 3.0
_INDEX = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")


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
    """Own, decide, run and record one instance. Returns what the engine should see, and the last event.

    Raises NotFoundError or UsageError, before anything is written, where the graph has no such instance.
    """
    die_with_engine()
    adopt_orphans()
    events = [event for _, event in store.events(record.id)]
    view = fold(events)
    check_instance(graph, step, index, view)
    run = view.step(step, index)
    if run.state.has_output:
        return StepExit.DONE, None
    if run.state.done and run.failure is not None:
        return StepExit.FAILED, None  # a recorded final failure ends a later attempt before user code, uncounted
    if view.finished is not None or (run.state is StepState.RUNNING and _is_worked_on(events, step, index)):
        return StepExit.FENCED, None
    launcher = Launcher(graph, record, view, store, services)
    try:
        has_waited = False
        while isinstance(decision := launcher.decide(step, index, engine_attempt=engine_attempt), Prepared):
            claim = Claim(decision.entries_seen, has_waited)
            claims = {(step, index): claim} if decision.shared_key is not None else {}
            if not store.append(record.id, view.epoch, [decision.started], claims):
                break
            has_waited = True
            while True:  # somebody else computes the same: take the result when it is there
                threading.Event().wait(_ELSEWHERE_S)
                if not _has_twin_at_work(store, record.id, decision.started):
                    break
        match decision:
            case NotReady():
                return StepExit.NOT_READY, None
            case Prepared():
                with _Going(step) as going:
                    outcome = going.told(_outcome(decision, store, services, worker_module))
                event: StepEvent = launcher.concluded(decision, outcome)
            case _:
                event = decision
        before = refused(event)[:1] if event is decision and isinstance(event, AttemptFailed) else []
        store.append(record.id, view.epoch, [*before, event])
    except FencedError:
        return StepExit.FENCED, None
    match event:
        case AttemptFailed(retry_at=retry_at):
            return (StepExit.FAILED if retry_at is None else StepExit.RETRY), event
        case StepBlocked():
            return StepExit.UPSTREAM_FAILED, event
        case StepSucceeded() | _:
            return StepExit.DONE, event


def check_instance(graph: Graph, step: str, index: str, view: RunView | None = None) -> None:
    """Whether the graph, and the run as far as it is known, have this instance. An index becomes a part of paths, so
    nothing but positions passes."""
    names = [node.name for node in graph.nodes]
    if step not in names:
        raise NotFoundError(f"this graph has no step '{step}'", hint=did_you_mean(step, names))
    chain = graph.scopes_of(next(node.scope for node in graph.nodes if node.name == step))
    if index and _INDEX.fullmatch(index) is None:
        raise UsageError(f"--index {index!r} is not an index", hint='write positions from 0 on, such as "2" or "2.0"')
    positions = index.split(".") if index else []
    if len(positions) != len(chain):
        needs = f"needs {len(chain)}: one for each of {', '.join(chain)}" if chain else "is in no map and has no index"
        raise UsageError(f"--index {index!r} has {len(positions)} positions, but step '{step}' {needs}")
    above = ""
    for scope, position in zip(chain, positions, strict=True):
        size = view.sizes.get((scope, above)) if view is not None else None
        if size is not None and int(position) >= size:
            raise UsageError(
                f"--index {index!r}: the map '{scope}' has {size} elements, so there is no element {position}"
            )
        above = child(above, int(position))


def _is_worked_on(events: list[Event], step: str, index: str) -> bool:
    """Whether the newest attempt's process lives, as far as this host can tell."""
    begun = next(
        event
        for event in reversed(events)
        if isinstance(event, AttemptStarted) and (event.step, event.index) == (step, index)
    )
    return _lives(begun)


def _has_twin_at_work(store: Store, run_id: str, wanted: AttemptStarted) -> bool:
    """Whether another instance of this run computes the same key. What it claims says nothing of that: nobody may have
    told of the death of its process. One on another host is not waited for, for nobody here could tell."""
    events = [event for _, event in store.events(run_id)]
    begun = {(event.step, event.index): event for event in events if isinstance(event, AttemptStarted)}
    twins = [each for at, each in begun.items() if each.key == wanted.key and at != (wanted.step, wanted.index)]
    view = fold(events) if twins else RunView()
    return any(view.step(each.step, each.index).state is StepState.RUNNING and _lives(each) for each in twins)


def _lives(begun: AttemptStarted) -> bool:
    """Whether the process of an attempt is there, as far as this host can tell."""
    return (
        begun.host == os.uname().nodename and begun.pid not in (0, os.getpid()) and is_there_since(begun.pid, begun.at)
    )


def _outcome(prepared: Prepared, store: Store, services: Services, worker_module: str) -> StepOutcome:
    task = prepared.task

    def text(chunk: str) -> None:
        store.write_text(task.run_id, task.step, task.index, task.attempt, chunk)

    if task.timeout_s is None and task.limits is None:
        with teed(echo=True):
            outcome = Execution(task, services, text=text).run()
        if outcome.failure is not None and outcome.failure.kind is FailureClass.CANCELLED:
            kill_below(os.getpid())  # what a stopped attempt started goes with it
        return outcome
    return _supervised(task, services, worker_module, text)


def _supervised(task: StepTask, services: Services, worker_module: str, text: Callable[[str], None]) -> StepOutcome:
    """The attempt in a worker process, which can be stopped at its timeout or over its memory limit."""

    def shown(task: StepTask, chunk: str) -> None:
        text(chunk)
        sys.stdout.write(chunk)

    def nobody(task: StepTask, done: float, total: float | None, note: str) -> None:
        return

    with selectors.DefaultSelector() as selector:
        workers = Workers(1, worker_module, services, selector, shown, nobody)
        workers.give([task])
        worker = workers.busy[0]
        ended: list[tuple[StepTask, StepOutcome]] = []
        try:
            while not ended:
                deadline = workers.next_deadline()
                selector.select(None if deadline is None else max(0.0, deadline - monotonic()))
                ended = [*workers.readable(worker), *workers.overdue()]
        except KeyboardInterrupt:
            ended = [*workers.stop(patience_s=_PATIENCE_S)]
        finally:
            for _ in workers.stop(patience_s=0):
                pass
    return ended[0][1] if ended else StepOutcome(failure=failure_of(KeyboardInterrupt("stopped")))


class _Going:
    """SIGTERM while a step runs: its container or machine goes. The attempt ends, and is recorded as preempted."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._pid = os.getpid()
        self._asked = False
        self._takes = False

    def __enter__(self) -> _Going:
        on_main = threading.current_thread() is threading.main_thread()
        self._takes = on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._takes:
            signal.signal(signal.SIGTERM, self._told_to_go)
        return self

    def __exit__(self, *error: object) -> None:
        if self._takes:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def told(self, outcome: StepOutcome) -> StepOutcome:
        """The outcome, with the reason why the step was stopped."""
        if self._asked and outcome.failure is not None and outcome.failure.kind is FailureClass.CANCELLED:
            outcome.failure = failure_of(ending(self._step, -signal.SIGTERM, for_memory=None))
        return outcome

    def _told_to_go(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a process that the step forked ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self._asked:  # once: the step's own `finally` blocks are not interrupted again
            self._asked = True
            raise KeyboardInterrupt
