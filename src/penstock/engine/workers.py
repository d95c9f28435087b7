"""Worker processes seen from the engine: warm, one task at a time, and killable with everything they started."""

from __future__ import annotations

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
from .failure import failure_of
from .tasks import TASK_ENCODER, StepOutcome, StepTask
from .wire import Inbox, frame

_OUTCOME = msgspec.msgpack.Decoder(StepOutcome)
_GRACE_S = 0.5


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
        self.inbox = Inbox()
        self.task: StepTask | None = None
        self.text: Callable[[str], None] = _nowhere
        self.progress: Callable[[float, float | None, str], None] = _nothing
        self.deadline: float | None = None
        self.started = 0.0
        ours.sendall(frame(["boot", boot]))

    def start(self, task: StepTask) -> None:
        self.task, self.started = task, monotonic()
        self.deadline = self.started + task.timeout_s if task.timeout_s is not None else None
        self.connection.sendall(frame(["task", TASK_ENCODER.encode(task)]))

    def interrupt(self) -> None:
        """Ask the step to stop: KeyboardInterrupt in the worker, SIGINT to its children."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process and everything it started, children in other sessions included."""
        family = [*descendants(self.process.pid)]
        self._signal(signal.SIGTERM)
        limit = monotonic() + _GRACE_S
        while self.process.poll() is None and monotonic() < limit:
            _pause()
        self._signal(signal.SIGKILL)
        for pid in family:
            _kill(pid)
        self.process.wait()

    def close(self) -> None:
        self.connection.close()
        os.close(self.output)

    def drain(self) -> str:
        """What the process or its children wrote to file descriptors 1 and 2."""
        pieces = []
        while True:
            try:
                piece = os.read(self.output, 1 << 16)
            except BlockingIOError:
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces).decode(errors="replace")

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


class Workers:
    """A pool that grows to `limit` as steps need it. The scheduler waits on `selector` and calls `collect`."""

    def __init__(self, limit: int, module: str, boot: dict[str, Any], selector: selectors.BaseSelector) -> None:
        self._limit = limit
        self._module = module
        self._boot = boot
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
        worker.text, worker.progress = text, progress
        try:
            worker.start(task)
        except BrokenPipeError:  # it died while idle
            self._discard(worker)
            worker = self._new()
            worker.text, worker.progress = text, progress
            worker.start(task)
        return worker

    def next_deadline(self) -> float | None:
        """Monotonic seconds of the earliest timeout; soon, while a memory limit has to be watched."""
        limits = [worker.deadline for worker in self._all if worker.deadline is not None]
        if any(worker.task is not None and worker.task.limits for worker in self._all):
            limits.append(monotonic() + 0.1)
        return min(limits, default=None)

    def readable(self, worker: WorkerProcess) -> Iterator[tuple[StepTask, StepOutcome]]:
        """Take in what a worker sent; yields its task when that is done or its process is dead."""
        if text := worker.drain():
            worker.text(text)
        try:
            piece = worker.connection.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
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
                case ["progress", done, total, note]:
                    worker.progress(done, total, note)
                case ["done", content]:
                    if text := worker.drain():
                        worker.text(text)
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
                if isinstance(key.data, WorkerProcess):
                    yield from self.readable(key.data)
        for worker in list(self._all):
            if worker.task is not None:
                yield worker.task, self._stopped(worker, KeyboardInterrupt("stopped"))
            else:
                self._discard(worker)

    def kill_all(self) -> None:
        """Now."""
        for worker in self._all:
            worker._signal(signal.SIGKILL)

    def _new(self) -> WorkerProcess:
        worker = WorkerProcess(self._module, self._boot)
        self._selector.register(worker.connection, selectors.EVENT_READ, worker)
        self._all.append(worker)
        return worker

    def _died(self, worker: WorkerProcess) -> Iterator[tuple[StepTask, StepOutcome]]:
        task, worker.task = worker.task, None
        text = worker.drain()
        code = worker.process.wait()
        self._discard(worker)
        if task is None:
            return
        if text:
            worker.text(text)
        what = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        error = StepKilledError(
            f"the process of '{task.step}' {what}", hint="see its output: penstock logs " + task.run_id
        )
        yield task, StepOutcome(failure=failure_of(error), seconds=monotonic() - worker.started)

    def _stopped(self, worker: WorkerProcess, error: BaseException) -> StepOutcome:
        worker.task = None
        worker.kill()
        if text := worker.drain():
            worker.text(text)
        self._discard(worker)
        return StepOutcome(failure=failure_of(error), seconds=monotonic() - worker.started)

    def _discard(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker.connection)
        self._all.remove(worker)
        if worker.process.poll() is None:
            worker.kill()
        worker.close()


_OWN_BYTES = 64 * 1024 * 1024  # what a worker has resident before any step: not the step's to answer for


def descendants(pid: int) -> Iterator[int]:
    """Processes started by `pid`, and by those. Linux only; elsewhere the process group is all that is reached."""
    if sys.platform != "linux":
        return
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    parents.setdefault(int(stat.read().rpartition(")")[2].split()[1]), []).append(int(name))
            except (OSError, IndexError):
                continue
    pending = [pid]
    while pending:
        for child in parents.get(pending.pop(), ()):
            yield child
            pending.append(child)


def memory_of(pid: int) -> int:
    """Resident bytes of a process and its descendants."""
    total = 0
    for each in (pid, *descendants(pid)):
        try:
            with open(f"/proc/{each}/statm") as statm:
                total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _pause() -> None:
    selectors.DefaultSelector().select(timeout=0.01)


def _nowhere(text: str) -> None:
    return


def _nothing(done: float, total: float | None, note: str) -> None:
    return
