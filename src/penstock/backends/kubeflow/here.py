"""Runs on this machine: a process per run, in which Kubeflow's SDK starts container after container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...ports.backend import EngineState, Places
from ...ports.records import RunState

_STATES = {"running": RunState.RUNNING, "succeeded": RunState.SUCCEEDED, "failed": RunState.FAILED}


_STARTING_S = 60.0


class Here:
    """Starts such processes, and reads what they say."""

    def __init__(self, places: Places, folder: Path, script: Path) -> None:
        self._places = places
        self._folder = folder / "runs"
        self._script = script

    def start(self, pipeline: Path, run: str, arguments: Mapping[str, Any], environment: list[str]) -> None:
        """Idempotent: a run that was started is not started again."""
        folder = self._folder / run
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return
        request = {"pipeline": str(pipeline), "run": run, "arguments": arguments, "environment": environment}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        python = self._places.python or sys.executable
        with open(folder / "log.txt", "wb") as log:
            try:
                process = subprocess.Popen(
                    [python, "-P", "-u", str(self._script), str(folder)],
                    env=dict(self._places.environment) or None,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigError(
                    f"engine_python is {python}, which cannot be started: {error.strerror}",
                    hint="engine_python in the profile is an interpreter with `pip install 'kfp>=2.17,<3' docker`",
                ) from error
        (folder / "pid").write_text(str(process.pid), encoding="ascii")

    def state(self, run: str) -> EngineState:
        folder = self._folder / run
        if not folder.exists():
            return EngineState(RunState.INTERRUPTED, f"no run '{run}' was started on this machine: no {folder}")
        told = self._told(folder)
        state = _STATES.get(told.get("state", ""), RunState.RUNNING)
        if state is RunState.RUNNING and not self._lives(folder):
            told = self._told(folder)  # it may have ended between the two looks
            state = _STATES.get(told.get("state", ""), RunState.RUNNING)
            if state is RunState.RUNNING:
                return EngineState(RunState.FAILED, f"the process of kfp.local has died: {_last_words(folder)}")
        return EngineState(state, str(told.get("note", "")))

    def cancel(self, run: str) -> None:
        """It starts nothing more but the end of the run; what runs is stopped by the launcher in its container."""
        pid = self._pid(self._folder / run)
        if pid is not None and self._lives(self._folder / run):
            os.kill(pid, signal.SIGTERM)

    def _told(self, folder: Path) -> dict[str, Any]:
        try:
            return dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def _pid(self, folder: Path) -> int | None:
        try:
            return int((folder / "pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def _lives(self, folder: Path) -> bool:
        """Whether its process is there, and is the one that was started: a number may be somebody else's by now."""
        pid = self._pid(folder)
        if pid is None:  # it is being started, or whoever wanted to start it was killed
            return time.time() - folder.stat().st_mtime < _STARTING_S
        try:
            os.waitpid(pid, os.WNOHANG)  # a child of ours that has ended is only gone when somebody asked
        except ChildProcessError:
            pass
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            return not Path("/proc/self").exists() and _answers(pid)
        return str(folder).encode() in words


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return "it left no log"
    found = [line.strip() for line in lines if line.strip()]
    return f"{found[-1][-500:]} ({folder / 'log.txt'})" if found else f"it printed nothing ({folder / 'log.txt'})"
