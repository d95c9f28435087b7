"""Kubeflow: compiling a thousand steps, and what a step costs in a container over kfp.local's own no-op.

The second needs `make engines`. Containers that do nothing, that only import the clients of the stores, and that run a
step take turns in one run of kfp.local; each tells the CPU time of what it ran.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from engines import images, objects, postgres
from engines.kubeflow import kubeflow

from .report import RUNS, Row, environment, row

NOOPS = """
from penstock import pipeline, step

@step(cache=False)
def noop(number: int) -> int:
    return number

@pipeline
def noops() -> None:
    for number in range({count}):
        noop(number)
"""

COMPILE = """
import json, sys, time
from penstock.backends.kubeflow import KubeflowBackend
from penstock.graph import Graph, Guard, Node, Output, RetryPolicy, StepOptions
from penstock.ports.backend import Blueprint

def graph(count):
    nodes = [Node("s0", "f.py:s")]
    for at in range(1, count):
        inputs = {"a": Output(f"s{at - 1}")} | ({"b": Output(f"s{at - 10}", optional=True)} if at > 10 else {})
        guards = (Guard(Output(f"s{at - 3}")),) if at % 10 == 5 else ()
        options = StepOptions(retry=RetryPolicy(attempts=3))
        nodes.append(Node(f"s{at}", "f.py:s", inputs, guards=guards, options=options))
    return Graph.checked(pipeline="p", target="f.py:p", nodes=tuple(nodes))

def seconds(count):
    plan = Blueprint(graph=graph(count), name="p", digest="d", manifest="s3://b/m", root="/", python="python",
                     runs="postgresql://db/p", artifacts="s3://b", home="/", image="i:1")
    taken = []
    for _ in range(5):
        begun = time.process_time()
        KubeflowBackend().compile(plan)
        taken.append(time.process_time() - begun)
    return sorted(taken)[2]

print(json.dumps({count: seconds(count) for count in (100, 1000, 2000)}))
"""

MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"CPU {sys.argv[1]} {used.ru_utime + used.ru_stime:.3f}", flush=True)
sys.exit(done.returncode)
"""
KINDS = {"nothing": "pass", "imports": "import psycopg, s3fs"}


def rows(python: Path, place: Path) -> list[Row]:
    return [*compiling(python), *containers(place)]


def compiling(python: Path) -> list[Row]:
    done = subprocess.run([python, "-c", COMPILE], capture_output=True, text=True, check=True, env=environment())
    taken = {int(count): seconds for count, seconds in json.loads(done.stdout).items()}
    growth = (taken[2000] / 2000) / (taken[100] / 100)
    return [
        row("Kubeflow: compile 1,000 steps, CPU", taken[1000], "{:.2f} s", 2),
        row("Kubeflow: CPU per step, 2,000 steps over 100", growth, "{:.2f} times", 1.5),
    ]


def containers(place: Path) -> list[Row]:
    count = max(3, RUNS)
    project = place / "project"
    project.mkdir()
    (project / "penstock.toml").write_text("")
    (project / "noops.py").write_text(NOOPS.format(count=count))
    image = f"localhost/bench-{os.getpid()}:latest"
    with (
        postgres.server(place / "postgres") as database,
        objects.server(place / "s3") as store,
        kubeflow(place / "kfp") as runner,
    ):
        given = {
            **store.environment, "PENSTOCK_RUNS": database.create_database(),
            "PENSTOCK_ARTIFACTS": f"{store.url}/penstock",
        }  # fmt: skip
        images.build(image, project, place)
        try:
            compiled = _compiled(project, {**given, "PENSTOCK_ENDPOINT": "local", "PENSTOCK_IMAGE": image})
            file = place / "noops.yaml"
            file.write_text(json.dumps(_measuring(compiled, count)), encoding="utf-8")
            found = runner.run_local(file, folder=place / "run", environment=given, timeout=1800)
        finally:
            images.remove(image)
    if found.state != "SUCCESS":
        sys.exit(found.log[-3000:])
    used: dict[str, list[float]] = {}
    for kind, seconds in re.findall(r"CPU (\w+) ([0-9.]+)", found.log):
        used.setdefault(kind, []).append(float(seconds))
    step, imports, nothing = (statistics.median(used[each]) for each in ("step", "imports", "nothing"))
    beside = f" ({step:.2f} s; {imports:.2f} s of importing psycopg and s3fs; {nothing:.2f} s of a bare Python)"
    return [row("Kubeflow: CPU of a step over a no-op container of kfp.local", step - imports, "{:.2f} s", 0.5, beside)]


def _compiled(project: Path, settings: dict[str, str]) -> dict[str, Any]:
    """The specification, with its manifest where containers find it."""
    import yaml

    words = [sys.executable, "-P", "-m", "penstock", "deploy", "noops.py", "--on", "kubeflow"]
    subprocess.run(words, cwd=project, env={**os.environ, **settings}, check=True, capture_output=True)
    (file,) = (project / ".penstock" / "deployments" / "kubeflow").glob("*.yaml")
    return dict(next(iter(yaml.safe_load_all(file.read_text(encoding="utf-8")))))


def _measuring(spec: dict[str, Any], count: int) -> dict[str, Any]:
    """Every container under a process that tells what it took; the others beside the steps."""
    tasks = spec["components"]["comp-steps"]["dag"]["tasks"]
    executors = spec["deploymentSpec"]["executors"]
    image = executors["exec-end"]["container"]["image"]
    for label, executor in executors.items():
        if label != "exec-end":
            executor["container"]["command"] = ["python", "-c", MEASURED, "step", *executor["container"]["command"]]
    for kind, code in KINDS.items():
        command = ["python", "-c", MEASURED, kind, "python", "-c", code]
        for number in range(count):
            name = f"{kind}-{number}"
            tasks[name] = {"componentRef": {"name": f"comp-{name}"}, "taskInfo": {"name": name}, "cachingOptions": {}}
            spec["components"][f"comp-{name}"] = {"executorLabel": f"exec-{name}"}
            executors[f"exec-{name}"] = {"container": {"image": image, "command": command}}
    return spec


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        for what, value, goal, verdict in rows(Path(sys.executable), Path(scratch)):
            print(f"{what}: {value} (to reach: {goal}; {verdict})", flush=True)


if __name__ == "__main__":
    main()
