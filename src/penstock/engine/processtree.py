"""The processes below a process: found, measured and ended, also those that left its group or its session."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
_ON_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG
_GRACE_S = 0.5
_CLOCKS_APART_S = 2.0


def adopt_orphans() -> None:
    """Let processes whose parent dies become children of this one, so that a double fork does not hide them. Linux."""
    _prctl(_ADOPT_ORPHANS, 1)


def go_on_when_orphaned() -> None:
    """Let this process go on when its parent dies, should it have been stopped: who stopped it to kill it may have died
    before. Linux."""
    _prctl(_ON_PARENTS_DEATH, signal.SIGCONT)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # a C library without it: the process group is still reached


def descendants(pid: int) -> Iterator[int]:
    """Processes started by `pid`, and by those. Linux only; elsewhere the process group is all that is reached."""
    if sys.platform != "linux":
        return
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            parents.setdefault(int(stat[1]), []).append(int(name))
    pending = [pid]
    while pending:
        for child in parents.get(pending.pop(), ()):
            yield child
            pending.append(child)


def now_s() -> float:
    """Seconds since this machine started, by the clock that processes are dated with; 0 where there is none."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else 0.0


def is_there(pid: int) -> bool:
    """Whether a process lives; one that has ended and waits for its parent to notice does not."""
    return (found := _stat(pid)) is not None and found[0] not in "ZX"


def is_there_since(pid: int, at_us: int) -> bool:
    """Whether the process that had this number at an instant still lives: a younger one is somebody else. Linux."""
    found = _stat(pid)
    if found is None or found[0] in "ZX":
        return False
    began = time.time() - now_s() + _born(found)
    return began <= at_us / 1e6 + _CLOCKS_APART_S


def born_since(moment: float) -> set[int]:
    """Our children that were born at `moment` (of `now_s`) or later, and all that is below these. Linux."""
    own, tick = os.getpid(), 1 / os.sysconf("SC_CLK_TCK")
    family: set[int] = set()
    for pid in descendants(own):
        found = _stat(pid)
        if found is not None and int(found[1]) == own and _born(found) >= moment - tick:
            family |= {pid, *descendants(pid)}
    return family


def end(pids: Iterable[int]) -> None:
    """Ask these processes to end, wait a moment, and kill what is left of them and below them."""
    asked = set(pids)
    for pid in asked:
        send(pid, signal.SIGTERM)
    limit = time.monotonic() + _GRACE_S
    while any(is_there(pid) for pid in asked) and time.monotonic() < limit:
        select.select([], [], [], 0.01)
    for pid in asked:
        if is_there(pid):
            kill_below(pid)
            send(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, …; None where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split() or None
    except OSError:
        return None


def _born(stat: list[str]) -> float:
    return int(stat[19]) / os.sysconf("SC_CLK_TCK")


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
