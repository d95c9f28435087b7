"""How the process of an attempt ended, told apart: told to go, killed by the kernel for memory, or killed otherwise.

The kernel counts the processes that it kills for memory in each control group. A step that died of SIGKILL while that
counter rose ran out of memory; where the counter did not rise, or cannot be read, it was killed, and the hint says so.
"""

from __future__ import annotations

import os
import re
import signal

from ..core.errors import PenstockError, StepKilledError, StepOutOfMemoryError, StepPreemptedError
from .processtree import how_it_ended

_SHELLS = {128 + number: number for number in (signal.SIGTERM, signal.SIGKILL)}  # how a shell or container passes it on
_COUNT = re.compile(rb"^oom_kill (\d+)", re.MULTILINE)


class OutOfMemoryKills:
    """The kernel's count of processes of our control group that it killed for memory; each is accounted for once."""

    def __init__(self, file: str | None = None) -> None:
        self._file: int | None = None
        self._path = file
        self._opened = False
        self._accounted = 0

    def count(self) -> int | None:
        """As the kernel says now; None where it does not say."""
        if not self._opened:
            self._opened = True
            self._file = _open(self._path)
        if self._file is None:
            return None
        try:
            found = _COUNT.search(os.pread(self._file, 4096, 0))
        except OSError:
            return None
        return int(found[1]) if found else None

    def rose_since(self, before: int | None) -> bool | None:
        """Whether one more was killed since the count was `before`, and not accounted for yet; None: nobody knows."""
        now = self.count()
        if now is None or before is None:
            return None
        known = max(before, self._accounted)
        if now <= known:
            return False
        self._accounted = known + 1
        return True


KILLS = OutOfMemoryKills()  # of this process's own group, which its children share


def ending(step: str, code: int, *, for_memory: bool | None, run_id: str = "") -> PenstockError:
    """What to record of an attempt whose process ended with this code and recorded nothing.

    >>> type(ending("fit", -15, for_memory=None)).__name__, type(ending("fit", -9, for_memory=True)).__name__
    ('StepPreemptedError', 'StepOutOfMemoryError')
    """
    said = f"the process of '{step}' {how_it_ended(code)}"
    number = -code if code < 0 else _SHELLS.get(code)
    if number == signal.SIGTERM:
        return StepPreemptedError(said, hint='its machine or container goes: Retry(on=("preempted",)) tries again')
    if number != signal.SIGKILL:
        return StepKilledError(said, hint=f"what it printed, if anything: penstock logs {run_id}" if run_id else None)
    if for_memory:
        return StepOutOfMemoryError(
            f"the kernel killed the process of '{step}' for memory",
            hint="give it more, or less to do at a time: this machine, or its container, has no more",
        )
    if for_memory is None:
        return StepKilledError(said, hint="perhaps for memory: the kernel's count of that cannot be read here")
    return StepKilledError(said, hint="not for memory, as the kernel counts; somebody or something sent the signal")


def _open(path: str | None) -> int | None:
    for each in (path,) if path is not None else _places():
        try:
            return os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    return None


def _places() -> list[str]:
    """Where the count of our own control group may lie, in version 2 and in version 1."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    found = []
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            found += [f"/sys/fs/cgroup/memory{path}/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control"]
        elif not controllers:
            found += [f"/sys/fs/cgroup{path}/memory.events.local", f"/sys/fs/cgroup{path}/memory.events"]
            found += ["/sys/fs/cgroup/memory.events"]  # inside a container, its own group is the root that it sees
    return found
