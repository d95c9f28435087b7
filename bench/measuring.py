"""Whole-process figures: CPU seconds of a process tree and its peak memory, from the kernel's own accounting."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple


class Figures(NamedTuple):
    """One process: CPU seconds (user + system, reaped children included), wall seconds, peak resident MB."""

    cpu: float
    wall: float
    peak_mb: float


def run_once(command: list[str], folder: Path, environment: Mapping[str, str]) -> Figures:
    """Run a command to its end. A failure stops the benchmark: a wrong result has no speed."""
    import time

    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}\n{errors.decode()}")
    return Figures(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def interleaved(
    commands: Mapping[str, list[str]],
    folder: Path | Mapping[str, Path],
    environment: Mapping[str, str],
    *,
    runs: int,
    before: Callable[[str], None] = lambda name: None,
) -> dict[str, Figures]:
    """Medians of `runs` runs of each command, taken in turn so that a drift of the machine meets all alike.

    folder: where they run: one for all, or one for each name
    """
    every: dict[str, list[Figures]] = {name: [] for name in commands}
    for turn in range(runs + 1):  # the first turn warms the page cache and is not counted
        for name, command in commands.items():
            before(name)
            place = folder if isinstance(folder, Path) else folder[name]
            figures = run_once(command, place, environment)
            if turn:
                every[name].append(figures)
    return {
        name: Figures(*(statistics.median(column) for column in zip(*taken, strict=True)))
        for name, taken in every.items()
    }


def fresh(folder: Path) -> None:
    """Forget what runs left."""
    shutil.rmtree(folder / ".penstock", ignore_errors=True)
