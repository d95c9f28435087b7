"""What a generated DAG costs: written, imported by Airflow, and per step over a task that does nothing.

Steps are measured inside a running Airflow: the CPU time of the whole task, its own process and everything below it.
"""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

from engines.airflow import airflow
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
# After the generated DAG, in its file: a chain of tasks that do nothing. Every task tells the CPU time of its process
# and of all below it when it is done.
_BESIDE = """

def measured(kind, execute):
    def run(self, context):
        try:
            return execute(self, context)
        finally:
            import resource

            both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
            print(f"CPU {{kind}} {{sum(each.ru_utime + each.ru_stime for each in both):.3f}}")

    return run


class Nothing(BaseOperator):
    def execute(self, context):
        return


Nothing.execute = measured("nothing", Nothing.execute)
Step.execute = measured("step", Step.execute)
End.execute = measured("end", End.execute)


@dag(dag_id="nothing", schedule=None, is_paused_upon_creation=False)
def nothing():
    before = None
    for at in range({steps}):
        task = Nothing(task_id=f"nothing_{{at}}")
        if before is not None:
            task.set_upstream(before)
        before = task


nothing()
"""
_NAMES = "from airflow.sdk import BaseOperator, Param, TaskGroup, conf, dag\nfrom airflow.sdk import exceptions\n"


def rows(python: Path, folder: Path) -> list[Row]:
    return [*compile_rows(python, folder), *import_rows(python, folder), *step_rows(python, folder)]


def compile_rows(python: Path, folder: Path) -> list[Row]:
    commands = {}
    for size in (10, 100, 1_000, 2_000, 4_000):
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
    more = (taken[4_000] - taken[2_000]) / (taken[2_000] - taken[1_000])
    return [
        row("Airflow: `penstock compile` of 1,000 steps, the whole command", taken[1_000], "{:.2f} CPU s", 2,
            f" (of 100 steps {taken[100]:.2f})"),
        row("the same: 2,000 more steps over 1,000 more (2 is linear)", more, "{:.1f}x", 2.6),
    ]  # fmt: skip


def import_rows(python: Path, folder: Path) -> list[Row]:
    """Over what every DAG file imports of Airflow."""
    dags = folder / "dags"
    code = {"names": _NAMES, **{str(size): f"{_NAMES}import chain{size}_dag" for size in (10, 100)}}
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
    """A DAG of penstock's and one of tasks that do nothing take turns on one running Airflow."""
    compiled = folder / "dags" / f"chain{STEPS}_dag.py"
    taken: dict[str, list[float]] = {}
    with airflow(folder / "airflow-running", dags=folder / "read", environment={"NO_COLOR": "1"}) as server:
        for each in compiled.parent.glob(f"chain{STEPS}.*.json"):
            (server.dags / each.name).write_bytes(each.read_bytes())
        (server.dags / compiled.name).write_text(
            compiled.read_text(encoding="utf-8") + _BESIDE.format(steps=STEPS), encoding="utf-8"
        )
        name = f"chain{STEPS}"
        for dag in (name, "nothing"):
            server.wait_for_dag(dag)
        for turn in range(RUNS + 1):  # the first one is not counted
            _forget(folder)
            for kind, dag in (("first", name), ("", "nothing"), ("hit", name)):
                run = server.trigger(dag)
                server.wait_for_run(dag, run)
                for task in server.states(dag, run):
                    for told, seconds in re.findall(r"CPU (\w+) ([0-9.]+)", server.logs(dag, run, task)):
                        if turn:
                            taken.setdefault(f"{kind} {told}".strip(), []).append(float(seconds))
    middle = {name: statistics.median(each) for name, each in taken.items()}
    floor = middle["nothing"]
    return [
        row(f"Airflow, subprocess form: {what} over Airflow's own task that does nothing", middle[name] - floor,
            "{:.2f} CPU s", 0.5, f" ({middle[name]:.2f} over {floor:.2f}; median of {len(taken[name])} tasks)")
        for what, name in (("a step", "first step"), ("a step that is a cache hit", "hit step"),
                           ("the task that closes a run", "hit end"))
    ]  # fmt: skip


def _forget(folder: Path) -> None:
    """Nothing is a hit."""
    for each in folder.glob(".penstock/runs.db*"):
        each.unlink()


if __name__ == "__main__":
    import tempfile

    assert home("airflow").exists(), "make engines"
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        (Path(scratch) / "penstock.toml").write_text("")
        for line in rows(Path(sys.argv[1] if len(sys.argv) > 1 else sys.executable), Path(scratch)):
            print(*line, sep=" | ")
