"""A long history costs next to nothing: the same commands on a log of a million step runs and on one of 10,000."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from .measuring import interleaved
from .pipelines import HELLO
from .report import RUNS, Row, environment, row

SMALL, BIG = 10_000, int(os.environ.get("BENCH_HISTORY", "1_000_000"))
BUILDING = Path(__file__).with_name("building.py")

# The real runs that `building.py` copies. Numbers have seven digits, so that copies differ in value and not in size.
FILES = {
    "hello.py": HELLO,
    "chain.py": """
from penstock import Static, pipeline, step

@step
def increment(x: int) -> int:
    return x + 1

@pipeline
def chain(start: int = 1_000_000, length: Static[int] = 100) -> int:
    x = start
    for _ in range(length):
        x = increment(x)
    return x
""",
    "fanned.py": """
from penstock import pipeline, step

@step
def numbers(start: int, count: int) -> list[int]:
    return list(range(start, start + count))

@step
def scale(x: int) -> int:
    return 5_000_000_000 + x

@step
def total(xs: list[int]) -> int:
    return sum(xs)

@pipeline
def fanned(start: int = 1_000_000, count: int = 998) -> int:
    return total(scale.map(x=numbers(start, count)))
""",
    "fresh.py": """
import time
from penstock import pipeline, step

@step(cache=False)
def now() -> int:
    return time.time_ns()

@step
def increment(x: int) -> int:
    return x + 1

@pipeline
def fresh() -> int:
    x = now()
    for _ in range(99):
        x = increment(x)
    return x
""",
}
# What is compared, in an order in which `last` is always the run of 100 steps.
ASKED = {
    "a new run of 2 steps": ["run", "hello.py", "--no-cache"],
    "a new run of 100 steps": ["run", "fresh.py"],
    "`ls`": ["ls"],
    "`show` of a run of 100 steps": ["show", "last"],
    "`plan` of 100 steps, all hits": ["plan", "chain.py"],
}


def rows(python: Path, folder: Path) -> list[Row]:
    place = {"small": folder / "history-small", "big": folder / "history-big"}
    bytes_small, _ = fill(python, place["small"], SMALL)
    bytes_big, seconds = fill(python, place["big"], BIG)
    print(f"{BIG:,} step runs appended in {seconds:.0f} s", file=sys.stderr)
    penstock = str(python.parent / "penstock")
    commands = {f"{size} {what}": [penstock, *words] for what, words in ASKED.items() for size in place}
    folders = {name: place[name.partition(" ")[0]] for name in commands}
    taken = interleaved(commands, folders, environment(), runs=RUNS)
    found = [
        row(f"run log of {BIG:,} step runs, size", bytes_big / 1000, "{:.2f} KB per step run", 0.9,
            beside=f" (one of {SMALL:,}: {bytes_small / 1000:.2f})"),
    ]  # fmt: skip
    for what in ASKED:
        small, big = taken[f"small {what}"], taken[f"big {what}"]
        found.append(row(f"the same, {what}, against a log of {SMALL:,}", big.cpu / small.cpu, "{:.2f}x the CPU", 1.2,
                         beside=f" ({big.cpu:.3f} s; wall {big.wall:.3f} against {small.wall:.3f} s)"))  # fmt: skip
    return found


def fill(python: Path, folder: Path, step_runs: int) -> tuple[float, float]:
    """A project whose run log holds so many step runs: bytes per step run, and how long the appends took."""
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    penstock = [str(python.parent / "penstock"), "run"]
    for file in ("chain.py", "fanned.py"):
        subprocess.run(
            [*penstock, file, "--workers", "1"], cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    began = time.perf_counter()
    built = subprocess.run(
        [str(python), str(BUILDING), str(folder), str(step_runs)],
        env=environment(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    return (folder / ".penstock" / "runs.db").stat().st_size / int(built.stdout), seconds
