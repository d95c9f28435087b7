"""`exec-step`: single instances of one run in this process, for an engine that orders steps itself."""

from __future__ import annotations

import os
import re
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from time import monotonic

from ..core.errors import FencedError, NotFoundError, StoreUnavailableError, UsageError, did_you_mean
from ..graph import Graph
from ..ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunCancelRequested,
    RunResumed,
    RunView,
    StepBlocked,
    StepCancelled,
    StepEvent,
    StepReopened,
    fold,
)
from ..ports.records import ENGINE_HOST, FailureClass, RunRecord, RunState, StepState
from ..ports.runlog import Claim, Instance, Store
from .arguments import NotReady
from .capture import teed
from .endings import ending
from .execute import Execution
from .failure import failure_of
from .frontier import child
from .going import Going, Watch
from .launcher import Launcher, Prepared, refused
from .processes import HAS_PLACE, die_with_engine
from .processes import StepExit as StepExit
from .processtree import adopt_orphans, is_there_since, kill_below
from .services import Services
from .sharing import TOLD_S, SharedPlaces, pause_after
from .tasks import StepOutcome, StepTask
from .workers import Workers

FAIL_FAST = "fail_fast"  # who asked for the end of a run one of whose steps failed
_WAITING_S = 1.0
_ELSEWHERE_S = 0.1
_PATIENCE_S = 3.0
_AWAY_S = 900.0  # how long a result waits for a run log that is away
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
    session = StepSession(graph, record, store, services, worker_module=worker_module)
    try:
        return session.execute(step, index, engine_attempt)
    finally:
        session.close()


