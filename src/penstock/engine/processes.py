"""One process per step: the way every other engine runs penstock, offered here so that it can be tried and tested."""

from __future__ import annotations

import os
import selectors
import signal
from typing import Any

from ..ports.events import AttemptFailed, AttemptStarted, StepEvent
from ..ports.records import Failure, FailureClass, StepRun, StepState
from .frontier import Item


class StepProcesses:
    """Starts `exec-step` processes and notices their end by the closing of a pipe."""

    def __init__(self, command: tuple[str, ...], limit: int, selector: selectors.BaseSelector) -> None:
        self._command = command
        self._limit = limit
        self._selector = selector
        self._children: dict[Item, tuple[Any, int]] = {}

    @property
    def running(self) -> list[Item]:
        return list(self._children)

    @property
    def free(self) -> int:
        return self._limit - len(self._children)

    def start(self, item: Item) -> None:
        import subprocess

        read, write = os.pipe()
        try:
            child = subprocess.Popen(
                [*self._command, "--step", item.name, "--index", item.index],
                pass_fds=(write,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
        finally:
            os.close(write)
        self._children[item] = (child, read)
        self._selector.register(read, selectors.EVENT_READ, item)

    def reap(self, item: Item) -> int:
        """The exit code of a process that has ended."""
        child, read = self._children.pop(item)
        self._selector.unregister(read)
        os.close(read)
        return int(child.wait())

    def kill_all(self) -> None:
        for item, (child, _) in list(self._children.items()):
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.reap(item)


def lost_process(run: StepRun, code: int, at: int) -> list[StepEvent]:
    """What to record of an instance whose process ended without recording an end."""
    what = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    failure = Failure(FailureClass.KILLED, f"the process of '{run.step}' {what}")
    owned = run.state is StepState.RUNNING
    attempt = run.attempts if owned else run.attempts + 1
    failed = AttemptFailed(at=at, step=run.step, index=run.index, attempt=attempt, failure=failure)
    if owned:
        return [failed]
    return [AttemptStarted(at=at, step=run.step, index=run.index, attempt=attempt), failed]
