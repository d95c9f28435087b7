"""Worker processes seen from the engine: warm, one task at a time, and killable with everything they started.

Quick tasks are given ahead, so that a worker need not wait for the engine between them. What has not begun can be
called back: for a worker that is idle, and where a worker dies it is no attempt lost.
"""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import msgspec

from ..core.errors import StepKilledError, StepOutOfMemoryError, StepTimeoutError
from ..core.units import shown_duration, shown_size
from .endings import KILLS, ending
from .failure import failure_of
from .processtree import descendants, kill_tree, memory_of, send, send_group
from .redaction import Redactor
from .services import Services
from .tasks import TASK_ENCODER, StepOutcome, StepTask, secret_names
from .wire import Inbox, frame

TextWriter = Callable[[StepTask, str], None]
ProgressWriter = Callable[[StepTask, float, float | None, str], None]

_OUTCOME = msgspec.msgpack.Decoder(StepOutcome)
_GRACE_S = 0.5
_PIECES = 32  # of 64 KiB: how much is read at once
_OUTPUT_CHARS = 16 * 1024 * 1024  # of one attempt; more is not kept
_BOOT_S = 60.0  # for importing the step's module, beside its timeout
_AHEAD_S = 0.02  # how much work a worker is given ahead, by what its step took so far
_AHEAD = 64  # tasks at most
_QUICK_S = 0.0003  # what a task costs beside its own time
_SLOW_S = 0.01  # steps that take longer are not given ahead at all
_OWN_BYTES = 64 * 1024 * 1024  # what a worker has resident before any step: not the step's to answer for
_GUARD_BYTES = 24 * 1024 * 1024  # and what the process has that stands between a worker and a cluster's process