class StepSession:
    """One run in the hands of a process that executes single instances of it, when an engine says so.

    `engine`: the name of an engine that is not ours. Then nobody else watches the run: attempts that were lost are
    recorded here, delays are kept here, and a request to cancel stops what runs. `told` gets what steps print.
    `in_image`: code is that of a container image, which may be of another day than the run.
    """

    def __init__(
        self,
        graph: Graph,
        record: RunRecord,
        store: Store,
        services: Services,
        *,
        worker_module: str,
        engine: str = "",
        engine_run: str = "",
        is_older: bool = False,
        in_image: bool = False,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self.graph = graph
        self.record = record
        self.view = RunView()
        self.store = store
        self.services = services
        self.engine = engine
        self.engine_run = engine_run  # the name under which the engine has the run, as far as the caller knows it
        self.is_older = is_older  # the run began with another graph than the one that the engine has now
        self._in_image = in_image
        self._told = told
        self._seen = 0
        self._begun: dict[Instance, AttemptStarted] = {}  # the newest attempt of each
        self._owner = record.host
        self._owned_as = ""  # the engine's name of the run, since it was taken over
        self._launcher: Launcher | None = None
        self._supervisor = _Supervisor(services, worker_module)
        self._pools = {node.name: node.options.pool for node in graph.nodes if node.options.pool is not None}
        self._has_place = os.environ.pop(HAS_PLACE, "") == "1"  # the engine took it for us

    @property
    def launcher(self) -> Launcher:
        if self._launcher is None:
            self._launcher = Launcher(self.graph, self.record, self.view, self.store, self.services)
            if self._in_image:
                self._launcher.held_to = self.record.code.get("steps", {})
        return self._launcher

    def close(self) -> None:
        self._supervisor.close()

    def catch_up(self) -> None:
        """Read what has happened since the last time."""
        for sequence, event in self.store.events(self.record.id, after=self._seen):
            self._seen = sequence
            self.view.apply(event)
            match event:
                case AttemptStarted():
                    self._begun[event.step, event.index] = event
                case StepReopened():
                    if self._launcher is not None:
                        self._launcher.resolver.forget()
                case RunResumed():
                    self._owner, self._owned_as = event.host, event.engine_run
                case _:
                    pass

    def execute(self, step: str, index: str, engine_attempt: int | None) -> tuple[StepExit, StepEvent | None]:
        """Own, decide, run and record one instance."""
        self.catch_up()
        check_instance(self.graph, step, index, self.view)
        try:
            early = self._early(step, index)
            if early is not None:
                return early, None
            if (known := self._waited(step, index)) is not None:
                return known
            pool = "" if self._has_place else self._pools.get(step, "")
            if not pool:
                return self._execute(step, index, engine_attempt)
            places = SharedPlaces(self.store, self.record.id, "pool", self.services.pools)
            try:
                return self._execute(step, index, engine_attempt, lambda: self._awaited(places, pool, step, index))
            finally:
                places.close()
        except FencedError:
            return StepExit.FENCED, None

    @property
    def is_ours(self) -> bool:
        """Whether the run still belongs to the engine, and to the run of the engine, that this session stands for."""
        if not self.engine:
            return True
        if self._owner != ENGINE_HOST + self.engine:
            return False
        return not (self._owned_as and self.engine_run) or self._owned_as == self.engine_run

    def append(self, *events: Event, claims: Mapping[Instance, Claim] | None = None) -> bool:
        """Record; False where a claim was refused."""
        return not self.store.append(self.record.id, self.view.epoch, list(events), claims or {})

    # -- whether to begin at all ---------------------------------------------------------------------------------

    def _early(self, step: str, index: str) -> StepExit | None:
        """What is known without deciding anything."""
        run = self.view.step(step, index)
        if run.state.has_output:
            return StepExit.DONE
        if self.engine and self.is_ours and self.view.finished in (RunState.FAILED, RunState.INTERRUPTED):
            self._take_over()  # somebody told the engine to do it again: that is a resume
            run = self.view.step(step, index)
        if run.state.done and run.failure is not None:
            return StepExit.FAILED  # a recorded final failure ends a later attempt before user code, uncounted
        if self.view.finished is not None or not self.is_ours:
            return StepExit.FENCED
        if run.state is StepState.RUNNING:
            if self.is_worked_on(step, index):
                return StepExit.FENCED
            if self.engine and self.record_lost(step, index) is None:
                return StepExit.FAILED
        if self.engine and self.view.cancel_requested:
            now = self.services.clock.now_us()
            self.append(StepCancelled(at=now, step=step, index=index, because="the run was asked to stop"))
            return StepExit.FAILED
        return None

    def _take_over(self) -> None:
        """Make the run go on, as `resume` does, for an engine that was told to do a step of it again."""
        now = self.services.clock.now_us()
        host = ENGINE_HOST + self.engine
        resumed = RunResumed(at=now, epoch=self.view.epoch + 1, host=host, engine_run=self.engine_run)
        try:
            self.append(resumed)
        except FencedError:
            pass  # another step of it was quicker
        self.catch_up()

    def _waited(self, step: str, index: str) -> tuple[StepExit, StepEvent | None] | None:
        """Keep the delay that the policy drew: an engine may come early. A request to cancel ends the waiting."""
        due = self.view.step(step, index).retry_at
        clock = self.services.clock
        while self.engine and due is not None and (left := (due - clock.now_us()) / 1e6) > 0:
            threading.Event().wait(min(left, _WAITING_S))
            self.store.beat(self.record.id, self.view.epoch)
            if left > _WAITING_S:
                self.catch_up()
                if (early := self._early(step, index)) is not None:
                    return early, None
        return None

    def _awaited(self, places: SharedPlaces, pool: str, step: str, index: str) -> StepExit | None:
        """Wait for a place of the pool. Gives an exit where the waiting ended otherwise, as by a cancel."""
        since = looked = monotonic()
        has_told = False
        while places.take(pool) is None:
            threading.Event().wait(pause_after(monotonic() - since))
            if not has_told and monotonic() - since >= TOLD_S:
                has_told = True
                self._tell(f"{step} waits for a place of pool '{pool}': {', '.join(places.holders(pool))} has it")
            if monotonic() - looked >= _WAITING_S:
                looked = monotonic()
                if self.engine:
                    self.store.beat(self.record.id, self.view.epoch)
                self.catch_up()
                if (early := self._early(step, index)) is not None:
                    return early
        self.catch_up()
        return self._early(step, index)

    def _tell(self, line: str) -> None:
        """Into the engine's log: there is no attempt yet that it would belong to."""
        if self._told is not None:
            self._told(f"penstock: {line}\n")
        else:
            sys.stderr.write(f"penstock: {line}\n")
            sys.stderr.flush()

    def is_worked_on(self, step: str, index: str) -> bool:
        """Whether the newest attempt's process lives, as far as this host can tell."""
        begun = self._begun.get((step, index))
        return begun is not None and _lives(begun)

    def record_lost(self, step: str, index: str) -> int | None:
        """Record that the running attempt's process is gone; when the policy wants another one, if it does."""
        run, now = self.view.step(step, index), self.services.clock.now_us()
        failure = failure_of(ending(run.step, -signal.SIGKILL, for_memory=None))
        delay = self.launcher.retry_delay(step, index, run.attempts, failure)
        retry_at = None if delay is None else now + int(delay * 1_000_000)
        failed = AttemptFailed(at=now, step=step, index=index, attempt=run.attempts, failure=failure, retry_at=retry_at)
        self.append(failed, *self._aborting(failed))
        self.catch_up()
        return retry_at

    def _aborting(self, event: Event) -> list[Event]:
        """With fail_fast, the failure that ends the run asks it to stop, in the same breath."""
        is_final = isinstance(event, AttemptFailed) and event.retry_at is None
        if self.engine and self.graph.fail_fast and is_final and not self.view.cancel_requested:
            return [RunCancelRequested(at=event.at, by=FAIL_FAST)]
        return []

    # -- the attempt ---------------------------------------------------------------------------------------------

    def _execute(
        self,
        step: str,
        index: str,
        engine_attempt: int | None,
        placed: Callable[[], StepExit | None] | None = None,
    ) -> tuple[StepExit, StepEvent | None]:
        """`placed`: waits for the place that an attempt needs."""
        launcher, store = self.launcher, self.store
        has_waited = False
        while isinstance(decision := launcher.decide(step, index, engine_attempt=engine_attempt), Prepared):
            if placed is not None:
                if (early := placed()) is not None:
                    return early, None
                placed = None
                continue  # it may have been long: others may have computed it meanwhile
            claim = Claim(decision.entries_seen, has_waited)
            claims = {(step, index): claim} if decision.shared_key is not None else {}
            if self.append(decision.started, claims=claims):
                break
            has_waited = True
            while True:  # somebody else computes the same: take the result when it is there
                threading.Event().wait(_ELSEWHERE_S)
                if not _has_twin_at_work(store, self.record.id, decision.started):
                    break
        match decision:
            case NotReady():
                return StepExit.NOT_READY, None
            case Prepared():
                with Going(step) as going:
                    outcome = going.told(self._outcome(decision))
                    event: StepEvent = launcher.concluded(decision, outcome)
                    self._record(event, decision.started.attempt)
            case _:
                event = decision
                before = refused(event)[:1] if isinstance(event, AttemptFailed) else []
                self.append(*before, event, *self._aborting(event))
        match event:
            case AttemptFailed(retry_at=retry_at):
                return (StepExit.FAILED if retry_at is None else StepExit.RETRY), event
            case StepBlocked():
                return StepExit.UPSTREAM_FAILED, event
            case _:
                return StepExit.DONE, event

    def _record(self, event: StepEvent, attempt: int) -> None:
        """Record what came of an attempt. A run log that is away is waited for: hours of work may be in this event."""
        epoch, deadline = self.view.epoch, monotonic() + _AWAY_S
        while True:
            try:
                self.append(event, *self._aborting(event))
                return
            except StoreUnavailableError as error:
                if not self.engine or monotonic() > deadline:
                    raise
                self._tell(f"{event.step} is over, and its record waits for the run log to be back: {error.problem}")
            while not self._is_back() and monotonic() < deadline:
                threading.Event().wait(_WAITING_S)
            if self.view.epoch != epoch:
                raise FencedError(f"run {self.record.id} was taken over meanwhile")
            known = self.view.step(event.step, event.index)
            if known.state is not StepState.RUNNING or known.attempts != attempt:
                return  # it was recorded after all, and only the answer was lost

    def _is_back(self) -> bool:
        try:
            self.catch_up()
        except StoreUnavailableError:
            return False
        return True

    def _outcome(self, prepared: Prepared) -> StepOutcome:
        task = prepared.task

        def text(chunk: str) -> None:
            self.store.write_text(task.run_id, task.step, task.index, task.attempt, chunk)
            if self._told is not None:
                self._told(chunk)

        if self.engine:
            # In a process of its own: whatever it and its children write is seen whole, with secrets masked, before the
            # engine's log gets it; and it can be stopped though it does not want to be.
            with Watch(self.store, task.run_id, self.view.epoch):
                return self._supervisor.run(task, text, echo=self._told is None)
        if task.timeout_s is not None or task.limits is not None:
            return self._supervisor.run(task, text, echo=self._told is None)
        with teed(echo=self._told is None):
            outcome = Execution(task, self.services, text=text).run()
        if outcome.failure is not None and outcome.failure.kind is FailureClass.CANCELLED:
            kill_below(os.getpid())  # what a stopped attempt started goes with it
        return outcome


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


class _Supervisor:
    """Attempts in a worker process, which can be stopped at its timeout or over its memory limit; kept for the next."""

    def __init__(self, services: Services, worker_module: str) -> None:
        self._services = services
        self._module = worker_module
        self._selector: selectors.BaseSelector | None = None
        self._workers: Workers | None = None
        self._text: Callable[[str], None] = lambda chunk: None
        self._echo = True

    def run(self, task: StepTask, text: Callable[[str], None], *, echo: bool) -> StepOutcome:
        self._text, self._echo = text, echo
        if self._selector is None or self._workers is None:
            self._selector = selectors.DefaultSelector()
            self._workers = Workers(1, self._module, self._services, self._selector, self._shown, _nobody)
        workers, selector = self._workers, self._selector
        workers.give([task])
        worker = workers.busy[0]
        ended: list[tuple[StepTask, StepOutcome]] = []
        try:
            while not ended:
                deadline = workers.next_deadline()
                selector.select(None if deadline is None else max(0.0, deadline - monotonic()))
                ended = [*workers.readable(worker), *workers.overdue()]
        except KeyboardInterrupt:
            ended = ended or [*workers.stop(patience_s=_PATIENCE_S)]
        if not ended or ended[0][1].failure is not None:
            self.close()  # a worker that was stopped, or ran into a limit, is not asked again
        return ended[0][1] if ended else StepOutcome(failure=failure_of(KeyboardInterrupt("stopped")))

    def close(self) -> None:
        if self._workers is not None:
            for _ in self._workers.stop(patience_s=0):
                pass
        if self._selector is not None:
            self._selector.close()
        self._workers = self._selector = None

    def _shown(self, task: StepTask, chunk: str) -> None:
        self._text(chunk)
        if self._echo:
            sys.stdout.write(chunk)
            sys.stdout.flush()  # an engine shows its log while the step is at work


def _nobody(task: StepTask, done: float, total: float | None, note: str) -> None:
    return
