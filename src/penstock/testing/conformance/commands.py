"""Engines by `penstock run` in a process of its own, as a user starts it; and the three ways of the local one.

`calm` is the measure of everything else: one worker, so one step at a time and no process but this one where none is
asked for. `local` runs steps side by side in worker processes, `apart` each in a process of its own by `exec-step`.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from ...wiring.backends import LOCAL as LOCAL_BACKEND
from .case import Case
from .driving import Answer, EngineRun, Ground, answers

LIMIT_S = 120.0
FULL_LIMIT_S = 1800.0


class Place(NamedTuple):
    """Where `penstock` is called: a project, the settings of its stores, and what steps find in the environment."""

    folder: Path
    settings: Mapping[str, str]
    environment: Mapping[str, str]
    work: Path
    limit_s: float = LIMIT_S

    @classmethod
    def of(cls, ground: Ground, settings: Mapping[str, str]) -> Place:
        limit = FULL_LIMIT_S if ground.full else LIMIT_S
        return cls(ground.folder, settings, ground.environment, ground.work, limit)

    def variables(self, more: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of a process: nobody's settings but these."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        return {**kept, **self.settings, **self.environment, **more}


_numbers = count()


def call(place: Place, words: Sequence[str], more: Mapping[str, str]) -> EngineRun:
    """One call of `penstock … --json`. What it prints is kept among the files that are searched afterwards."""
    printed = place.work / "printed" / f"{next(_numbers)}.txt"
    printed.parent.mkdir(parents=True, exist_ok=True)
    with printed.open("w+b") as file:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "penstock", *words, "--json"],
            cwd=place.folder, env=place.variables(more), stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, timeout=place.limit_s, check=False,
        )  # fmt: skip
    text = printed.read_text(encoding="utf-8", errors="replace")
    run_id = None
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("type") == "run":
            run_id = said["run"]
    state = {0: "succeeded", 1: "failed", 130: "cancelled"}.get(done.returncode, f"exit code {done.returncode}")
    return EngineRun(run_id, state, None, text[-2000:])


def run_here(
    place: Place, case: Case, parameters: Mapping[str, Any], more: Mapping[str, str], *words: str
) -> EngineRun:
    """A new run of a case in a process of this machine."""
    given: tuple[str, ...] = ()
    if parameters:
        path = place.work / "parameters" / f"{case.name}-{next(_numbers)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(parameters), ensure_ascii=False), encoding="utf-8")
        given = ("--params", str(path))
    return call(place, ["run", f"{case.file}:{case.pipeline}", *given, *words], more)


def resume_here(place: Place, run_id: str, more: Mapping[str, str], *words: str) -> EngineRun:
    return call(place, ["resume", run_id, *words], more)._replace(run_id=run_id)


class CommandDriver:
    """An engine by `penstock run … --on NAME`, or the local one, one way or another.

    A driver of an engine overrides `start`, `versions`, `places_to_search` and `close`; and `run` and `resume`, where
    it asks the engine what it shows of the run to its own users.
    """

    def __init__(self, name: str, *words: str, at_once: int, backend: str = LOCAL_BACKEND) -> None:
        self.name = name
        self.at_once = at_once
        self.words = words
        self._backend = backend
        self._place: Place | None = None

    @property
    def place(self) -> Place:
        """Where commands run; there is one once the driver is prepared."""
        assert self._place is not None
        return self._place

    def versions(self) -> Mapping[str, str]:
        from ... import __version__

        return {"penstock": __version__, "Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}

    def start(self, ground: Ground) -> Mapping[str, str]:
        """Start what is to be started. Returns settings as PENSTOCK_ variables."""
        return {"PENSTOCK_HOME": str(ground.folder / ".penstock")}

    def prepare(self, ground: Ground) -> Mapping[str, str]:
        settings = self.start(ground)
        self._place = Place.of(ground, settings)
        return settings

    def declared(self, case: Case) -> Mapping[str, Answer]:
        return answers(self._backend, case)

    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        return run_here(self.place, case, parameters, {}, *self.words)

    def resume(self, case: Case, run_id: str) -> EngineRun:
        return resume_here(self.place, run_id, {}, *self.words)

    def places_to_search(self) -> Iterable[Path]:
        return ()

    def close(self) -> None:
        pass


_AT_ONCE = (os.cpu_count() or 1) + 1  # some wait for time to pass
CALM = ("--on", LOCAL_BACKEND, "--workers", "1")
_SIDE_BY_SIDE = ("--on", LOCAL_BACKEND, "--workers", "2")
LOCAL: dict[str, Callable[[], CommandDriver]] = {
    "calm": lambda: CommandDriver("calm", *CALM, at_once=_AT_ONCE),
    "local": lambda: CommandDriver("local", *_SIDE_BY_SIDE, at_once=_AT_ONCE),
    "apart": lambda: CommandDriver("apart", *_SIDE_BY_SIDE, "--one-process-per-step", at_once=_AT_ONCE),
}
