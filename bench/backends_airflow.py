"""What a generated DAG costs: written, imported by Airflow, and per step over a task that does nothing.

A step of the subprocess form is one process of the project's interpreter, as a task is that Airflow's users write by
hand to keep its libraries apart from theirs. So the floor is that process, doing nothing: `python -c pass`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engines.places import home, program

from .measuring import interleaved
from .report import RUNS, Row, environment, row

STEPS = 10
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
# All commands of one run, one after the other, as Airflow's tasks start them; each run has a name of its own.
_COMMANDS = """
import os, subprocess, sys, uuid
python, steps = sys.argv[1], sys.argv[3:]
common = ["--manifest", sys.argv[2], "--engine", "airflow", "--engine-run", f"chain/{uuid.uuid4().hex}"]
for name in steps:
    words = ["exec-end"] if name == "end" else ["exec-step", "--step", name, "--tell-skips"]
    subprocess.run([python, "-P", "-m", "penstock", *words, *common], check=True, stderr=subprocess.DEVNULL)
"""
_NOTHING = "import subprocess, sys\nfor _ in sys.argv[2:]: subprocess.run([sys.argv[1], '-c', 'pass'], check=True)\n"
_NAMES = "from airflow.sdk import BaseOperator, Param, TaskGroup, conf, dag\nfrom airflow.sdk import exceptions\n"


def rows(python: Path, folder: Path) -> list[Row]:
    return [*compile_rows(python, folder), *import_rows(python, folder), *step_rows(python, folder)]


def compile_rows(python: Path, folder: Path) -> list[Row]:
    commands = {}
    for size in (10, 100, 1_000):
        (folder / f"chain{size}.py").write_text(_CHAIN.format(size=size))
        commands[str(size)] = [
            str(python),
            "-P",
            "-m",
            "penstock",
            "compile",
            f"chain{size}.py",
            "--on",
            "airflow",
            "--output",
            "dags",
        ]
    taken = {int(name): each.cpu for name, each in interleaved(commands, folder, environment(), runs=RUNS).items()}
    hundred, thousand = taken[100] - taken[10], taken[1_000] - taken[10]
    return [
        row("Airflow: `penstock compile` of 1,000 steps, the whole command", taken[1_000], "{:.2f} CPU s", 2,
            f" (of 100 steps {taken[100]:.2f})"),
        row("the same: 990 more steps over 90 more (11 is linear)", thousand / hundred, "{:.1f}x", 14),
    ]  # fmt: skip


def import_rows(python: Path, folder: Path) -> list[Row]:
    """Over what every DAG file imports of Airflow."""
    dags = folder / "dags"
    code = {"names": _NAMES, **{str(size): f"{_NAMES}import chain{size}" for size in (10, 100)}}
    airflow = str(program("airflow", "python"))
    commands = {name: [airflow, "-P", "-c", text] for name, text in code.items()}
    settings = {**environment(), "PYTHONPATH": str(dags), "AIRFLOW_HOME": str(folder / "airflow")}
    taken = interleaved(commands, folder, settings, runs=RUNS)
    names = taken.pop("names").cpu
    return [
        row(f"Airflow: import of a generated DAG of {size} steps, over Airflow's own {names:.2f} s",
            (each.cpu - names) * 1000, "{:.0f} ms CPU", 50 if size == "10" else 500)
        for size, each in taken.items()
    ]  # fmt: skip


def step_rows(python: Path, folder: Path) -> list[Row]:
    manifest = folder / "dags" / "chain10.manifest.json"
    steps = ["first", "following", *(f"following_{at}" for at in range(2, STEPS))]
    commands = {
        "nothing": [sys.executable, "-c", _NOTHING, str(python), *steps],
        "steps": [sys.executable, "-c", _COMMANDS, str(python), str(manifest), *steps],
        "hits": [sys.executable, "-c", _COMMANDS, str(python), str(manifest), *steps],
        "with the end": [sys.executable, "-c", _COMMANDS, str(python), str(manifest), *steps, "end"],
    }

    def before(name: str) -> None:
        if name == "steps":  # nothing is a hit
            for each in folder.glob(".penstock/runs.db*"):
                os.remove(each)

    taken = interleaved(commands, folder, environment(), runs=RUNS, before=before)
    floor = taken["nothing"].cpu / STEPS

    def over(name: str) -> float:
        return (taken[name].cpu - taken["nothing"].cpu) / STEPS

    end = taken["with the end"].cpu - taken["hits"].cpu
    return [
        row("Airflow, subprocess form: a step over a task that does nothing", over("steps"), "{:.3f} CPU s", 0.5,
            f" (`python -c pass` is {floor:.3f})"),
        row("the same, every step a cache hit", over("hits"), "{:.3f} CPU s", 0.5),
        row("Airflow: the task that closes a run", end, "{:.3f} CPU s", 0.5),
    ]  # fmt: skip


if __name__ == "__main__":
    import tempfile

    assert home("airflow").exists(), "make engines"
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        (Path(scratch) / "penstock.toml").write_text("")
        for line in rows(Path(sys.argv[1] if len(sys.argv) > 1 else sys.executable), Path(scratch)):
            print(*line, sep=" | ")
