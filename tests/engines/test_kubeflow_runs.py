"""Runs under kfp.local, in real containers, with PostgreSQL and an S3 server: `penstock run --on kubeflow`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import podman

from .kubeflow_lab import Lab, laboratory, run_id

DEADLINE_S = 240.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("kubeflow-lab")) as lab:
        yield lab


def wait_for(what: Callable[[], Any], reason: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := what()):
        assert time.monotonic() < deadline, reason
        time.sleep(0.2)
    return found


def told(lab: Lab, run: str) -> dict[str, Any]:
    """What kfp.local's own process says, when it is over."""

    def state() -> dict[str, Any] | None:
        found: dict[str, Any] = json.loads((lab.there(run) / "state.json").read_text())
        return found if found["state"] != "running" else None

    return dict(wait_for(state, "kfp.local did not end"))


@pytest.mark.long
def test_a_run_in_containers_is_the_run_of_the_local_engine_with_native_artifacts(lab: Lab) -> None:
    code, run, text = lab.run("rich")
    assert code == 0, text
    local = lab.call("run", "lab.py:rich", "--no-cache", "--json")
    states = lab.states(run)
    assert states == lab.states(run_id(local.stdout))
    assert told(lab, run)["state"] == "succeeded"
    outputs = lab.outputs(run)

    def artifact(task: str, name: str = "output") -> dict[str, Any]:
        (found,) = outputs[task]["artifacts"][name]["artifacts"]
        return dict(found)

    assert artifact("scores")["type"]["schemaTitle"] == "system.Metrics"
    metadata = artifact("scores")["metadata"]
    assert {name: metadata[name] for name in ("sum", "most", "metrics.seen", "state")} == {
        "sum": 5.0, "most": 4.0, "metrics.seen": 3.0, "state": "succeeded",
    }  # fmt: skip
    assert artifact("large")["uri"].startswith("s3://lake/penstock/objects/")
    assert artifact("large")["metadata"]["size_bytes"] == 20000
    assert Path(artifact("square-map-iteration-2/square")["uri"]).read_text() == "4"
    assert outputs["split"]["parameterValues"] == {"when-1": "true"}
    flaky = next(each for each in lab.show(run)["steps"] if each["step"] == "flaky")
    assert flaky["attempts"] == 3
    secret = lab.settings["LAB_TOKEN"].encode()
    written = [file for file in lab.folder.rglob("*") if file.is_file() and secret in file.read_bytes()]
    assert written == []


@pytest.mark.long
def test_what_the_local_engine_computed_is_a_hit_there_and_parameters_arrive(lab: Lab) -> None:
    lab.call("run", "lab.py:rich", "--n", "2")
    code, run, text = lab.run("rich", "--n", "2")
    assert code == 0, text
    states = lab.states(run)
    assert {name: state for name, state in states.items() if name != "told"} == {
        "numbers": "cached", "split": "cached", "square[0]": "cached", "square[1]": "cached", "scores": "cached",
        "celebrate": "skipped", "large": "cached", "size": "cached", "flaky": "cached", "report": "cached",
    }  # fmt: skip
    assert "celebrate" not in lab.outputs(run)  # Kubeflow decided the condition: no container was started


def test_a_failing_element_stops_nothing_that_still_has_to_run_and_the_run_goes_on_elsewhere(lab: Lab) -> None:
    """`total` collects the step beside the one that fails, so Kubeflow must go on after it."""
    code, run, text = lab.run("failing", "--no-cache")  # `numbers` is that of the runs above
    assert code == 1, text
    assert lab.states(run) == {
        "numbers": "succeeded", "each/picky[0]": "succeeded", "each/picky[1]": "failed", "each/picky[2]": "succeeded",
        "each/beside[0]": "succeeded", "each/beside[1]": "succeeded", "each/beside[2]": "succeeded",
        "total": "succeeded",
    }  # fmt: skip
    assert told(lab, run) | {"pid": 0, "at": 0} == {"state": "failed", "note": "", "pid": 0, "at": 0}
    done = lab.call("resume", run, "--on", "local", LAB_MENDED="1")
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = {f"{each['step']}[{each['index']}]": each["attempts"] for each in lab.show(run)["steps"]}
    assert attempts["each/picky[1]"] == 2
    assert attempts["each/picky[0]"] == attempts["each/beside[1]"] == 1


