"""A warm worker process costs a step one round trip: the same chain in the run's own process and in a worker."""

from __future__ import annotations

import os
from pathlib import Path

from .measuring import fresh, interleaved
from .pipelines import CHAIN
from .report import Row, environment, row

RUNS = int(os.environ.get("BENCH_RUNS", "9"))
STEPS = 200


def rows(python: Path, folder: Path) -> list[Row]:
    (folder / "chain.py").write_text(CHAIN)
    (folder / "apart.py").write_text(CHAIN.replace("@step", '@step(isolation="process")'))
    penstock = str(python.parent / "penstock")
    commands = {
        f"{name} {length}": [penstock, "run", f"{name}.py", "--length", str(length), "--no-cache"]
        for length in (1, STEPS + 1)
        for name in ("chain", "apart")
    }
    fresh(folder)
    taken = interleaved(commands, folder, environment(), runs=RUNS)
    here, here_one = taken[f"chain {STEPS + 1}"], taken["chain 1"]
    apart, apart_one = taken[f"apart {STEPS + 1}"], taken["apart 1"]
    cpu_here = (here.cpu - here_one.cpu) * 1000 / STEPS
    cpu_apart = (apart.cpu - apart_one.cpu) * 1000 / STEPS
    wall = (apart.wall - apart_one.wall) * 1000 / STEPS
    return [
        row(f"a step in a warm worker process, over in-process ({STEPS} steps)", cpu_apart - cpu_here,
            "{:.3f} ms CPU", 0.3, beside=f" ({cpu_apart:.3f} against {cpu_here:.3f} ms; wall {wall:.3f} ms)"),
    ]  # fmt: skip
