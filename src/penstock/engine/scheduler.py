"""The embedded engine: a loop over ready steps.

Starts are durable before their work begins, and a step's end commits together with the next step's start. A lone
ready step runs on the main thread, where debugger, prints and signals work; several at once run in worker processes;
`isolation="thread"` and async steps run beside them. Whether another attempt happens is decided here.
"""

from __future__ import annotations

import heapq
import selectors
import signal
from collections import deque
from collections.abc import Callable
from time import monotonic

import msgspec

from ..graph import Graph, Node
from ..ports.cluster import Cluster
from ..ports.events import (
    AttemptFailed,
    AttemptStarted,
    Change,
    Event,
    MapExpanded,
    RunFinished,
    RunView,
    StepBlocked,
    StepCancelled,
    StepSkipped,
    StepSucceeded,
)
from ..ports.records import Failure, FailureClass, RunRecord, RunState, StepRun, StepState
from ..ports.runlog import Claim, Instance, Store
from .apart import LOOK_AGAIN_S, Apart
from .arguments import Blocked, NotReady, Skipped, Unreadable
from .capture import teed
from .execute import Execution
from .far import FarWorkers
from .frontier import Frontier, Item
from .hidden import Ready
from .launcher import Launcher, Prepared, refused
from .listener import Listener, Silent
from .outside import Answers, Looks, Unseen
from .ownership import Ownership
from .pool import Pool
from .processes import StepProcesses
from .processtree import born_since, end, now_s, send
from .services import Services
from .sharing import SharedPlaces
from .tasks import StepOutcome, StepTask
from .threads import Coroutines, Threads
from .turns import Turns
from .workers import WorkerProcess, Workers

_FIRST_LOOK_S = 0.005  # at a key that another run computes; each look waits twice as long as the one before
_WORTH_S = 0.05  # what took longer is made durable at once; quicker results share the commit of what starts next
_AHEAD = 64  # instances that are decided ahead of a free place, for each worker
_PATIENCE_S = 5.0


class RunOptions(msgspec.Struct, frozen=True):
    """How to run, apart from what."""

    workers: int = 1
    worker_module: str = ""
    step_command: tuple[str, ...] = ()  # with it, every step is one process of its own: this command + its name
    echo: bool = True  # show what steps print


