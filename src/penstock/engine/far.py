"""The engine's side of a cluster: what was handed over, and what came of it. The other side is `attending`.

Retries, claims, caching and the run log stay with the scheduler, which sees a pool like that of worker processes.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import msgspec

from ..core.errors import ClusterError, PenstockError, StepKilledError, StepOutOfMemoryError
from ..graph import ResourceRequest
from ..ports.cluster import Cluster, Lost
from .failure import failure_of
from .pool import Outcomes
from .services import Services
from .tasks import TASK_ENCODER, StepOutcome, StepTask
from .workers import ProgressWriter, TextWriter

_OUTCOME = msgspec.msgpack.Decoder(StepOutcome)
_MESSAGES = msgspec.msgpack.Decoder(list[Any])


class Order(msgspec.Struct, frozen=True):
    """What is handed over: the attempt, and how services are made where it runs."""

    boot: dict[str, Any]
    task: bytes


class Held(msgspec.Struct):
    """An attempt that was handed over."""

    task: StepTask
    since: float
    begun: bool = False


class FarRoom:
    """As many tasks as the cluster has places for."""

    def __init__(self, free: int) -> None:
        self._free = free

    def takes(self, task: StepTask) -> bool:
        self._free -= 1
        return self._free >= 0


class FarWorkers:
    """The attempts that a cluster has. Messages come from the adapter's threads and wake the scheduler's selector."""

    def __init__(
        self,
        cluster: Cluster,
        services: Services,
        selector: selectors.BaseSelector,
        text: TextWriter,
        progress: ProgressWriter,
    ) -> None:
        self._cluster = cluster
        self._boot = services.boot
        self._selector = selector
        self._text = text
        self._progress = progress
        self._held: dict[str, Held] = {}
        self._count = 0
        self._news: SimpleQueue[tuple[str, bytes | Lost]] = SimpleQueue()
        self._stopping = False
        self._told: set[str] = set()  # steps that are known to wait for a machine
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._open = True
        self._closing = threading.Lock()
        selector.register(self._read, selectors.EVENT_READ, self)
        cluster.listen(self._heard)

    def room(self) -> FarRoom:
        return FarRoom(self._cluster.places - len(self._held))

    def give(self, tasks: list[StepTask]) -> None:
        for task in tasks:
            self._count += 1
            ticket = f"{task.run_id}-{task.epoch}-{self._count}"
            self._held[ticket] = Held(task, monotonic())
            order = msgspec.msgpack.encode(Order(self._boot, TASK_ENCODER.encode(task)))
            if task.resources is not None:
                self._tell_what_lacks(task, task.resources)
            try:
                self._cluster.submit(ticket, order, task.resources, _title(task))
            except ClusterError as error:
                self._heard(ticket, Lost(error.problem, hint=error.hint))

    def even_out(self) -> None:
        return  # placing is the cluster's

    def next_deadline(self) -> float | None:
        return None  # timeouts and limits are watched where the step runs

    def overdue(self) -> Outcomes:
        return iter(())

    def readable(self, source: Any) -> Outcomes:
        try:
            os.read(self._read, 1 << 16)
        except BlockingIOError:
            pass
        while True:
            try:
                ticket, news = self._news.get_nowait()
            except Empty:
                return
            yield from self._take(ticket, news)

    def stop(self, *, patience_s: float) -> Outcomes:
        self._stopping = True
        if not self._held:
            return
        self._cluster.stop(list(self._held), at_once=patience_s == 0)
        for ticket in [ticket for ticket, held in self._held.items() if not held.begun]:
            yield self._over(ticket).task, _stopped()  # it notices before its step is begun
        limit = monotonic() + patience_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            while self._held and (left := limit - monotonic()) > 0:
                selector.select(left)
                yield from self.readable(self)
        if self._held:
            self._cluster.stop(list(self._held), at_once=True)
        for ticket in list(self._held):
            yield self._over(ticket).task, _stopped()

    def kill_all(self) -> None:
        return  # a cluster notices that its engine is gone, and ends what it was given

    def close(self) -> None:
        for _ in self.stop(patience_s=0):
            pass
        with self._closing:
            self._open = False
            os.close(self._read)
            os.close(self._write)

    # -- inside --------------------------------------------------------------------------------------------------

    def _heard(self, ticket: str, news: bytes | Lost) -> None:
        """From any thread."""
        self._news.put((ticket, news))
        with self._closing:
            if self._open:
                try:
                    os.write(self._write, b"x")
                except BlockingIOError:
                    pass  # it has been told already

    def _take(self, ticket: str, news: bytes | Lost) -> Iterator[tuple[StepTask, StepOutcome]]:
        held = self._held.get(ticket)
        if held is None:
            return
        if isinstance(news, Lost):
            self._over(ticket)
            outcome = _stopped() if self._stopping else StepOutcome(failure=failure_of(_loss(held.task, news)))
            outcome.seconds = monotonic() - held.since
            yield held.task, outcome
            return
        for message in _MESSAGES.decode(news):
            match message:
                case ["began"]:
                    held.begun = True
                case ["text", text]:
                    self._text(held.task, text)
                case ["progress", done, total, note]:
                    self._progress(held.task, done, total, note)
                case ["done", content]:
                    self._over(ticket)
                    yield held.task, _OUTCOME.decode(content)
                    return

    def _over(self, ticket: str) -> Held:
        self._cluster.forget(ticket)
        return self._held.pop(ticket)

    def _tell_what_lacks(self, task: StepTask, wants: ResourceRequest) -> None:
        if task.step not in self._told and (lacking := self._cluster.lacks(wants)):
            self._told.add(task.step)
            self._text(task, f"[penstock: no machine of the cluster has {lacking}; '{task.step}' waits for one]\n")


def _title(task: StepTask) -> str:
    return f"{task.step}[{task.index}]" if task.index else task.step


def _loss(task: StepTask, lost: Lost) -> PenstockError:
    if lost.out_of_memory:
        said = f"the cluster ended '{task.step}', because its machine had no memory left: {lost.why}"
        return StepOutOfMemoryError(said, hint="ask for the memory that it needs: Resources(memory=…)")
    return StepKilledError(f"the cluster lost '{task.step}': {lost.why}", hint=lost.hint)


def _stopped() -> StepOutcome:
    return StepOutcome(failure=failure_of(KeyboardInterrupt("stopped")))
