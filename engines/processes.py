"""Servers as processes: started in groups of their own, awaited, and stopped with all that they started.

Engines start children that outlive them, some in sessions of their own. Every process here inherits a variable with a
value used once, so whoever carries it is ours, whatever became of its parents. A watcher does the same stopping when
we ourselves are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .places import EngineError

MARK = "PENSTOCK_ENGINE_MARK"
TAIL_LINES = 40
T = TypeVar("T")


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[bytes]
    stop: signal.Signals


class Processes:
    """Processes that belong together and end together. Logs lie in `logs`, one file per name."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.mark = uuid.uuid4().hex
        self._running: dict[str, Running] = {}
        logs.mkdir(parents=True, exist_ok=True)
        self._watcher = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("watcher.py"), self.mark],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        cwd: Path | None = None,
        user: Mapping[str, object] | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> subprocess.Popen[bytes]:
        """`user` holds Popen's own arguments (user, group, extra_groups) to run it as somebody else; `stop` is the
        signal that asks it to end."""
        with open(self.log(name), "ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [str(part) for part in command], cwd=cwd or self.logs, env=self.marked(environment),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **(user or {}),  # type: ignore[call-overload]
            )  # fmt: skip
        self._running[name] = Running(process, stop)
        self.tell_watcher({"group": process.pid})
        return process

    def marked(self, environment: Mapping[str, str]) -> dict[str, str]:
        """SPT_NOENV: a process that writes its title over its variables would wash the mark off."""
        return {**environment, MARK: self.mark, "SPT_NOENV": "1"}

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def tail(self, name: str) -> str:
        log = self.log(name)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:])

    def tell_watcher(self, what: Mapping[str, object]) -> None:
        """What it must also end ("group"), run ("command", "environment") or remove ("folder") should we be killed."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.write(json.dumps(what).encode() + b"\n")
        self._watcher.stdin.flush()

    def check(self) -> None:
        """Raise if one of them has ended by itself."""
        for name, running in self._running.items():
            if (code := running.process.poll()) is not None:
                raise EngineError(f"{name} ended by itself, exit code {code}. The end of its log:\n{self.tail(name)}")

    def wait_until(self, what: str, ask: Callable[[], T | None], *, timeout: float, log: str | None = None) -> T:
        """Ask again until there is an answer, one of the processes ends, or the time is up."""
        deadline = time.monotonic() + timeout
        while True:
            if (answer := ask()) is not None and answer is not False:
                return answer
            self.check()
            if time.monotonic() > deadline:
                names = [log] if log else list(self._running)
                tails = "\n".join(f"The end of {name}'s log:\n{self.tail(name)}" for name in names)
                raise EngineError(f"not within {timeout:g} s: {what}\n{tails}")
            time.sleep(0.1)

    def stop_one(self, name: str, how: signal.Signals | None = None, *, grace: float = 10) -> None:
        """One process and its group, so that a test can start it anew."""
        running = self._running.pop(name)
        _end([running if how is None else Running(running.process, how)], grace)

    def stop(self, *, grace: float = 10) -> None:
        """Ask all groups to end, then SIGKILL, then whoever still carries the mark. None is left on return."""
        running = list(self._running.values())
        self._running.clear()
        _end(running, grace)
        end_marked(self.mark)
        self._watcher.kill()  # only now: nothing is left that it could miss
        self._watcher.wait()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()


def _end(processes: Sequence[Running], grace: float) -> None:
    """The leader first: one that sees its children die beside it may wait for them for ever. Then all of its group."""
    for each in processes:
        each.process.send_signal(each.stop)
    _wait(processes, grace / 2)
    for each in processes:
        if each.process.poll() is None:
            signal_group(each.process.pid, each.stop)
    _wait(processes, grace / 2)
    for each in processes:
        signal_group(each.process.pid, signal.SIGKILL)
        each.process.wait()


def _wait(processes: Sequence[Running], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for each in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            each.process.wait(max(0.0, deadline - time.monotonic()))


def signal_group(group: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


def end_marked(mark: str, *, timeout: float = 10) -> None:
    """SIGKILL to all that carry the mark, again until none does: one may just have started another."""
    deadline = time.monotonic() + timeout
    while found := list(marked(mark)):
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise EngineError(f"processes that would not end: {found}")
        time.sleep(0.02)


def marked(mark: str) -> Iterator[int]:
    """Ids of living processes that carry the mark. Where there is no /proc (macOS) the groups must do."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
