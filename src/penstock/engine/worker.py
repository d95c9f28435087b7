"""The inside of a worker process: take a task, run it, send its outcome; die with the engine."""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
from typing import Any

import msgspec

from .capture import teed
from .execute import Execution
from .services import Services
from .tasks import TASK_DECODER
from .wire import Inbox, frame, receive


class Worker:
    """Serves tasks from a socket until it closes. Tasks run on the main thread, where signals and debuggers work."""

    def __init__(self, connection: socket.socket, inbox: Inbox, services: Services) -> None:
        self._connection = connection
        self._services = services
        self._tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._sending = threading.Lock()
        # The reader notices the engine's death even while the main thread is deep in a step.
        threading.Thread(target=self._read, args=(inbox,), daemon=True, name="penstock-reader").start()

    def put(self, message: Any) -> None:
        """Queue a task message."""
        self._tasks.put(message[1])

    def serve(self) -> None:
        self._send(["ready"])
        with teed(echo=False):
            while True:
                try:
                    task = TASK_DECODER.decode(self._tasks.get())
                except KeyboardInterrupt:
                    continue  # an interrupt that came just after its step had ended
                with _memory_limit(task.limits.memory_bytes if task.limits else None):
                    execution = Execution(
                        task,
                        self._services,
                        text=lambda text: self._send(["text", text]),
                        progress=lambda done, total, note: self._send(["progress", done, total, note]),
                    )
                    outcome = execution.run()
                sys.stdout.flush()
                self._send(["done", msgspec.msgpack.encode(outcome)])

    def _read(self, inbox: Inbox) -> None:
        while messages := receive(self._connection, inbox):
            for message in messages:
                self.put(message)
        os.killpg(os.getpgrp(), signal.SIGKILL)  # the engine is gone: so are we, and the step's children

    def _send(self, message: Any) -> None:
        with self._sending:
            self._connection.sendall(frame(message))


class _memory_limit:
    """Bounds what a step may allocate beyond what the worker has; MemoryError then comes from the step itself."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit if sys.platform == "linux" else None

    def __enter__(self) -> None:
        if self._limit is not None:
            import resource

            self._before = resource.getrlimit(resource.RLIMIT_DATA)
            with open("/proc/self/status") as status:
                used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
            resource.setrlimit(resource.RLIMIT_DATA, (used + self._limit, self._before[1]))

    def __exit__(self, *_: object) -> None:
        if self._limit is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, self._before)
