"""The inside of a worker process: take a task, run it, send its outcome; die with the engine."""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any

import msgspec

from .capture import show_late_text, teed
from .execute import Execution
from .failure import failure_of
from .hidden import Ready
from .processtree import adopt_orphans, go_on_when_orphaned, kill_below
from .services import Services
from .tasks import TASK_DECODER, StepOutcome, StepTask
from .wire import Inbox, frame, receive


class Worker:
    """Serves tasks from a socket until it closes. Tasks run on the main thread, where signals and debuggers work.

    `first`: messages that came in the same piece as the boot message.
    """

    def __init__(self, connection: socket.socket, inbox: Inbox, services: Services, first: list[Any]) -> None:
        self._connection = connection
        self._services = services
        self._tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._in_step = False
        self._asked = False  # to stop, also while the step's module is still being imported
        for message in first:
            self.put(message)
        # The reader notices the engine's death even while the main thread is deep in a step.
        threading.Thread(target=self._read, args=(inbox,), daemon=True, name="penstock-reader").start()

    def put(self, message: Any) -> None:
        """Queue a task message, or give back what has not begun."""
        match message:
            case ["task", content]:
                self._tasks.put(content)
            case ["recall"]:
                self._give_back()

    def _give_back(self) -> None:
        names: list[tuple[str, str]] = []
        while True:
            try:
                task = TASK_DECODER.decode(self._tasks.get_nowait())
            except queue.Empty:
                break
            names.append((task.step, task.index))
        self._send(["returned", names])

    def serve(self) -> None:
        adopt_orphans()
        self._connection.set_inheritable(False)
        os.register_at_fork(after_in_child=self._connection.close)  # a child must not keep the engine waiting
        signal.signal(signal.SIGINT, self._interrupted)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # whoever started us may have it blocked
        show_late_text()
        with teed(echo=False), Ready():
            while True:
                task = TASK_DECODER.decode(self._tasks.get())
                try:
                    self._services.loader.load(task.target, task.payload)
                except BaseException:  # noqa: BLE001 - importing runs the user's code; the attempt says what is wrong
                    pass
                if task.timeout_s is not None:
                    self._send(["began"])
                outcome = self._run(task)
                try:
                    sys.stdout.flush()
                except (OSError, ValueError):
                    pass  # the step closed it
                self._send(["done", msgspec.msgpack.encode(outcome)])

    def _run(self, task: StepTask) -> StepOutcome:
        limit = _MemoryLimit(task.limits.memory_bytes if task.limits else None)
        execution = Execution(
            task,
            self._services,
            text=lambda text: self._send(["text", text]),
            progress=lambda done, total, note: self._send(["progress", done, total, note]),
            relax=limit.lift,
        )
        outcome: StepOutcome | None = None
        try:
            self._in_step = True
            if self._asked:
                raise KeyboardInterrupt("stopped")
            with limit:
                outcome = execution.run()
            self._in_step = False
        except KeyboardInterrupt as stop:  # between two lines of ours
            self._in_step = False
            outcome = outcome or StepOutcome(failure=failure_of(stop))
        return outcome

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._in_step:
            self._in_step = False  # once: the step's own `finally` blocks are not interrupted again
            raise KeyboardInterrupt

    def _read(self, inbox: Inbox) -> None:
        try:
            while messages := receive(self._connection, inbox):
                for message in messages:
                    self.put(message)
        except OSError:
            pass
        kill_below(os.getpid())  # the engine is gone: so are we, and whatever the step started
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def _send(self, message: Any) -> None:
        with self._sending:
            self._connection.sendall(frame(message))


def stand_between(connection: socket.socket) -> None:
    """Go on in a child; this process waits for it and ends as it ends.

    Ray kills the children of its own process when that one ends, and so would take a worker's time to end what its step
    has started. A worker that is no child notices by its connection, and does. Where the worker itself is killed, what
    it leaves behind is ended here.
    """
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        go_on_when_orphaned()
        return
    if signal.SIGINT in signal.sigpending():  # it came before there was a child that it could reach
        os.kill(child, signal.SIGINT)
    connection.close()
    status = os.waitpid(child, 0)[1]
    kill_below(os.getpid())
    if os.WIFSIGNALED(status):
        killer = os.WTERMSIG(status)
        if killer != signal.SIGKILL:
            signal.signal(killer, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {killer})
        os.kill(os.getpid(), killer)
    os._exit(os.waitstatus_to_exitcode(status))


class _MemoryLimit:
    """Bounds what a step may allocate beyond what the worker has; MemoryError then comes from the step itself."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit if sys.platform == "linux" else None
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> None:
        if self._limit is not None:
            import resource

            before = resource.getrlimit(resource.RLIMIT_DATA)
            with open("/proc/self/status") as status:
                used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
            wanted = used + self._limit
            hard = before[1]
            resource.setrlimit(
                resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
            )
            self._before = before

    def __exit__(self, *_: object) -> None:
        self.lift()

    def lift(self) -> None:
        if self._before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, self._before)
            self._before = None
