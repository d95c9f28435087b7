"""One process per step: the way every other engine runs penstock, offered here so that it can be tried and tested."""

from __future__ import annotations

import os
import selectors
import signal
import threading
from enum import IntEnum
from time import monotonic
from typing import Any

import msgspec

from ..ports.events import AttemptFailed, AttemptStarted, StepEvent
from ..ports.records import StepRun, StepState
from .endings import KILLS, ending
from .failure import failure_of
from .frontier import Item
from .processtree import kill_below, kill_tree, send_group

HAS_PLACE = "PENSTOCK_HAS_PLACE"  # "1": the engine has taken the place of a pool that this step needs
LIFELINE = "PENSTOCK_LIFELINE"  # the file descriptor whose closing tells a step process that its engine is gone


class StepExit(IntEnum):
    """What an engine sees of `exec-step`."""

    DONE = 0  # succeeded, cached or skipped
    FAILED = 1  # for good: another attempt would be refused
    UPSTREAM_FAILED = 3
    NOT_READY = 4  # something it needs is not done; the engine called too early
    FENCED = 5  # not ours: a newer attempt or owner has it, another process works on it, or the run is over
    SKIPPED = 6  # where the engine wants to know; else DONE
    RETRY = 75  # failed; the policy would like another attempt


class StepProcess(msgspec.Struct):
    """A child, what becomes readable when it ends, and the end of the pipe that closes with us."""

    child: Any
    ended: int
    lifeline: int
    kills: int | None = None  # the kernel's kills for memory, when it began


class Ended(msgspec.Struct, frozen=True):
    """A process that was, its exit code, and whether the kernel killed it for memory (None: nobody knows)."""

    pid: int
    code: int
    for_memory: bool | None = None


class StepProcesses:
    """Starts `exec-step` processes and notices their end."""

    def __init__(self, command: tuple[str, ...], limit: int, selector: selectors.BaseSelector) -> None:
        self._command = command
        self._limit = limit
        self._selector = selector
        self._children: dict[Item, StepProcess] = {}

    @property
    def running(self) -> list[Item]:
        return list(self._children)

    @property
    def free(self) -> int:
        return self._limit - len(self._children)

    def start(self, item: Item, *, has_place: bool = False) -> None:
        import subprocess

        theirs, lifeline = os.pipe()
        end, open_while_alive = (None, None) if hasattr(os, "pidfd_open") else os.pipe()
        kills = KILLS.count()
        inherited = tuple(each for each in (theirs, open_while_alive) if each is not None)
        try:
            child = subprocess.Popen(
                [*self._command, "--step", item.name, "--index", item.index],
                pass_fds=inherited,
                env={**os.environ, LIFELINE: str(theirs), HAS_PLACE: "1" if has_place else ""},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
        finally:
            for each in inherited:
                os.close(each)
        if end is None:
            end = os.pidfd_open(child.pid)
        self._children[item] = StepProcess(child, end, lifeline, kills)
        self._selector.register(end, selectors.EVENT_READ, item)

    def reap(self, item: Item) -> Ended:
        """Take leave of a process that has ended."""
        process = self._children.pop(item)
        self._selector.unregister(process.ended)
        os.close(process.ended)
        os.close(process.lifeline)
        code = int(process.child.wait())
        return Ended(process.child.pid, code, KILLS.rose_since(process.kills) if code == -signal.SIGKILL else None)

    def stop(self, *, patience_s: float) -> list[Item]:
        """Interrupt every process, wait for them to record their end, and kill the others. Returns whose they were."""
        items = self.running
        for process in self._children.values():
            send_group(process.child.pid, signal.SIGINT)
        limit = monotonic() + patience_s
        while self._children and (left := limit - monotonic()) > 0:
            for key, _ in self._selector.select(timeout=left):
                if isinstance(key.data, Item):
                    self.reap(key.data)
        self.kill_all()
        return items

    def kill_all(self) -> None:
        """Now, with everything below them."""
        for item, process in list(self._children.items()):
            if process.child.poll() is None:
                kill_tree(process.child.pid)
            self.reap(item)


def die_with_engine() -> None:
    """In a step process: end, with everything below, when the engine that started it is gone."""
    lifeline = os.environ.pop(LIFELINE, None)
    if lifeline is None:
        return  # another engine started it, which has its own ways
    descriptor = int(lifeline)
    os.set_inheritable(descriptor, False)

    def watch() -> None:
        os.read(descriptor, 1)
        kill_below(os.getpid())
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="penstock-lifeline").start()


def lost_process(run: StepRun, process: Ended, at: int) -> list[StepEvent]:
    """What to record of an instance whose process ended without recording an end. It was this process that began the
    running attempt, or nobody did: an attempt that somebody else began is not ours to end."""
    failure = failure_of(ending(run.step, process.code, for_memory=process.for_memory))
    owned = run.state is StepState.RUNNING
    attempt = run.attempts if owned else run.attempts + 1
    failed = AttemptFailed(at=at, step=run.step, index=run.index, attempt=attempt, failure=failure)
    if owned:
        return [failed]
    return [AttemptStarted(at=at, step=run.step, index=run.index, attempt=attempt), failed]
