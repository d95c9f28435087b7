"""What noticing hidden inputs costs: per watched step, per audit event, and over a whole run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from .measuring import fresh
from .pipelines import CHAIN
from .report import Row, environment, row

RUNS = int(os.environ.get("BENCH_RUNS", "9"))
STEPS = 200

# CPU time of one thread, the least of many rounds: what the machine does besides is not the question here.
PROBE = """
import copy, json, sys, timeit
from time import process_time

def took(statement, number=2000, rounds=25):
    return min(timeit.repeat(statement, globals=globals(), number=number, repeat=rounds, timer=process_time)) / number

if "random" in sys.argv:
    import random
value, nested = object(), {number: [str(number)] for number in range(500)}
before = took("id(value)", 20000), took("copy.deepcopy(nested)", 2)
from penstock.engine.hidden import Watch

def step():
    with Watch(("/home/user/.penstock/",)):
        pass

watched = took("step()")
after = took("id(value)", 20000), took("copy.deepcopy(nested)", 2)
opened = took("open('looked.txt').close()", 200)

def look():
    open("looked.txt").close()

with Watch() as watch:
    noticed = took("look()", 200)
assert [each.name for each in watch.found] == ["looked.txt"]
print(json.dumps({"step": watched * 1e6, "event": (after[0] - before[0]) * 1e9, "copy": after[1] / before[1],
                  "open": (noticed - opened) * 1e6}))
"""

REPEATED = """
if __name__ == "__main__":
    import os
    from time import process_time

    def run(mode):
        os.environ["PENSTOCK_HIDDEN_INPUTS"] = mode
        started = process_time()
        chain.using(cache=False).run(length=STEPS)
        return process_time() - started

    taken = [(run("off"), run("on")) for _ in range(12)]
    print(*(min(column) for column in zip(*taken)))
"""


def rows(python: Path, folder: Path) -> list[Row]:
    """The lines of the page."""
    plain, loaded = probed(python, folder), probed(python, folder, "random")
    return [
        row("hidden inputs: watching one step", plain["step"], "{:.1f} us CPU", 20),
        row("the same, where `random` is loaded", loaded["step"], "{:.1f} us CPU", 20),
        row("the same, in a run of 200 steps, on against off", chain(python, folder), "{:.0f} us CPU per step", 20),
        row("a file that a watched step opens again", plain["open"], "{:.1f} us CPU", 20),
        row("an audit event while nobody watches (`id()`)", plain["event"], "{:.0f} ns CPU", 250),
        row(
            "`copy.deepcopy`, which calls `id()` all the time, once a step was watched", plain["copy"], "{:.1f} x", 2.5
        ),
    ]


def probed(python: Path, folder: Path, *words: str) -> dict[str, float]:
    (folder / "probe.py").write_text(PROBE)
    (folder / "looked.txt").write_text("")
    taken = [json.loads(_output(python, folder, "probe.py", *words)) for _ in range(RUNS)]
    return {name: statistics.median(each[name] for each in taken) for name in taken[0]}


def chain(python: Path, folder: Path) -> float:
    """Microseconds per step that a run of a chain takes longer with `hidden_inputs` on than off.

    A small difference of two large figures: so the least of many runs, of both kinds in turn, in one process.
    """
    (folder / "chain.py").write_text(CHAIN + REPEATED.replace("STEPS", str(STEPS)))
    fresh(folder)
    taken = [[float(word) for word in _output(python, folder, "chain.py").split()] for _ in range(RUNS)]
    off, on = (min(column) for column in zip(*taken, strict=True))
    return (on - off) / STEPS * 1e6


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
