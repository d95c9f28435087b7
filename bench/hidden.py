"""What noticing hidden inputs costs: per watched attempt, per file and per audit event."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from .report import RUNS, Row, environment, row

# CPU time of one thread, the least of many rounds: what the machine does besides is not the question here.
PROBE = """
import copy, json, timeit
from time import process_time

def took(statement, number=2000, rounds=25):
    return min(timeit.repeat(statement, globals=globals(), number=number, repeat=rounds, timer=process_time)) / number

value, nested = object(), {number: [str(number)] for number in range(500)}
before = took("id(value)", 20000), took("copy.deepcopy(nested)", 2)
from penstock.engine.hidden import Watch

with Watch():
    pass  # the hook is there from now on
after = took("id(value)", 20000), took("copy.deepcopy(nested)", 2)
opened = took("open('looked.txt').close()", 200)

def look():
    open("looked.txt").close()

with Watch() as watch:
    noticed = took("look()", 200)
assert [each.name for each in watch.found] == ["looked.txt"]
print(json.dumps({"event": (after[0] - before[0]) * 1e9, "copy": after[1] / before[1],
                  "open": (noticed - opened) * 1e6}))
"""

# A whole attempt of a step that does nothing, with stores that keep nothing.
ATTEMPT = """
import sys, timeit
from time import process_time
from typing import Any

from penstock.core.clock import SystemClock
from penstock.engine.execute import Execution
from penstock.engine.services import Services
from penstock.engine.tasks import StepTask
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.steps import LoadedStep

if "random" in sys.argv:
    import random


class Kept:
    def save(self, value, annotation=Any):
        return ArtifactRef(digest="1", codec="json", inline="1")


class One:
    loaded = LoadedStep(target="f.py:one", fn=lambda: 1, parameters={}, returns=Any, outputs={"output": Any},
                        result_type=None, is_async=False)

    def load(self, target, payload=None):
        return self.loaded


services = Services(artifacts=Kept(), loader=One(), fingerprints=None, clock=SystemClock())


def attempt(watch):
    task = StepTask("run", "p", "one", "", 1, "f.py:one", {}, ("output",), watch=watch)
    assert Execution(task, services, text=print).run().failure is None


def took(watch):
    return min(timeit.repeat(lambda: attempt(watch), number=300, repeat=15, timer=process_time)) / 300


attempt(True)
print(min(took(True) for _ in range(3)) - min(took(False) for _ in range(3)))
"""


def rows(python: Path, folder: Path) -> list[Row]:
    """The lines of the page."""
    plain = probed(python, folder)
    return [
        row(
            "hidden inputs: an attempt that is watched, over one that is not",
            attempt(python, folder),
            "{:.1f} us CPU",
            20,
        ),
        row("the same, where `random` is loaded", attempt(python, folder, "random"), "{:.1f} us CPU", 20),
        row("a file that a watched step opens again", plain["open"], "{:.1f} us CPU", 20),
        row("an audit event while nobody watches (`id()`)", plain["event"], "{:.0f} ns CPU", 250),
        row(
            "`copy.deepcopy`, which calls `id()` all the time, once a step was watched", plain["copy"], "{:.1f} x", 2.5
        ),
    ]


def probed(python: Path, folder: Path) -> dict[str, float]:
    (folder / "probe.py").write_text(PROBE)
    (folder / "looked.txt").write_text("")
    taken = [json.loads(_output(python, folder, "probe.py")) for _ in range(RUNS)]
    return {name: statistics.median(each[name] for each in taken) for name in taken[0]}


def attempt(python: Path, folder: Path, *words: str) -> float:
    """Microseconds that a watched attempt takes longer than one that is not."""
    (folder / "attempt.py").write_text(ATTEMPT)
    return statistics.median(float(_output(python, folder, "attempt.py", *words)) for _ in range(RUNS)) * 1e6


def _output(python: Path, folder: Path, *words: str) -> str:
    done = subprocess.run(
        [str(python), *words], cwd=folder, env=_environment(), capture_output=True, text=True, check=True
    )
    return done.stdout


def _environment() -> dict[str, str]:
    """As everywhere, and the tree that lies here where this script is run by itself."""
    tree = {"PYTHONPATH": os.environ["BENCH_TREE"]} if "BENCH_TREE" in os.environ else {}
    return environment() | tree


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        for line in rows(Path(sys.executable), Path(scratch)):
            print(*line, sep=" | ")
