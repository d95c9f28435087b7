"""One process per step: each instance is handed whole to `exec-step`, which decides, runs and records it.

The scheduler's loop only starts these processes and reads what came of them. An instance may also be the work of a
process that is not our child: of an engine before this one, or of somebody who ran `exec-step` by hand.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import msgspec

from ..core.clock import Clock
from ..core.errors import FencedError
from ..ports.events import AttemptFailed, AttemptStarted, Event, RunView, StepEvent
from ..ports.records import StepState
from ..ports.runlog import Store
from .frontier import Frontier, Item
from .launcher import Launcher, Prepared
from .listener import Listener
from .outside import Unseen
from .processes import Ended, StepExit, StepProcesses, lost_process
from .processtree import is_there_since
from .turns import Turns

LOOK_AGAIN_S = 0.2


class Apart:
    """The instances of one run that are processes of their own. `later` and `settled` are the scheduler's: look at an
    item again after some seconds; an attempt of an item has ended."""

    def __init__(
        self,
        run_id: str,
        processes: StepProcesses,
        turns: Turns[Prepared | Item],
        view: RunView,
        store: Store,
        launcher: Launcher,
        frontier: Frontier,
        listener: Listener,
        clock: Clock,
        *,
        later: Callable[[Item, float], None],
        settled: Callable[[Item], None],
        flush: Callable[[], None],
    ) -> None:
        self._run_id = run_id
        self._processes = processes
        self._turns = turns
        self._view = view
        self._store = store
        self._launcher = launcher
        self._frontier = frontier
        self._listener = listener
        self._clock = clock
        self._later = later
        self._settled = settled
        self._flush = flush
        self._seen = 0  # the last event that was read back
        self.unplaced: deque[Item] = deque()  # ready, but every place is taken
        self._begun: dict[Item, AttemptStarted] = {}  # the newest attempt of each instance
        self._elsewhere: set[Item] = set()  # a process that is not our child works on these

    def catch_up(self) -> None:
        """Events up to here are in the view already."""
        self._seen = max((sequence for sequence, _ in self._store.events(self._run_id)), default=0)

    def start(self, item: Item) -> None:
        """Start a process for it, or look what another one makes of it."""
        if item in self._elsewhere:
            self._look_again(item)
        elif self._view.step(item.name, item.index).state.done:
            self._frontier.finished(item.name, item.index)
        elif self._has_to_wait(item):
            self._turns.stand((item.name, item.index), item)
        elif self._processes.free <= 0:
            self.unplaced.append(item)
        else:
            self._flush()
            self._processes.start(item, has_place=(item.name, item.index) in self._turns.placed)

    def _has_to_wait(self, item: Item) -> bool:
        """Whether it has to wait for its turn. One that will not run needs no place: it is cached, or skipped."""
        if item.name not in self._turns.steps or self._turns.is_inside((item.name, item.index)):
            return False
        if self._turns.most(item.name) is not None:
            return True
        return isinstance(self._launcher.decide_with({}, item.name, item.index), Prepared | Unseen)

    def ended(self, item: Item) -> None:
        """Its process has ended: read what it recorded, or record that it was lost."""
        ended = self._processes.reap(item)
        self._frontier.ready.extend(self.unplaced)
        self.unplaced.clear()
        self.read_back(item)
        if ended.code == StepExit.NOT_READY and self._launcher.healing.began:
            self._turns.left((item.name, item.index))
            self._frontier.ready.append(item)  # what it needs was opened again just when it looked
            return
        if self._is_open(item) and not self._is_anothers(item, ended):
            self._lost(item, ended)
        if self._is_open(item):
            self._elsewhere.add(item)
            self._later(item, LOOK_AGAIN_S)
        else:
            self._turns.left((item.name, item.index))
            self._settled(item)

    def _is_open(self, item: Item) -> bool:
        run = self._view.step(item.name, item.index)
        return not run.state.done and run.retry_at is None

    def _is_anothers(self, item: Item, ended: Ended) -> bool:
        """Whether the attempt that is recorded is not the one that our child began."""
        if ended.code == StepExit.FENCED:
            return True
        begun = self._begun.get(item)
        return (
            self._view.step(item.name, item.index).state is StepState.RUNNING
            and begun is not None
            and (begun.host, begun.pid) != (os.uname().nodename, ended.pid)
        )

    def _look_again(self, item: Item) -> None:
        """At an instance that another process works on. Where that process is gone, or never was, a child of ours
        takes over; one on another host can only be waited for."""
        self.read_back(item)
        if not self._is_open(item):
            self._elsewhere.discard(item)
            self._turns.left((item.name, item.index))
            self._settled(item)
            return
        begun = self._begun.get(item)
        is_running = self._view.step(item.name, item.index).state is StepState.RUNNING and begun is not None
        if is_running and begun and (begun.host != os.uname().nodename or is_there_since(begun.pid, begun.at)):
            self._later(item, LOOK_AGAIN_S)
        else:
            self._elsewhere.discard(item)
            self.start(item)

    def read_back(self, *ended: Item) -> None:
        """What step processes recorded, as far as they are ours: of those that run, and of those that just ended."""
        watched = {*ended, *self._processes.running, *self._elsewhere}
        for sequence, event in self._store.events(self._run_id, after=self._seen):
            self._seen = sequence
            if isinstance(event, StepEvent) and Item(event.step, event.index) in watched:
                self._listener.event(self._view.apply(event))
                if isinstance(event, AttemptStarted):
                    self._begun[Item(event.step, event.index)] = event

    def _lost(self, item: Item, ended: Ended) -> None:
        """Record an attempt whose process ended without recording an end; its policy may want another one."""
        run = self._view.step(item.name, item.index)
        events: list[Event] = []
        for event in lost_process(run, ended, self._clock.now_us()):
            if isinstance(event, AttemptFailed):
                delay = self._launcher.retry_delay(run.step, run.index, event.attempt, event.failure)
                retry_at = None if delay is None else event.at + int(delay * 1_000_000)
                event = msgspec.structs.replace(event, retry_at=retry_at)
            events.append(event)
        self._flush()
        try:
            self._store.append(self._run_id, self._view.epoch, events)
        except FencedError:
            pass  # somebody began it just now, or took the whole run over, which the next beat says
        self.read_back(item)
