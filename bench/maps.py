"""Ten thousand mapped elements and a join: elements per second, memory that does not grow with them, starts first."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from .measuring import fresh, interleaved
from .report import Row, environment, row

RUNS = max(3, int(os.environ.get("BENCH_RUNS", "9")) // 3)  # each takes seconds
SIZES = (2_000, 10_000, 20_000)
ELEMENTS = SIZES[1]

MAPPED = """
from penstock import pipeline, step

@step
def numbers(count: int) -> list[int]:
    return list(range(count))

@step
def scale(x: int) -> int:
    return 1_000_000 + x

@step
def total(xs: list[int]) -> int:
    return sum(xs)

@pipeline
def mapped(count: int = 10_000) -> int:
    return total(scale.map(x=numbers(count)))
"""

ALONE = """scale.map(x=numbers(count))
    return count"""

# Each element looks from outside whether its own start is in the run log: another connection sees only what is durable.
STARTS = """
from pathlib import Path
from penstock import context, pipeline, step
from penstock.stores.runlog import open_store

@step
def numbers(count: int) -> list[int]:
    return list(range(count))

@step(cache=False)
def is_late(x: int) -> int:
    home = Path(__file__).parent / ".penstock"
    store = open_store(f"sqlite:///{home / 'runs.db'}", home=home)
    here = context()
    begun = [each.index for each in store.attempts(here.run_id, "is_late")]
    store.close()
    return int(str(x) not in begun)

@step
def total(xs: list[int]) -> int:
    return sum(xs)

@pipeline
def starts(count: int = 200) -> int:
    return total(is_late.map(x=numbers(count)))
"""


def rows(python: Path, folder: Path) -> list[Row]:
    penstock = str(python.parent / "penstock")
    return [*speed_rows(penstock, folder), *start_rows(penstock, folder)]


def speed_rows(penstock: str, folder: Path) -> list[Row]:
    (folder / "mapped.py").write_text(MAPPED)
    (folder / "alone.py").write_text(MAPPED.replace("return total(scale.map(x=numbers(count)))", ALONE))
    fresh(folder)
    run = [penstock, "run", "mapped.py", "--no-cache"]
    commands = {
        f"{count} by {workers}": [*run, "--workers", str(workers), "--count", str(count)]
        for count in (1, *SIZES)
        for workers in (1, 2)
    } | {f"{count} alone": [penstock, "run", "alone.py", "--no-cache", "--count", str(count)] for count in SIZES}
    taken = interleaved(commands, folder, environment(), runs=RUNS)
    found = []
    for workers in (2, 1):
        one, all_ = taken[f"1 by {workers}"], taken[f"{ELEMENTS} by {workers}"]
        cpu = (all_.cpu - one.cpu) * 1000 / ELEMENTS
        what = f"{ELEMENTS:,} mapped elements and a join, {workers} worker{'s' if workers > 1 else ', in-process'}"
        found.append(row(what, ELEMENTS / (all_.wall - one.wall), "{:,.0f} elements/s", 6_000, at_least=True,
                         beside=f" ({cpu:.3f} ms CPU per element)"))  # fmt: skip
    alone, growth_alone = growth({count: taken[f"{count} alone"].peak_mb for count in SIZES})
    joined, growth_joined = growth({count: taken[f"{count} by 2"].peak_mb for count in SIZES})
    shown = subprocess.run([penstock, "show", "last"], cwd=folder, env=environment(), check=True, capture_output=True)
    return [
        *found,
        row("a map that nothing joins, the engine's peak memory for each further element", growth_alone,
            "{:,.0f} bytes", 300, beside=f" ({alone}; with a join, whose list is made at the end, {growth_joined:,.0f} "
            f"bytes: {joined})"),
        row("the same, lines that `penstock show` prints", shown.stdout.count(b"\n"), "{:.0f}", 20),
    ]  # fmt: skip


def growth(peaks: dict[int, float]) -> tuple[str, float]:
    """In words, and in bytes for each further element."""
    words = ", ".join(f"{peak:.1f} MB at {count:,}" for count, peak in peaks.items())
    return words, (peaks[SIZES[-1]] - peaks[SIZES[0]]) * 1e6 / (SIZES[-1] - SIZES[0])


def start_rows(penstock: str, folder: Path) -> list[Row]:
    """Elements that began before their start was in the run log, as they saw themselves."""
    (folder / "starts.py").write_text(STARTS)
    found = []
    for workers in (2, 1):
        ran = subprocess.run(
            [penstock, "run", "starts.py", "--workers", str(workers), "--json"],
            cwd=folder, env=environment(), check=True, capture_output=True, text=True,
        )  # fmt: skip
        late = int(json.loads(ran.stdout.splitlines()[-1])["output"])
        what = f"elements of 200 that began before their start was durable, {workers} at a time"
        found.append(row(what, late, "{:.0f}", 0))
    return found
