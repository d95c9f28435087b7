"""What a step costs on Prefect with warm workers, over Prefect's own task that does nothing; and writing the flow.

Both flows are chains of real tasks on one server, in one process each, of two lengths: the difference leaves out what
starting costs. The native tasks are like the generated ones, but for what penstock does in them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engines.places import python as python_of
from engines.prefect import prefect

from .measuring import Figures, fresh, interleaved
from .report import RUNS, Row, environment, row

SHORT, LONG = 20, 120
_CHAIN = """
from penstock import pipeline, step

@step
def first() -> int:
    return 0

@step
def following(value: int) -> int:
    return value + 1

@pipeline
def chain{size}() -> int:
    value = first()
    for _ in range({size} - 1):
        value = following(value)
    return value
"""
_NATIVE = """
import asyncio

from prefect import flow, task
from prefect.cache_policies import NO_CACHE


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="nothing-{{index}}")
async def nothing(index):
    return None


@flow(persist_result=False)
async def natively():
    before = []
    for index in range({size}):
        before = [await nothing(str(index), wait_for=before, return_state=True)]


asyncio.run(natively())
"""


def rows(python: Path, folder: Path) -> list[Row]:
    return [*compile_rows(python, folder), *step_rows(python, folder)]


def compile_rows(python: Path, folder: Path) -> list[Row]:
    commands = {}
    for size in (1_000, 2_000, 4_000):
        (folder / f"chain{size}.py").write_text(_CHAIN.format(size=size))
        words = ["compile", f"chain{size}.py", "--on", "prefect", "--output", f"out{size}"]
        commands[str(size)] = [str(python), "-P", "-m", "penstock", *words]
    taken = {int(name): each.cpu for name, each in interleaved(commands, folder, environment(), runs=RUNS).items()}
    more = (taken[4_000] - taken[2_000]) / (taken[2_000] - taken[1_000])
    return [
        row("Prefect: `penstock compile` of 1,000 steps, the whole command", taken[1_000], "{:.2f} CPU s", 2),
        row("the same: 2,000 more steps over 1,000 more (2 is linear)", more, "{:.1f}x", 2.6),
    ]


def step_rows(python: Path, folder: Path) -> list[Row]:
    with prefect(folder / "prefect") as server:
        commands = {}
        for size in (SHORT, LONG):
            (folder / f"chain{size}.py").write_text(_CHAIN.format(size=size))
            (folder / f"native{size}.py").write_text(_NATIVE.format(size=size))
            words = ["compile", f"chain{size}.py", "--on", "prefect", "--output", f"flow{size}"]
            compiled = [str(python), "-P", "-m", "penstock", *words]
            subprocess.run(compiled, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
            own = next((folder / f"flow{size}").glob("*_flow.py"))
            commands[f"penstock {size}"] = [str(python_of("prefect")), str(own)]
            commands[f"native {size}"] = [str(python_of("prefect")), f"native{size}.py"]
        taken = interleaved(commands, folder, server.environment, runs=RUNS, before=lambda name: fresh(folder))
    ours, theirs = _per_step(taken, "penstock"), _per_step(taken, "native")
    return [
        row(f"Prefect, warm workers: {name} of a step over Prefect's own task that does nothing",
            (mine - floor) * 1e3, "{:.1f} ms", 15, f" (that task is {floor * 1e3:.1f})")
        for name, mine, floor in (("wall time", ours.wall, theirs.wall), ("CPU", ours.cpu, theirs.cpu))
    ]  # fmt: skip


def _per_step(taken: dict[str, Figures], name: str) -> Figures:
    short, long = taken[f"{name} {SHORT}"], taken[f"{name} {LONG}"]
    steps = LONG - SHORT
    return Figures((long.cpu - short.cpu) / steps, (long.wall - short.wall) / steps, long.peak_mb)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        for each in rows(Path(sys.executable), Path(scratch)):
            print(*each, sep=" | ")
