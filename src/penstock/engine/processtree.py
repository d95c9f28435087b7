"""The processes below a process: found, measured and ended, also those that left its group or its session."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER


def adopt_orphans() -> None:
    """Let processes whose parent dies become children of this one, so that a double fork does not hide them. Linux."""
    if sys.platform != "linux":
        return
    import ctypes

    try:
        ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # a C library without it: the process group is still reached


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


def kill_below(pid: int) -> None:
    """Kill everything under `pid` but not itself. Again until nothing new is found: a process may fork meanwhile."""
    known: set[int] = set()
    while found := set(descendants(pid)) - known:
        for each in found:
            send(each, signal.SIGKILL)
        known |= found


def kill_tree(pid: int) -> None:
    """Kill `pid`, its group, and everything under it. It is stopped first, so that it cannot start more."""
    send_group(pid, signal.SIGSTOP)
    kill_below(pid)
    send_group(pid, signal.SIGKILL)
    send(pid, signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """A signal to one process, if it is still there."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def send_group(pid: int, number: int) -> None:
    """A signal to the group that `pid` leads, if it is still there."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


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


def how_it_ended(code: int) -> str:
    """An exit code in words.

    >>> how_it_ended(-11), how_it_ended(3)
    ('was killed by SIGSEGV', 'ended with exit code 3')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was killed by signal {-code}"
