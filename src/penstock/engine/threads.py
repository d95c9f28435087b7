"""Threads for I/O-bound steps that asked for one, and the one event loop that async steps share."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from ..core.errors import PenstockError
from ..graph import Node
from ..ports.records import Failure, FailureClass
from ..ports.steps import StepLoader
from .execute import Execution
from .tasks import StepOutcome, StepTask

_LOOP_PATIENCE_S = 1.0

Ended = tuple[StepTask, StepOutcome, BaseException | None]


class Coroutines:
    """Which steps are coroutines that run in our loop."""

    def __init__(self, loader: StepLoader) -> None:
        self._loader = loader
        self._known: dict[tuple[str, str | None], bool] = {}  # target and payload

    def has(self, node: Node) -> bool:
        options = node.options
        if options.isolation == "process" or options.timeout_s is not None or options.limits is not None:
            return False  # it needs a process that can be stopped; its coroutine runs there
        code = (node.target, node.payload)
        known = self._known.get(code)
        if known is None:
            known = self._known[code] = self._is_coroutine(node)
        return known

    def _is_coroutine(self, node: Node) -> bool:
        try:
            return self._loader.load(node.target, node.payload).is_async
        except PenstockError:
            return False  # the attempt itself will fail with this, where it is recorded


class Threads:
    """Runs attempts beside the scheduler's thread; their outcomes wake its selector."""

    def __init__(self, limit: int, selector: selectors.BaseSelector) -> None:
        self._limit = max(limit, 1) * 4  # they wait for others most of the time
        self._active: dict[tuple[str, str], StepTask] = {}
        self._ended: SimpleQueue[Ended] = SimpleQueue()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        selector.register(self._read, selectors.EVENT_READ, None)
        self._open = True
        self._closing = threading.RLock()  # a signal may come while it is held
        self._loop: Any = None
        self._loop_thread = threading.Thread(target=self._run_loop, daemon=True, name="penstock-loop")
        self._tasks: dict[tuple[str, str], tuple[Any, Execution]] = {}

    @property
    def free(self) -> int:
        return self._limit - len(self._active)

    def start(self, task: StepTask, execution: Execution, *, is_async: bool) -> None:
        self._active[task.step, task.index] = task
        if is_async:
            self._start_coroutine(task, execution)
        else:
            threading.Thread(target=self._run, args=(task, execution), daemon=True, name=f"step-{task.step}").start()

    def collect(self) -> Iterator[Ended]:
        """What has ended since the last time."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                ended = self._ended.get_nowait()
            except Empty:
                return
            key = (ended[0].step, ended[0].index)
            self._tasks.pop(key, None)
            if self._active.pop(key, None) is not None:
                yield ended

    def stop(self, *, patience_s: float) -> Iterator[Ended]:
        """Cancel coroutines, wait for threads a while, and give up on what is left: a thread cannot be stopped."""
        for future, execution in list(self._tasks.values()):
            execution.stopped = True
            future.cancel()
        limit = monotonic() + patience_s
        while self._active and monotonic() < limit:
            with selectors.DefaultSelector() as selector:
                selector.register(self._read, selectors.EVENT_READ)
                selector.select(timeout=max(0.0, limit - monotonic()))
            yield from self.collect()
        for task in list(self._active.values()):
            failure = Failure(FailureClass.CANCELLED, "abandoned: a thread cannot be stopped")
            yield task, StepOutcome(failure=failure), None
        self._active.clear()

    def wake(self) -> None:
        """Let the scheduler look up; safe from a signal and from another thread, and after `close`."""
        with self._closing:
            if self._open:
                try:
                    os.write(self._write, b"x")
                except BlockingIOError:
                    pass  # it has been told already

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join(timeout=_LOOP_PATIENCE_S)  # a coroutine that blocks its loop cannot be stopped
        with self._closing:  # an abandoned thread must not write to a number that is somebody else's by then
            self._open = False
            os.close(self._read)
            os.close(self._write)

    def _run(self, task: StepTask, execution: Execution) -> None:
        outcome = execution.run()
        self._ended.put((task, outcome, execution.error))
        self.wake()

    def _start_coroutine(self, task: StepTask, execution: Execution) -> None:
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop_thread.start()

        async def attempt() -> None:
            outcome = await execution.run_async()
            self._ended.put((task, outcome, execution.error))
            self.wake()

        self._tasks[task.step, task.index] = asyncio.run_coroutine_threadsafe(attempt(), self._loop), execution

    def _run_loop(self) -> None:
        import asyncio

        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
