"""A project, its image, and the stores that its containers reach: runs of it under kfp.local, as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines import images, objects, podman, postgres
from engines.places import clean_environment, python

PIPELINES = """
import os, time
from pathlib import Path
from typing import NamedTuple
from penstock import Retry, Secret, context, optional, pipeline, step, when

class Split(NamedTuple):
    train: list[int]
    flag: bool

@step
def numbers(n: int) -> list[int]:
    return list(range(n))

@step
def split(xs: list[int], limit: int) -> Split:
    return Split(xs, len(xs) > limit)

@step
def square(x: int) -> int:
    return x * x

@step(retry=Retry(attempts=3, base="100ms", on=(OSError,)))
def flaky(x: int) -> int:
    if context().attempt < 3:
        raise OSError("not yet")
    return x

@step
def scores(xs: list[int]) -> dict[str, float]:
    context().metric("seen", len(xs))
    return {"sum": float(sum(xs)), "most": float(max(xs, default=0))}

@step
def large(n: int) -> bytes:
    return b"x" * n

@step
def size(content: bytes) -> int:
    return len(content)

@step
def told(flag: bool, token: str) -> str:
    return f"{flag} {len(token)}"

@step
def celebrate(s: dict[str, float]) -> str:
    return "yay"

@step
def report(s: dict[str, float], word: str | None) -> str:
    return f"{s['sum']} {word}"

@pipeline
def rich(n: int = 3, limit: int = 2) -> str:
    train, flag = split(numbers(n), limit)
    squares = square.map(x=train, max_size=50)
    found = scores(squares)
    with when(flag):
        celebrate(found)
    size(large(20000))
    told(flag, Secret("LAB_TOKEN"))
    flaky(n)
    return report(found, None)

@step
def picky(x: int) -> int:
    if x == 1 and not os.environ.get("LAB_MENDED"):
        raise ValueError("one")
    return x

@step
def beside(x: int) -> int:
    return -x

@pipeline
def each(x: int) -> int:
    picky(x)
    return beside(x)

@step
def total(xs: list[int]) -> int:
    return sum(xs)

@pipeline
def failing(n: int = 3) -> int:
    return total(each.map(x=numbers(n)))

@step(retry=Retry(attempts=2, base="1s"))
def slow() -> int:
    if context().attempt == 1:
        print("waiting", flush=True)
        time.sleep(600)
    return context().attempt

@pipeline
def killed() -> int:
    return slow()

@step
def after(x: int) -> int:
    return x

@pipeline
def stopped() -> int:
    return after(slow())

@step(retry=Retry(attempts=4, base="1s", factor=1))
def steady(x: int) -> int:
    print("waiting")
    time.sleep(6)
    return x

@pipeline
def cut_off() -> int:
    return after(steady(1))
"""


class Lab:
    def __init__(
        self, folder: Path, settings: Mapping[str, str], service: podman.Service, database: postgres.Postgres
    ) -> None:
        self.folder = folder
        self.database = database
        self.settings = dict(settings)
        self.service = service

    def environment(self, **more: str) -> dict[str, str]:
        return {**clean_environment("KFP", "AWS"), **self.settings, "NO_COLOR": "1", **more}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "penstock", *words]

    def call(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment(**more), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    def run(self, pipeline: str, *words: str, **more: str) -> tuple[int, str, str]:
        """Exit code, the run's id, and all that was printed."""
        done = self.call("run", f"lab.py:{pipeline}", "--on", "kubeflow", *words, "--json", **more)
        text = done.stdout + done.stderr
        return done.returncode, run_id(text), text

    def show(self, run: str) -> dict[str, Any]:
        return dict(json.loads(self.call("show", run, "--json").stdout))

    def states(self, run: str) -> dict[str, str]:
        steps = self.show(run)["steps"]
        return {f"{each['step']}[{each['index']}]" if each["index"] else each["step"]: each["state"] for each in steps}

    def there(self, run: str) -> Path:
        """What kfp.local keeps of a run."""
        return self.folder / ".penstock" / "deployments" / "kubeflow" / "runs" / run

    def outputs(self, run: str) -> dict[str, dict[str, Any]]:
        """Task, with the element's DAG before it -> what its container told."""
        found = {}
        for file in sorted((self.there(run) / "outputs").glob("**/executor_output.json")):
            name = "/".join(file.parent.relative_to(self.there(run) / "outputs").parts[1:])
            found[name] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def containers(self, run: str) -> list[str]:
        return podman.run("ps", "--quiet", "--filter", f"label=penstock.run={run}").split()


def run_id(text: str) -> str:
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("type") == "run":
            return str(said["run"])
    return ""


@contextmanager
def laboratory(folder: Path) -> Iterator[Lab]:
    project = folder / "project"
    project.mkdir()
    (project / "penstock.toml").write_text("")
    (project / "lab.py").write_text(PIPELINES)
    image = f"localhost/kubeflow-lab-{os.getpid()}:latest"
    with (
        postgres.server(folder / "postgres") as database,
        objects.server(folder / "s3") as store,
        podman.service(folder / "podman") as service,
    ):
        settings = {
            **store.environment, **service.environment, "PENSTOCK_RUNS": database.create_database(),
            "PENSTOCK_ARTIFACTS": f"{store.url}/penstock", "PENSTOCK_ENDPOINT": "local", "PENSTOCK_IMAGE": image,
            "PENSTOCK_ENGINE_PYTHON": str(python("kubeflow")), "LAB_TOKEN": "canary-5f1c",
        }  # fmt: skip
        images.build(image, project, folder)
        try:
            yield Lab(project, settings, service, database)
        finally:
            service.remove_containers()
            images.remove(image)
