"""Worker processes seen from the engine: warm, one task at a time, and killable with everything they started."""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import socket
import subprocess
import sys
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

_OUTCOME = msgspec.msgpack.Decoder(StepOutcome)
_GRACE_S = 0.5
_PIECES = 32  # of 64 KiB: how much is read at once
_OUTPUT_CHARS = 16 * 1024 * 1024  # of one attempt; more is not kept
_BOOT_S = 60.0  # for importing the step's module, beside its timeout
_OWN_BYTES = 64 * 1024 * 1024  # what a worker has resident before any step: not the step's to answer for


class WorkerProcess:
    """One process in a session of its own, so that a signal to its group reaches the step's children too."""

    def __init__(self, module: str, boot: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        self.connection = ours
        read, write = os.pipe()
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
            theirs.close()
            os.close(write)
        os.set_blocking(read, False)
        self.output = read
        self.watch = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else None
        self.inbox = Inbox()
        self.redactor = Redactor()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.task: StepTask | None = None
        self.text: Callable[[str], None] = _nowhere
        self.progress: Callable[[float, float | None, str], None] = _nothing
        self.deadline: float | None = None
        self.started = 0.0
        self.kills: int | None = None  # the kernel's kills for memory, when the present task began
        self._shown = 0  # characters of the present task that came by file descriptor
        ours.sendall(frame(["boot", boot]))

    def start(self, task: StepTask) -> None:
        self.task, self.started, self._shown = task, monotonic(), 0
        self.deadline = self.started + _BOOT_S + task.timeout_s if task.timeout_s is not None else None
        self.connection.sendall(frame(["task", TASK_ENCODER.encode(task)]))

    def began(self) -> None:
        """The process is up and the step's module is imported: from here on its timeout counts."""
        if self.task is not None and self.task.timeout_s is not None:
            self.deadline = monotonic() + self.task.timeout_s

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
        return True

    def _show(self, text: str) -> None:
        self._shown += len(text)
        if text and self._shown <= _OUTPUT_CHARS:
            self.text(text)


class Workers:
    """A pool that grows to `limit` as steps need it. The scheduler waits on `selector` and calls `collect`."""

    def __init__(self, limit: int, module: str, services: Services, selector: selectors.BaseSelector) -> None:
        self._limit = limit
        self._module = module
        self._services = services
        self._selector = selector
        self._all: list[WorkerProcess] = []

    @property
    def free(self) -> int:
        """How many more tasks may start now."""
        return self._limit - sum(worker.task is not None for worker in self._all)

    @property
    def busy(self) -> list[WorkerProcess]:
        return [worker for worker in self._all if worker.task is not None]

    def start(
        self, task: StepTask, *, text: Callable[[str], None], progress: Callable[[float, float | None, str], None]
    ) -> WorkerProcess:
        worker = next((worker for worker in self._all if worker.task is None), None) or self._new()
        names = [name for argument in task.arguments.values() for name in secret_names(argument)]
        while True:
            worker.text, worker.progress, worker.redactor = text, progress, self._services.redactor(names)
            worker.kills = KILLS.count()
            try:
                worker.start(task)
                return worker
            except (BrokenPipeError, ConnectionResetError):  # it died while idle
                self._discard(worker)
                worker = self._new()

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
            if worker.dead:  # a child of it still holds the connection
                yield from self._died(worker)
            return
        except ConnectionResetError:
            piece = b""
        if not piece:
            yield from self._died(worker)
            return
        for message in worker.inbox.feed(piece):
            match message:
                case ["text", text]:
                    worker.text(text)
                case ["began"]:
                    worker.began()
                case ["progress", done, total, note]:
                    worker.progress(done, total, note)
                case ["done", content]:
                    worker.drain(last=True)
                    task, worker.task, worker.deadline = worker.task, None, None
                    assert task is not None
                    yield task, _OUTCOME.decode(content)

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
                and (used := memory_of(worker.process.pid)) > task.limits.memory_bytes + _OWN_BYTES
            ):
                error = StepOutOfMemoryError(
                    f"'{task.step}' used {shown_size(used)}, over its limit of "
                    f"{shown_size(task.limits.memory_bytes)}, and was stopped"
                )
            if error is not None:
                yield task, self._stopped(worker, error)

    def stop(self, *, patience_s: float) -> Iterator[tuple[StepTask, StepOutcome]]:
        """End every worker; tasks that are still running get `patience_s` to react to an interrupt."""
        for worker in self.busy:
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

    def _new(self) -> WorkerProcess:
        worker = WorkerProcess(self._module, self._services.boot)
        # Its messages; its output, because a full pipe would stop the step; its death, which a child may outlive.
        for source in (worker.connection, worker.output, worker.watch):
            if source is not None:
                self._selector.register(source, selectors.EVENT_READ, worker)
        self._all.append(worker)
        return worker

    def _died(self, worker: WorkerProcess) -> Iterator[tuple[StepTask, StepOutcome]]:
        task, worker.task = worker.task, None
        worker.drain(last=True)
        limit = monotonic() + _GRACE_S
        while not worker.dead and monotonic() < limit:  # a process that ends closes its files a moment before
            _pause()
        lives = not worker.dead
        worker.kill()  # its children; and itself, if it only closed its end of the connection
        code = worker.process.wait()
        self._discard(worker)
        if task is None:
            return
        error: Exception
        if lives and code == -signal.SIGTERM:  # our own signal says nothing of why it closed the connection
            error = StepKilledError(f"the process of '{task.step}' closed its connection to the engine, and was ended")
        else:
            error = ending(task.step, code, for_memory=KILLS.rose_since(worker.kills), run_id=task.run_id)
        yield task, StepOutcome(failure=failure_of(error), seconds=monotonic() - worker.started)

    def _stopped(self, worker: WorkerProcess, error: BaseException) -> StepOutcome:
        worker.task = None
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


_OWN_BYTES = 64 * 1024 * 1024  # what a worker has resident before any step: not the step's to answer for


def _pause() -> None:
    selectors.DefaultSelector().select(timeout=0.01)


def _nowhere(text: str) -> None:
    return


def _nothing(done: float, total: float | None, note: str) -> None:
    return