class WorkerProcess:
    """One process in a session of its own, so that a signal to its group reaches the step's children too."""

    def __init__(self, module: str, boot: dict[str, Any], text: TextWriter) -> None:
        ours, theirs = socket.socketpair()
        self.connection = ours
        read, write = os.pipe()
        # An interrupt that comes while it boots waits until it can be answered: it would end as if it had been killed.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
            os.close(write)
        os.set_blocking(read, False)
        self.output = read
        self.watch = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else None
        self.inbox = Inbox()
        self.redactor = Redactor()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.tasks: deque[StepTask] = deque()  # the first runs, the others have not begun
        self.last: StepTask | None = None  # whose output this is, when nothing runs
        self._text = text
        self.recalled = False
        self.deadline: float | None = None
        self.started = 0.0
        self.kills: int | None = None  # the kernel's kills for memory, when it last had nothing to do
        self._shown = 0  # characters of the present task that came by file descriptor
        try:
            ours.sendall(frame(["boot", boot]))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it is dead already; whoever gives it a task learns that

    @property
    def task(self) -> StepTask | None:
        """What runs, or is about to."""
        return self.tasks[0] if self.tasks else None

    def give(self, tasks: list[StepTask]) -> None:
        """More to do, behind what it has."""
        idle = not self.tasks
        self.tasks.extend(tasks)
        if idle:
            self._next()
        self.connection.sendall(b"".join([frame(["task", TASK_ENCODER.encode(task)]) for task in tasks]))

    def recall(self) -> None:
        """Ask for the tasks that have not begun."""
        self.recalled = True
        try:
            self.connection.sendall(frame(["recall"]))
        except OSError:
            pass  # it is dying, which is noticed elsewhere

    def leave_rest(self) -> None:
        """Forget what has not begun; the process drops it by itself once it is interrupted."""
        while len(self.tasks) > 1:
            self.tasks.pop()

    def done(self) -> StepTask | None:
        """The first task is over; the next one begins."""
        if not self.tasks:
            return None
        task = self.tasks.popleft()
        self.deadline = None
        if self.tasks:
            self._next()
        return task

    def take_back(self, names: list[list[str]]) -> list[StepTask]:
        """Tasks that the process gave back, by step and index."""
        self.recalled = False
        given = {(step, index) for step, index in names}
        back = [task for task in self.tasks if (task.step, task.index) in given]
        self.tasks = deque(task for task in self.tasks if (task.step, task.index) not in given)
        return back

    def _next(self) -> None:
        task = self.tasks[0]
        self.last, self.started, self._shown = task, monotonic(), 0
        self.deadline = self.started + _BOOT_S + task.timeout_s if task.timeout_s is not None else None

    def began(self) -> None:
        """The process is up and the step's module is imported: from here on its timeout counts."""
        if self.tasks and (timeout_s := self.tasks[0].timeout_s) is not None:
            self.deadline = monotonic() + timeout_s

    def interrupt(self) -> None:
        """Ask the step to stop: KeyboardInterrupt in the worker, SIGINT to its children."""
        send_group(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """End the process and everything it started, children in other sessions included."""
        if self.process.returncode is not None:
            return
        family = {*descendants(self.process.pid)}
        send_group(self.process.pid, signal.SIGTERM)
        limit = monotonic() + _GRACE_S
        while not self.dead and monotonic() < limit:
            family |= {*descendants(self.process.pid)}
            _pause()
        kill_tree(self.process.pid)
        for pid in family:  # what outlived its parent is found under nobody any more
            send(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def dead(self) -> bool:
        """Whether it has ended. It is not reaped by asking: until then its number belongs to nobody else."""
        return (
            self.process.returncode is not None
            or os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        )

    def close(self) -> None:
        self.connection.close()
        os.close(self.output)
        if self.watch is not None:
            os.close(self.watch)

    def drain(self, *, last: bool = False) -> bool:
        """Hand on what the process or its children wrote to file descriptors 1 and 2; False once these are closed.

        A writer that never stops does not keep the engine here: what is left is read the next time.
        """
        for _ in range(_PIECES):
            try:
                piece = os.read(self.output, 1 << 16)
            except BlockingIOError:
                break
            if not piece:
                return False
            self._show(self.redactor.feed(self._decoder.decode(piece)))
        if last:
            self._show(self.redactor.rest())
            if self._shown > _OUTPUT_CHARS and self.last is not None:
                self._text(self.last, f"\n[penstock: {self._shown - _OUTPUT_CHARS} more characters were not kept]\n")
                self._shown = 0
        return True

    def _show(self, text: str) -> None:
        self._shown += len(text)
        if text and self.last is not None and self._shown <= _OUTPUT_CHARS:
            self._text(self.last, text)


class Room:
    """How many tasks each worker has, while some are being placed."""

    def __init__(self, loads: list[int], ahead: Callable[[str], int]) -> None:
        self._loads = loads
        self._ahead = ahead

    def takes(self, task: StepTask) -> bool:
        """Whether there is room for this task; then it has it."""
        return self.place(task) is not None

    def place(self, task: StepTask, *, at_any_length: bool = False) -> int | None:
        """The number of the worker that has least to do, if the task may go there."""
        least = min(self._loads, default=_CLOSED)
        alone = _wants_it_alone(task)
        if least >= _CLOSED or (least and (alone or not (at_any_length or least < self._ahead(task.step)))):
            return None
        place = self._loads.index(least)
        self._loads[place] = _CLOSED if alone else least + 1
        return place


_CLOSED = 1 << 30


def _wants_it_alone(task: StepTask) -> bool:
    """What may have to be stopped has nothing waiting behind it; what acts outside starts only when it really does."""
    return task.timeout_s is not None or task.limits is not None or task.effect is not None


class Workers:
    """A pool that grows to `limit` as steps need it. The scheduler waits on `selector` and calls `readable`."""

    def __init__(
        self,
        limit: int,
        module: str,
        services: Services,
        selector: selectors.BaseSelector,
        text: TextWriter,
        progress: ProgressWriter,
    ) -> None:
        self._limit = limit
        self._module = module
        self._services = services
        self._selector = selector
        self._text = text
        self._progress = progress
        self._all: list[WorkerProcess] = []
        self._homeless: list[StepTask] = []  # given back, or left by a worker that died before they began
        self._own_bytes = _OWN_BYTES + _GUARD_BYTES * ("far" in services.boot)
        self._mean_s: dict[str, float] = {}  # step -> what an attempt took lately

    @property
    def busy(self) -> list[WorkerProcess]:
        return [worker for worker in self._all if worker.tasks]

    def room(self) -> Room:
        """For as many tasks as may be given now."""
        loads = [_CLOSED if any(map(_wants_it_alone, worker.tasks)) else len(worker.tasks) for worker in self._all]
        return Room(loads + [0] * (self._limit - len(loads)), self._ahead)

    def give(self, tasks: list[StepTask], *, at_any_length: bool = False) -> None:
        """Start tasks that there is room for."""
        if not tasks:
            return
        room = self.room()
        shares: dict[int, list[StepTask]] = {}
        for task in tasks:
            place = room.place(task, at_any_length=at_any_length)
            if place is None:
                self._homeless.append(task)
            else:
                shares.setdefault(place, []).append(task)
        every = [*self._all, *[None] * (self._limit - len(self._all))]
        for place, share in shares.items():
            self._start(every[place], share)

    def even_out(self) -> None:
        """Where a worker has nothing to do and another one has more than it can begin, that one gives back."""
        if len(self.busy) == self._limit:
            return
        fullest = max(self._all, key=lambda worker: len(worker.tasks), default=None)
        if fullest is not None and len(fullest.tasks) > 1 and not fullest.recalled:
            fullest.recall()

    def _ahead(self, step: str) -> int:
        mean = self._mean_s.get(step)
        if mean is None or mean > _SLOW_S:
            return 1
        return min(_AHEAD, int(_AHEAD_S / max(mean, _QUICK_S)))

    def _start(self, worker: WorkerProcess | None, tasks: list[StepTask]) -> None:
        for another in (True, True, False):
            worker = worker or self._new()
            idle = not worker.tasks
            if idle:
                worker.redactor = self._redactor(tasks[0])
                worker.kills = KILLS.count()
            try:
                worker.give(tasks)
                return
            except (BrokenPipeError, ConnectionResetError):
                if not idle or not another:
                    return  # its death is noticed by what becomes readable
                worker.tasks.clear()  # it died while idle, or as it began
                self._discard(worker)
                worker = None

    def _redactor(self, task: StepTask) -> Redactor:
        names = [name for argument in task.arguments.values() for name in secret_names(argument)]
        return self._services.redactor(names)

    def _settle(self) -> None:
        tasks, self._homeless = self._homeless, []
        self.give(tasks, at_any_length=True)

    def next_deadline(self) -> float | None:
        """Monotonic seconds of the earliest timeout; soon, while a memory limit has to be watched."""
        limits = [worker.deadline for worker in self._all if worker.deadline is not None]
        if any(worker.task is not None and worker.task.limits for worker in self._all):
            limits.append(monotonic() + 0.1)
        return min(limits, default=None)

    def readable(self, worker: WorkerProcess) -> Iterator[tuple[StepTask, StepOutcome]]:
        """Take in what a worker sent; yields its task when that is done or its process is dead."""
        if worker not in self._all:
            return  # an earlier descriptor of the same worker brought the news of its death
        if not worker.drain():
            self._forget(worker.output)
        try:
            piece = worker.connection.recv(1 << 18, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            if not worker.dead:
                return
            try:
                piece = worker.connection.recv(1 << 18, socket.MSG_DONTWAIT)  # what it sent just before it died
            except OSError:
                piece = b""  # a child of it still holds the connection
        except ConnectionResetError:
            piece = b""
        if not piece:
            yield from self._died(worker)
            return
        for message in worker.inbox.feed(piece):
            match message:
                case ["done", content]:
                    worker.drain(last=True)
                    task = worker.done()
                    if worker.task is not None:
                        worker.redactor = self._redactor(worker.task)
                    if task is not None:
                        outcome = _OUTCOME.decode(content)
                        mean = self._mean_s.get(task.step, outcome.seconds)
                        self._mean_s[task.step] = max(0.8 * mean + 0.2 * outcome.seconds, outcome.seconds / 4)
                        yield task, outcome
                case ["text", text] if worker.last is not None:
                    self._text(worker.last, text)
                case ["began"]:
                    worker.began()
                case ["progress", done, total, note] if worker.last is not None:
                    self._progress(worker.last, done, total, note)
                case ["returned", names]:
                    self._homeless += worker.take_back(names)
                    self._settle()

    def overdue(self) -> Iterator[tuple[StepTask, StepOutcome]]:
        """Stop what ran past its timeout or over its memory limit."""
        now = monotonic()
        for worker in self.busy:
            task = worker.task
            assert task is not None
            error: Exception | None = None
            if worker.deadline is not None and now >= worker.deadline:
                error = StepTimeoutError(
                    f"'{task.step}' ran longer than its timeout of "
                    f"{shown_duration(task.timeout_s or 0)} and was stopped"
                )
            elif (
                task.limits
                and task.limits.memory_bytes
                and (used := memory_of(worker.process.pid)) > task.limits.memory_bytes + self._own_bytes
            ):
                error = StepOutOfMemoryError(
                    f"'{task.step}' used {shown_size(used)}, over its limit of "
                    f"{shown_size(task.limits.memory_bytes)}, and was stopped"
                )
            if error is not None:
                yield task, self._stopped(worker, error)

    def stop(self, *, patience_s: float) -> Iterator[tuple[StepTask, StepOutcome]]:
        """End every worker; tasks that are still running get `patience_s` to react to an interrupt. Of tasks that have
        not begun nothing is said."""
        self._homeless.clear()
        for worker in self.busy:
            worker.leave_rest()
            worker.interrupt()
        limit = monotonic() + patience_s
        while self.busy and monotonic() < limit:
            for key, _ in self._selector.select(timeout=0.05):
                if isinstance(key.data, WorkerProcess) and key.data in self._all:
                    yield from self.readable(key.data)
        for worker in list(self._all):
            if worker.task is not None:
                yield worker.task, self._stopped(worker, KeyboardInterrupt("stopped"))
            else:
                self._discard(worker)

    def kill_all(self) -> None:
        """Now."""
        for worker in self._all:
            if worker.process.returncode is None:
                kill_tree(worker.process.pid)

    def close(self) -> None:
        """End every worker, at once."""
        for _ in self.stop(patience_s=0):
            pass

    def _new(self) -> WorkerProcess:
        worker = WorkerProcess(self._module, self._services.boot, self._text)
        # Its messages; its output, because a full pipe would stop the step; its death, which a child may outlive.
        for source in (worker.connection, worker.output, worker.watch):
            if source is not None:
                self._selector.register(source, selectors.EVENT_READ, worker)
        self._all.append(worker)
        return worker

    def _died(self, worker: WorkerProcess) -> Iterator[tuple[StepTask, StepOutcome]]:
        task, *not_begun = worker.tasks or (None,)
        worker.tasks.clear()
        worker.drain(last=True)
        limit = monotonic() + _GRACE_S
        while not worker.dead and monotonic() < limit:  # a process that ends closes its files a moment before
            _pause()
        lives = not worker.dead
        worker.kill()  # its children; and itself, if it only closed its end of the connection
        code = worker.process.wait()
        self._discard(worker)
        self._homeless += not_begun
        self._settle()
        if task is None:
            return
        error: Exception
        if lives and code == -signal.SIGTERM:  # our own signal says nothing of why it closed the connection
            error = StepKilledError(f"the process of '{task.step}' closed its connection to the engine, and was ended")
        else:
            error = ending(task.step, code, for_memory=KILLS.rose_since(worker.kills), run_id=task.run_id)
        yield task, StepOutcome(failure=failure_of(error), seconds=monotonic() - worker.started)

    def _stopped(self, worker: WorkerProcess, error: BaseException) -> StepOutcome:
        worker.tasks.clear()
        worker.kill()
        worker.drain(last=True)
        self._discard(worker)
        return StepOutcome(failure=failure_of(error), seconds=monotonic() - worker.started)

    def _discard(self, worker: WorkerProcess) -> None:
        for source in (worker.connection, worker.output, worker.watch):
            if source is not None:
                self._forget(source)
        self._all.remove(worker)
        worker.kill()
        worker.close()

    def _forget(self, source: socket.socket | int) -> None:
        try:
            self._selector.unregister(source)
        except KeyError:
            pass  # it had ended before


def _pause() -> None:
    selectors.DefaultSelector().select(timeout=0.01)