def started(lab: Lab, pipeline: str) -> tuple[subprocess.Popen[str], str]:
    """A run whose first step has begun to wait."""
    process = subprocess.Popen(
        lab.command("run", f"lab.py:{pipeline}", "--on", "kubeflow", "--no-cache", "--json"), cwd=lab.folder,
        env=lab.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    run = ""
    while not run:
        line = process.stdout.readline()
        assert line, "it ended"
        run = run_id(line)
    wait_for(lambda: "waiting" in lab.call("logs", run).stdout, "the step did not begin")
    return process, run


def test_a_container_that_is_killed_costs_an_attempt(lab: Lab) -> None:
    process, run = started(lab, "killed")
    (container,) = lab.containers(run)
    podman.run("kill", container)
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, out
    (step,) = lab.show(run)["steps"]
    assert (step["state"], step["attempts"]) == ("succeeded", 2)
    assert told(lab, run)["state"] == "succeeded"


def test_a_run_that_is_cancelled_ends_with_its_containers(lab: Lab) -> None:
    process, run = started(lab, "stopped")
    done = lab.call("cancel", run)
    assert done.returncode == 0, done.stdout + done.stderr
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert lab.show(run)["state"] == "cancelled"
    told(lab, run)
    assert lab.containers(run) == []


@pytest.mark.long
def test_when_the_process_of_the_run_dies_the_run_is_closed_with_its_last_words(lab: Lab) -> None:
    process, run = started(lab, "stopped")
    os.killpg(int((lab.there(run) / "pid").read_text()), signal.SIGKILL)
    podman.run("rm", "--force", "--time", "0", *lab.containers(run))
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode != 0
    assert "the process of kfp.local has died" in out
    assert lab.show(run)["state"] == "failed"


def test_what_a_step_has_computed_waits_for_a_run_log_that_is_away(lab: Lab) -> None:
    process, run = started(lab, "cut_off")
    lab.database.stop()
    try:
        waits = "waits for the run log to be back"
        wait_for(lambda: waits in (lab.there(run) / "log.txt").read_text(encoding="utf-8"), "the step gave up")
    finally:
        lab.database.start()
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, out
    assert told(lab, run)["state"] == "succeeded"
    assert {each["step"]: each["attempts"] for each in lab.show(run)["steps"]} == {"steady": 1, "after": 1}


@pytest.mark.long
def test_an_image_without_penstock_is_told_as_what_it_is(lab: Lab) -> None:
    code, run, text = lab.run("killed", PENSTOCK_IMAGE=podman.BASE_IMAGES[0])
    assert code != 0
    assert "No module named penstock" in text
    assert lab.show(run)["state"] == "failed"


@pytest.mark.long
def test_an_image_that_is_not_there_is_told_as_what_it_is(lab: Lab) -> None:
    code, run, text = lab.run("killed", PENSTOCK_IMAGE="localhost/nothing:1")
    assert code != 0
    assert "localhost/nothing" in text
    assert lab.show(run)["state"] == "failed"


@pytest.mark.long
def test_another_version_of_the_sdk_is_told_as_what_it_is(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "kfp").mkdir()
    (tmp_path / "kfp" / "__init__.py").write_text('__version__ = "2.3.0"\n')
    for name in ("components", "local"):
        (tmp_path / "kfp" / f"{name}.py").write_text("")
    code, _, text = lab.run("killed", PYTHONPATH=str(tmp_path))
    assert code != 0
    assert "kfp 2.3.0 is installed" in text