class Scheduler:
    """Runs what is left of one run."""

    def __init__(
        self,
        graph: Graph,
        record: RunRecord,
        view: RunView,
        store: Store,
        services: Services,
        options: RunOptions,
        listener: Listener | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self._graph = graph
        self._record = record
        self._view = view
        self._store = store
        self._services = services
        self._options = options
        self._listener = listener or Silent(options.echo)
        self._nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
        self._frontier = Frontier(graph)
        self._launcher = Launcher(graph, record, view, store, services, cluster)
        self._selector = selectors.DefaultSelector()
        self._is_far = cluster is not None  # then no step runs in this process
        writers = self._write_text, self._tell_progress
        self._workers: Pool = (
            Workers(options.workers, options.worker_module, services, self._selector, *writers)
            if cluster is None
            else FarWorkers(cluster, services, self._selector, *writers)
        )
        self._threads = Threads(options.workers, self._selector)
        self._checks = Looks(services, self._threads.wake)  # of entries that depend on what somebody else answers
        self._processes = StepProcesses(options.step_command, options.workers, self._selector)
        places = SharedPlaces(store, record.id, "pool", services.pools)
        self._turns: Turns[Prepared | Item] = Turns(
            graph.nodes, places, record.id, services.clock, self._listener.waiting
        )
        self._apart = Apart(
            record.id, self._processes, self._turns, view, store, self._launcher, self._frontier, self._listener,
            services.clock, later=self._later, settled=self._settled, flush=self._flush,
        )  # fmt: skip
        self._pending: list[Change] = []
        self._room = _AHEAD * max(options.workers, 1)
        self._queue: deque[Prepared] = deque()  # decided, waiting for a free worker or for this thread
        self._thread_queue: deque[Prepared] = deque()  # decided, waiting for a free thread
        self._running: dict[tuple[str, str], Prepared] = {}
        self._parked: dict[str, list[Item]] = {}  # cache keys being computed here, and who waits for each
        self._inline_since: float | None = None
        self._timers: list[tuple[float, int, Item]] = []
        self._ticket = 0
        self._claims: dict[Instance, Claim] = {}  # of starts that are not durable yet
        self._before: dict[Instance, StepRun | None] = {}  # the same -> what to go back to if refused
        self._fruitless: set[str] = set()  # keys whose computation here kept nothing for others: nobody waits for them
        self._ending: set[str] = set()  # keys of results that are not durable yet
        self._looks: dict[Item, float] = {}  # instances that wait for another run's result -> seconds to the next look
        self._coroutines = Coroutines(services.loader)
        self._abort = False  # fail_fast: something failed for good
        self._ownership: Ownership | None = None
        self.error: BaseException | None = None  # the first exception that a step raised in this process

    def run(self) -> RunState:
        """To the end. Returns the run's state; a step's failure is recorded, not raised."""
        if self._options.step_command:
            self._apart.catch_up()
        ownership = Ownership(
            self._store,
            self._record.id,
            self._view.epoch,
            wake=self._threads.wake,
            now=self._kill_everything,
            told=self._listener.stopping,
        )
        with ownership, teed(echo=self._options.echo), Ready():
            self._ownership = ownership
            try:
                self._loop(ownership)
                if ownership.fenced is not None:
                    raise ownership.fenced
                return self._conclude(ownership)
            finally:
                self._workers.close()
                self._processes.kill_all()
                self._threads.close()
                self._selector.close()
                self._turns.close()  # the work has ended, so that others may have its places

    # -- the loop ------------------------------------------------------------------------------------------------

    def _loop(self, ownership: Ownership) -> None:
        while not ownership.stopping:
            self._decide_ready()
            if self._abort:
                return
            if self._turns.steps:
                self._admit()
            lone = self._lone_inline()
            if lone is not None and self._checks:  # with one place, nothing runs beside what is checked
                self._queue.appendleft(lone)
                self._flush()
                self._wait()
                continue
            if lone is not None:
                self._run_inline(lone, ownership)
                continue
            self._dispatch()
            self._flush()
            is_ready = self._frontier.has_ready
            in_line = not self._turns.is_empty
            if not (self._running or self._processes.running or self._timers or self._queued or is_ready or in_line):
                return
            if in_line and self._turns.may_move(self._has_room):
                continue
            if not is_ready or self._queued >= self._room:
                self._wait()

    def _decide_ready(self) -> None:
        frontier = self._frontier
        while (frontier.ready or self._release()) and self._queued < self._room and not self._abort:
            item = frontier.ready.popleft()
            if self._launcher.healing.holds(item):
                continue
            if item.is_scope:
                self._expand(item)
            elif self._options.step_command:
                self._apart.start(item)
            else:
                self._decide(item)
            if len(self._pending) >= 256:
                self._flush()

    @property
    def _queued(self) -> int:
        return len(self._queue) + len(self._thread_queue) + len(self._checks)

    def _expand(self, item: Item) -> None:
        size = self._launcher.resolver.expand(item.name, item.index)
        now = self._services.clock.now_us()
        match size:
            case int():
                if self._view.sizes.get((item.name, item.index)) != size:  # known, where the run was resumed
                    self._record_event(MapExpanded(at=now, scope=item.name, index=item.index, size=size))
                for node in self._frontier.expanded(item.name, item.index, size):
                    self._view.steps.pop((node, item.index), None)  # it was closed here before the run was resumed
            case Unreadable() if self._heal(item):
                pass
            case Blocked(because) | Skipped(because):
                kind = StepBlocked if isinstance(size, Blocked) else StepSkipped
                for node in self._frontier.closed(item.name, item.index):
                    if not self._view.step(node, item.index).state.done:
                        self._record_event(kind(at=now, step=node, index=item.index, because=because))
                self._abort = self._abort or (self._graph.fail_fast and isinstance(size, Blocked))
            case NotReady(needs):
                raise AssertionError(f"{item.name} was ready without {needs}")

    def _decide(self, item: Item, answers: Answers | None = None) -> None:
        if self._view.step(item.name, item.index).state.done:
            self._frontier.finished(item.name, item.index)
            return
        answers = {} if answers is None else answers
        decision = self._launcher.decide_with(answers, item.name, item.index)
        match decision:
            case Unseen():
                self._checks.start(item, decision, answers)
            case Prepared():
                self._queue_attempt(decision, item)
            case NotReady(needs):
                raise AssertionError(f"{item.name} was ready without {needs}")
            case AttemptFailed():
                for event in refused(decision):
                    self._record_event(event)
                if self._heal(item, decision.failure):
                    return
                self._abort = self._abort or self._graph.fail_fast
                self._frontier.finished(item.name, item.index)
            case _:
                self._record_event(decision)
                self._frontier.finished(item.name, item.index)

    def _queue_attempt(self, prepared: Prepared, item: Item) -> None:
        key = prepared.shared_key
        if key is not None:
            if key in self._ending:
                self._flush()
                self._decide(item)
                return
            if key not in self._fruitless:
                if key in self._parked:  # another instance here computes the same: take its result when it is there
                    self._parked[key].append(item)
                    return
                self._parked[key] = []
        if item.name in self._turns.steps:
            self._turns.stand((item.name, item.index), prepared)
            self._frontier.held |= self._turns.long_scopes(item.name)
        else:
            (self._thread_queue if self._on_thread(item.name) else self._queue).append(prepared)

    def _admit(self) -> None:
        """Let those begin whose turn it is. Who has a place of a pool goes first: it is not held for nothing."""
        for what in self._turns.admitted(self._has_room):
            if isinstance(what, Item):
                self._apart.start(what)
                continue
            queue = self._thread_queue if self._on_thread(what.task.step) else self._queue
            if (what.task.step, what.task.index) in self._turns.placed:
                queue.appendleft(what)
            else:
                queue.append(what)
        if self._frontier.held:
            self._frontier.held = self._turns.long_scopes()

    def _has_room(self, step: str) -> bool:
        """Whether an attempt of it would begin soon, if it had a place: one at most waits for a busy worker."""
        if self._options.step_command:
            return self._processes.free > 0
        not_begun = self._turns.placed.keys() - self._running.keys()
        free = self._threads.free if self._on_thread(step) else self._options.workers - len(self._running)
        return len(not_begun) < max(free, 1)

    # -- placing -------------------------------------------------------------------------------------------------

    def _lone_inline(self) -> Prepared | None:
        """The one attempt that may run on this thread: nothing else is ready or running, or one at a time is wanted."""
        if (
            not self._queue
            or self._running
            or self._thread_queue
            or self._processes.running
            # a retry, or what is checked now, would come late
            or (
                self._options.workers > 1
                and (len(self._queue) > 1 or self._timers or self._checks or self._turns.looks_again() is not None)
            )
            or self._is_far
        ):
            return None
        options = self._nodes[self._queue[0].task.step].options
        if options.isolation != "auto" or options.timeout_s is not None or options.limits is not None:
            return None
        task = self._queue[0].task
        if (task.step, task.index) in self._view.left_running and self._options.worker_module:
            return None  # it may have been this step that ended the process: another time it ends a worker
        return self._queue.popleft()

    def _run_inline(self, prepared: Prepared, ownership: Ownership) -> None:
        self._start(prepared)
        self._flush()
        task = prepared.task
        if not self._is_running(task):
            return  # another run computes its key
        execution = self._execution(task)
        outcome: StepOutcome | None = None
        self._inline_since = since = now_s()
        try:
            ownership.inline = True
            if not ownership.stopping:
                outcome = execution.run()
            ownership.inline = False
        except KeyboardInterrupt:  # it came between two lines of ours
            ownership.inline = False
        if outcome is None:
            outcome = StepOutcome(failure=_interrupted())
        if ownership.stopping and outcome.failure is not None and outcome.failure.kind is FailureClass.CANCELLED:
            end(born_since(since))  # what a stopped attempt started goes with it
        self._inline_since = None
        if execution.error is not None and self.error is None:
            self.error = execution.error
        self._ended(task, outcome)

    def _dispatch(self) -> None:
        """Give what is decided to free threads and workers. Starts are durable before their work begins."""
        to_threads: list[StepTask] = []
        while self._thread_queue and len(to_threads) < self._threads.free:
            to_threads.append(self._start(self._thread_queue.popleft()))
        to_workers: list[StepTask] = []
        room = self._workers.room()
        while self._queue and room.takes(self._queue[0].task):
            to_workers.append(self._start(self._queue.popleft()))
        if to_threads or to_workers:
            self._flush()
        for task in to_threads:
            if self._is_running(task):
                self._start_thread(task)
        self._workers.give([task for task in to_workers if self._is_running(task)])
        if not self._queue:
            self._workers.even_out()

    def _is_running(self, task: StepTask) -> bool:
        return (task.step, task.index) in self._running

    def _start(self, prepared: Prepared) -> StepTask:
        task, key = prepared.task, prepared.shared_key
        self._running[task.step, task.index] = prepared
        if key is not None:
            instance = (task.step, task.index)
            self._claims[instance] = Claim(
                prepared.entries_seen, key in self._fruitless or Item(*instance) in self._looks
            )
            self._before[instance] = self._view.steps.get(instance)
        now = self._services.clock.now_us()
        self._record_event(msgspec.structs.replace(prepared.started, at=now))
        return task

    def _not_ours(self, refused: dict[Instance, str]) -> None:
        """Another run computes these, or has just done so: their starts were not recorded; look again soon."""
        for instance, holder in refused.items():
            item, before = Item(*instance), self._before[instance]
            prepared = self._running.pop(instance)
            self._turns.left(instance)
            if before is None:
                del self._view.steps[instance]
            else:
                self._view.steps[instance] = before
            if prepared.shared_key is not None:
                self._frontier.ready.extend(self._parked.pop(prepared.shared_key, ()))
            wait = self._looks.get(item, _FIRST_LOOK_S)
            self._looks[item] = min(2 * wait, LOOK_AGAIN_S)
            if holder and 2 * wait >= LOOK_AGAIN_S > wait:  # about 0.3 s after the first look, and once
                self._listener.waiting(item.name, item.index, holder)
            self._later(item, wait)

    def _start_thread(self, task: StepTask) -> None:
        self._threads.start(task, self._execution(task), is_async=self._coroutines.has(self._nodes[task.step]))

    def _execution(self, task: StepTask) -> Execution:
        """In this process."""
        text, progress = self._text_writer(task), self._progress(task)
        return Execution(task, self._services, text=text, progress=progress, portable=False)

    def _on_thread(self, step: str) -> bool:
        node = self._nodes[step]
        return not self._is_far and (node.options.isolation == "thread" or self._coroutines.has(node))

    def _settled(self, item: Item) -> None:
        """An attempt has ended: another one follows, or the instance is done."""
        run = self._view.step(item.name, item.index)
        if run.retry_at is not None and run.failure is not None:
            due = (run.retry_at - self._services.clock.now_us()) / 1e6
            delay = self._launcher.retry_delay(run.step, run.index, run.attempts, run.failure)
            self._later(item, due if delay is None else min(due, delay))  # the clock may have gone back meanwhile
            return
        if run.failure is not None and self._heal(item, run.failure):
            return
        failed = run.state in (StepState.FAILED, StepState.TIMED_OUT)
        self._abort = self._abort or (self._graph.fail_fast and failed)
        self._frontier.finished(item.name, item.index)

    # -- waiting -------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            match key.data:
                case WorkerProcess() | FarWorkers() as source:
                    for task, outcome in self._workers.readable(source):
                        self._ended(task, outcome)
                case Item() as item:
                    self._apart.ended(item)
                case _:
                    for task, outcome, error in self._threads.collect():
                        if error is not None and self.error is None:
                            self.error = error
                        self._ended(task, outcome)
        for task, outcome in self._workers.overdue():
            self._ended(task, outcome)
        for item, answers in self._checks.collect():
            if not self._launcher.healing.holds(item):
                self._decide(item, answers)
        now = self._services.clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._frontier.ready.append(heapq.heappop(self._timers)[2])

    def _patience(self) -> float | None:
        """Seconds until something is due: a timeout in the machine's time, a retry in the clock's."""
        clock = self._services.clock
        looks = (self._timers[0][0] if self._timers else None, self._turns.looks_again())
        dues = [due for due in looks if due is not None]
        waits = [clock.pause(max(0.0, min(dues) - clock.monotonic()))] if dues else []
        for deadline in (self._workers.next_deadline(), self._checks.next_deadline()):
            if deadline is not None:
                waits.append(max(0.0, deadline - monotonic()))
        return min(waits, default=None)

    def _later(self, item: Item, seconds: float) -> None:
        self._ticket += 1
        due = self._services.clock.monotonic() + max(seconds, 0.002)
        heapq.heappush(self._timers, (due, self._ticket, item))

    def _ended(self, task: StepTask, outcome: StepOutcome) -> None:
        prepared = self._running.pop((task.step, task.index))
        self._turns.left((task.step, task.index))
        if (key := prepared.shared_key) is not None:
            self._frontier.ready.extend(self._parked.pop(key, ()))
            self._ending.add(key)
        event = self._launcher.concluded(prepared, outcome)
        if isinstance(event, AttemptFailed) and self._ownership is not None and self._ownership.stopping:
            event = msgspec.structs.replace(event, retry_at=None)
        self._record_event(event)
        if key is not None and _kept_nothing(event):
            self._fruitless.add(key)
        took = min(outcome.seconds, (event.at - prepared.started.at) / 1e6)  # by the clock too, which a test may hold
        if took >= _WORTH_S or self._nodes[task.step].options.effect is not None:
            self._flush()  # what follows may look at the outside, and take long: nothing is lost meanwhile
        if isinstance(event, AttemptFailed) and self._heal(Item(task.step, task.index), event.failure):
            return
        if isinstance(event, AttemptFailed):
            self._abort = self._abort or (self._graph.fail_fast and event.retry_at is None)
        if isinstance(event, AttemptFailed) and event.retry_at is not None:
            self._later(Item(task.step, task.index), (event.retry_at - event.at) / 1e6)
        else:
            self._frontier.finished(task.step, task.index)

    def _release(self) -> bool:
        """Whether anything is ready: what had to wait for a lost input to be made again, or more elements of a map."""
        self._frontier.ready.extend(self._launcher.healing.released())
        return self._frontier.open_more()

    def _heal(self, item: Item, failure: Failure | None = None) -> bool:
        """Open again what made an input that is lost; then this item is ready once more, and waits for it."""
        if self._ownership is not None and self._ownership.stopping:
            return False
        events = self._launcher.healing.reopened(item, self._services.clock.now_us(), failure)
        for event in events:
            self._record_event(event)
            self._frontier.ready.append(Item(event.step, event.index))
        if events and failure is None:
            self._frontier.ready.append(item)
        return bool(events)

    # -- recording -----------------------------------------------------------------------------------------------

    def _record_event(self, event: Event) -> None:
        self._pending.append(self._view.apply(event))

    def _flush(self) -> None:
        if not self._pending:
            return
        changes, self._pending = self._pending, []
        events = [change.event for change in changes]
        refused = self._store.append(self._record.id, self._view.epoch, events, self._claims)
        if refused:
            self._not_ours(refused)
        self._claims, self._before = {}, {}
        self._ending.clear()
        for change in changes:
            event = change.event
            if not (refused and isinstance(event, AttemptStarted) and (event.step, event.index) in refused):
                self._listener.event(change)

    def _text_writer(self, task: StepTask) -> Callable[[str], None]:
        """For a step in this process, whose prints go to the real stream by themselves."""

        def write(text: str) -> None:
            self._store.write_text(task.run_id, task.step, task.index, task.attempt, text)
            if not self._options.echo:
                self._listener.text(task.step, task.index, text)

        return write

    def _progress(self, task: StepTask) -> Callable[[float, float | None, str], None]:
        return lambda done, total, note: self._listener.progress(task.step, task.index, done, total, note)

    def _write_text(self, task: StepTask, text: str) -> None:
        self._store.write_text(task.run_id, task.step, task.index, task.attempt, text)
        self._listener.text(task.step, task.index, text)

    def _tell_progress(self, task: StepTask, done: float, total: float | None, note: str) -> None:
        self._listener.progress(task.step, task.index, done, total, note)

    # -- the end -------------------------------------------------------------------------------------------------

    def _conclude(self, ownership: Ownership) -> RunState:
        because = "the run was asked to stop" if ownership.stopping else "another step failed (fail_fast)"
        if ownership.stopping or self._abort:
            for task, outcome in self._workers.stop(patience_s=_PATIENCE_S):
                self._ended(task, outcome)
            for task, outcome, _ in self._threads.stop(patience_s=_PATIENCE_S):
                self._ended(task, outcome)
            stopped = self._processes.stop(patience_s=_PATIENCE_S)
            self._flush()
            self._apart.read_back(*stopped)
            self._cancel_rest(because, stopped)
        state = RunState.FAILED if self._abort and not ownership.stopping else self._view.outcome()
        failed = self._view.failed()
        error = f"{failed.step}: {failed.failure.message}" if failed is not None and failed.failure else None
        self._record_event(
            RunFinished(
                at=self._services.clock.now_us(), state=state, error=error if state is not RunState.SUCCEEDED else None
            )
        )
        self._flush()
        return state

    def _cancel_rest(self, because: str, stopped: list[Item]) -> None:
        now = self._services.clock.now_us()
        open_items = [
            *self._frontier.waiting,
            *self._frontier.ready,
            *(item for _, _, item in self._timers),
            *self._checks.items,
            *(Item(p.task.step, p.task.index) for p in (*self._queue, *self._thread_queue)),
            *(Item(*key) for key in self._running),
            *(Item(*key) for key in self._turns.waiting),
            *self._apart.unplaced,
            *self._launcher.healing.held,
            *(item for waiting in self._parked.values() for item in waiting),
            *stopped,
        ]
        for item in open_items:
            for name in self._frontier.inside(item.name) if item.is_scope else [item.name]:
                if not self._view.step(name, item.index).state.done:
                    self._record_event(StepCancelled(at=now, step=name, index=item.index, because=because))

    def _kill_everything(self) -> None:
        if self._inline_since is not None:
            for pid in born_since(self._inline_since):
                send(pid, signal.SIGKILL)
        self._workers.kill_all()
        self._processes.kill_all()


def _interrupted() -> Failure:
    return Failure(FailureClass.CANCELLED, "stopped", ("builtins:KeyboardInterrupt",))


def _kept_nothing(event: StepSucceeded | AttemptFailed) -> bool:
    """Whether a computation is over for good and left nothing that others could take."""
    return event.retry_at is None if isinstance(event, AttemptFailed) else event.key is None
