"""The docker form of a DAG, really run: Airflow's Docker provider starts a container of the project's image per step.

The containers are podman's, behind the Docker API that the provider speaks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import images, objects, podman, postgres
from engines.airflow import Airflow, airflow
from engines.places import clean_environment

pytestmark = pytest.mark.long

SHOP = """
import os
from penstock import Limits, Retry, Secret, context, pipeline, step, when

@step
def upto(n: int) -> list[int]:
    print("up to", n)
    return list(range(n))

@step(limits=Limits(memory="512Mi"))
def square(x: int) -> int: return x * x

@step(retry=Retry(3, base="100ms", factor=1))
def flaky(xs: list[int]) -> int:
    if context().attempt < 2: raise OSError("not yet")
    return sum(xs)

@step
def told(token: str) -> int:
    print("the token is", token)
    return len(token)

@step
def extra() -> int: return 1

@step
def broken(x: int) -> int: raise ValueError("for good")

@pipeline
def shop(n: int = 3, go: bool = False) -> int:
    with when(go):
        extra()
    told(Secret("SHOP_TOKEN"))
    return flaky(square.map(x=upto(n)))

@pipeline
def failing() -> int:
    return broken(1)
"""
TOKEN = "canary-77c1"


class Lab:
    """A project whose image Airflow's workers start containers of."""

    def __init__(self, server: Airflow, folder: Path, settings: dict[str, str]) -> None:
        self.server = server
        self.folder = folder
        self.settings = settings

    def penstock(self, *words: str) -> subprocess.CompletedProcess[str]:
        ours = {"PENSTOCK_ENDPOINT": self.server.url, "PENSTOCK_DAGS": str(self.server.dags), "NO_COLOR": "1"}
        return subprocess.run(
            [sys.executable, "-P", "-m", "penstock", *words], cwd=self.folder, stdin=subprocess.DEVNULL,
            env={**clean_environment("AIRFLOW", "AWS"), **self.settings, **ours}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    def run(self, target: str, *words: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, the run as `show` tells it, and all that was printed."""
        done = self.penstock("run", target, "--on", "airflow", "--json", *words)
        told = done.stdout + done.stderr
        assert '"type":"run"' in told.replace(" ", ""), told
        run = next(each["run"] for each in map(json.loads, done.stdout.splitlines()) if each["type"] == "run")
        return done.returncode, json.loads(self.penstock("show", run, "--json").stdout), told


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    work = tmp_path_factory.mktemp("airflow-containers")
    project = work / "project"
    project.mkdir()
    (project / "penstock.toml").write_text("", encoding="utf-8")
    (project / "shop.py").write_text(SHOP, encoding="utf-8")
    image = f"localhost/airflow-lab-{os.getpid()}:latest"
    with (
        postgres.server(work / "postgres") as database,
        objects.server(work / "s3") as store,
        podman.service(work / "podman") as service,
    ):
        images.build(image, project, work)
        settings = {
            **store.environment, **service.environment, "PENSTOCK_RUNS": database.create_database(),
            "PENSTOCK_ARTIFACTS": f"{store.url}/penstock", "PENSTOCK_IMAGE": image, "PENSTOCK_FORM": "docker",
            "PENSTOCK_NETWORK": "host",
            "SHOP_TOKEN": TOKEN,
        }  # fmt: skip
        try:
            with airflow(work / "airflow", dags=work / "dags", environment=settings) as server:
                yield Lab(server, project, settings)
        finally:
            service.remove_containers()
            images.remove(image)


def test_a_run_in_containers_is_the_run_of_the_local_engine(lab: Lab) -> None:
    code, run, told = lab.run("shop.py:shop")
    assert code == 0, told
    here = lab.penstock("run", "shop.py:shop", "--on", "local", "--no-cache", "--json")
    assert here.returncode == 0, here.stdout + here.stderr
    states = {f"{each['step']}[{each['index']}]" if each["index"] else each["step"]: each for each in run["steps"]}
    assert {name: each["state"] for name, each in states.items()} == {
        "extra": "skipped", "told": "succeeded", "upto": "succeeded", "square[0]": "succeeded",
        "square[1]": "succeeded", "square[2]": "succeeded", "flaky": "succeeded",
    }  # fmt: skip
    assert states["flaky"]["attempts"] == 2
    there = lab.server.runs("shop")[-1]["dag_run_id"]
    assert lab.server.wait_for_run("shop", there)["state"] == "success"
    assert lab.server.states("shop", there)["extra"] == "skipped"
    assert "up to 3" in lab.server.logs("shop", there, "upto")
    masked = lab.server.logs("shop", there, "told")
    assert "the token is •••" in masked
    assert TOKEN not in masked


def test_a_step_that_fails_for_good_fails_the_run_on_both_sides_and_it_goes_on_here(lab: Lab) -> None:
    code, run, told = lab.run("shop.py:failing")
    assert code == 1, told
    assert run["state"] == "failed"
    assert [(each["step"], each["state"], each["attempts"]) for each in run["steps"]] == [("broken", "failed", 1)]
    there = lab.server.runs("failing")[-1]["dag_run_id"]
    assert lab.server.wait_for_run("failing", there)["state"] == "failed"
    assert "ValueError: for good" in lab.server.logs("failing", there, "broken")


def test_no_secret_is_in_airflows_database_or_files(lab: Lab) -> None:
    assert TOKEN not in lab.server.database.dump()
    places = (lab.server.folder, lab.server.dags, lab.folder)
    written = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert [str(file) for file in written if TOKEN.encode() in file.read_bytes()] == []
