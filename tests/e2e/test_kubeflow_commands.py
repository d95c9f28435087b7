"""The engine commands as Kubeflow's containers call them: everything comes in one JSON text, and goes into one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.wiring.backends import blueprint
from penstock.wiring.manifest import manifest_text
from penstock.wiring.runner import with_payloads

from .engine_lab import Lab

SHOPS = """
@step
def shops(n: int) -> list[int]:
    return list(range(n))

@step
def days(shop: int) -> list[int]:
    return list(range(shop))

@step
def sell(shop: int, day: int) -> int:
    if shop == 2 and day == 1:
        raise ValueError("closed")
    return 10 * shop + day

@pipeline
def one(shop: int) -> None:
    sell.partial(shop).map(day=days(shop))

@pipeline
def main(n: int = 2, rate: float = 0.5) -> None:
    one.map(shop=shops(n))
"""


class Containers:
    """Calls of one run, as Kubeflow's containers make them."""

    def __init__(self, lab: Lab) -> None:
        self.root = lab.root
        project = lab.project()
        plan = blueprint(project.settings, with_payloads(lab.load().main.trace({})))
        self.manifest = lab.root / "main.manifest.json"
        self.manifest.write_text(manifest_text(project.settings, plan.graph, plan.name))
        self.common = ["--manifest", str(self.manifest), "--digest", plan.digest, "--engine", "kubeflow"]
        self.said = ""

    def call(self, *words: str, outputs: tuple[str, ...] = (), text: str = "", **values: Any) -> int:
        """Exit code; what the container told is in `answer`, what it printed in `said`."""
        folder = self.root / "outputs"
        self.file = folder / "executor_output.json"
        self.file.unlink(missing_ok=True)
        artifacts = {each: {"artifacts": [{"name": each, "type": {}, "uri": str(folder / each)}]} for each in outputs}
        given = {"penstock_engine_run": "42", "penstock_run": "", **values}
        record = {
            "inputs": {"parameterValues": given},
            "outputs": {"artifacts": artifacts, "outputFile": str(self.file)},
        }
        verb, *rest = words
        command = [sys.executable, "-P", "-m", "penstock", verb, *self.common, *rest]
        done = subprocess.run(
            [*command, "--executor-input", text or json.dumps(record)], cwd=self.root, env=dict(os.environ),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        self.said = done.stdout + done.stderr
        return done.returncode

    @property
    def answer(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text()))


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    with Lab(tmp_path) as lab:
        yield Containers(lab.write(SHOPS))


def test_a_run_is_made_with_kubeflow_s_parameters_and_its_maps_are_listed_below_their_element(
    containers: Containers,
) -> None:
    assert containers.call("exec-step", "--step", "shops", outputs=("output",), n=3.0, rate=0.5) == 0
    (told,) = containers.answer["artifacts"]["output"]["artifacts"]
    assert told["metadata"]["state"] == "succeeded"
    assert (containers.root / "outputs" / "output").read_text() == "[0,1,2]"
    assert containers.call("exec-map", "--scope", "one") == 0
    assert containers.answer == {"parameterValues": {"Output": ["0", "1", "2"]}}
    for index in ("0", "1", "2"):
        assert containers.call("exec-step", "--step", "one/days", "--index", index) == 0
    assert containers.call("exec-map", "--scope", "one/sell", "--below", "2") == 0
    assert containers.answer == {"parameterValues": {"Output": ["2.0", "2.1"]}}
    assert containers.call("exec-map", "--scope", "one/sell", "--below", "0") == 0
    assert containers.answer == {"parameterValues": {"Output": []}}


def test_a_failure_that_must_not_stop_kubeflow_ends_well_and_says_that_it_failed(containers: Containers) -> None:
    containers.call("exec-step", "--step", "shops", n=3)
    containers.call("exec-map", "--scope", "one")
    containers.call("exec-step", "--step", "one/days", "--index", "2")
    containers.call("exec-map", "--scope", "one/sell", "--below", "2")
    sell = ("exec-step", "--step", "one/sell", "--index", "2.1")
    assert containers.call(*sell, outputs=("output",)) == 1
    assert not containers.file.exists()  # Kubeflow takes nothing from a container that failed
    assert containers.call(*sell, "--go-on", outputs=("output",)) == 0
    (told,) = containers.answer["artifacts"]["output"]["artifacts"]
    assert told["metadata"] == {"state": "failed"}
    assert containers.call("exec-end", penstock_state={"state": "FAILED"}) == 1
    assert "closed" in containers.said


def test_the_end_is_cancelled_when_kubeflow_says_so(containers: Containers) -> None:
    containers.call("exec-step", "--step", "shops", n=0)
    assert containers.call("exec-end", penstock_state={"state": "CANCELLED"}) == 130


def test_what_kubeflow_did_not_fill_in_is_told_and_nothing_is_begun(containers: Containers) -> None:
    assert containers.call("exec-step", "--step", "shops", text="{{$}}") == 2
    assert "not what Kubeflow hands to a container" in containers.said
    assert containers.call("exec-step", "--step", "shops", penstock_engine_run="") == 2
    assert "which run?" in containers.said


def test_a_manifest_that_was_altered_is_refused(containers: Containers) -> None:
    containers.manifest.write_text(containers.manifest.read_text().replace("sell", "gift"))
    assert containers.call("exec-step", "--step", "shops", n=1) == 2
    assert "was altered" in containers.said
