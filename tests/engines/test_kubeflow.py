"""A compiled Kubeflow pipeline runs under kfp.local: a container per step, with retries and true states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.kubeflow import Kubeflow
from engines.places import EngineError
from engines.podman import BASE_IMAGES

STEP = """
import json, os, sys
asked = json.loads(sys.argv[1])
values = asked["inputs"]["parameterValues"]
print("asked for", values["value"], os.environ.get("COLOUR"))
if os.environ.get("SLEEP"):
    import time
    time.sleep(600)
if values["value"] < 0:
    sys.exit("negative")
artifact = asked["outputs"]["artifacts"]["report"]["artifacts"][0]
os.makedirs(os.path.dirname(artifact["uri"]), exist_ok=True)
open(artifact["uri"], "w").write("a report")
told = {
    "parameterValues": {"doubled": values["value"] * 2},
    "artifacts": {"report": {"artifacts": [{**artifact, "metadata": {"rows": 3}}]}},
}
file = asked["outputs"]["outputFile"]
os.makedirs(os.path.dirname(file), exist_ok=True)
open(file, "w").write(json.dumps(told))
"""


def pipeline(folder: Path, *, retries: int = 0) -> Path:
    """Intermediate representation as a compiler writes it, with one container step. JSON is YAML too."""
    number, dataset = {"parameterType": "NUMBER_INTEGER"}, {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}
    outputs = {"parameters": {"doubled": number}, "artifacts": {"report": {"artifactType": dataset}}}
    task = {
        "cachingOptions": {},
        "componentRef": {"name": "comp-double"},
        "inputs": {"parameters": {"value": {"componentInputParameter": "value"}}},
        "taskInfo": {"name": "double"},
    }
    if retries:
        task["retryPolicy"] = {"maxRetryCount": retries, "backoffDuration": "0s", "backoffFactor": 1.0}
    chosen = {"valueFromParameter": {"producerSubtask": "double", "outputParameterKey": "doubled"}}
    spec = {
        "pipelineInfo": {"name": "tiny"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": {
            "comp-double": {
                "executorLabel": "exec-double",
                "inputDefinitions": {"parameters": {"value": number}},
                "outputDefinitions": outputs,
            }
        },
        "deploymentSpec": {
            "executors": {
                "exec-double": {
                    "container": {"image": BASE_IMAGES[0], "command": ["python", "-c", STEP], "args": ["{{$}}"]}
                }
            }
        },
        "root": {
            "dag": {"tasks": {"double": task}, "outputs": {"parameters": {"doubled": chosen}}},
            "inputDefinitions": {"parameters": {"value": number}},
            "outputDefinitions": {"parameters": {"doubled": number}},
        },
    }
    file = folder / "tiny.yaml"
    file.write_text(json.dumps(spec, indent=1), encoding="utf-8")
    return file


def test_a_container_step_runs_and_its_outputs_can_be_read(kubeflow_runner: Kubeflow, tmp_path: Path) -> None:
    done = kubeflow_runner.run_local(pipeline(tmp_path), {"value": 21}, tmp_path, environment={"COLOUR": "green"})
    assert (done.state, done.error) == ("SUCCESS", None), done.log
    assert done.outputs == {"doubled": 42}
    (task,) = done.tasks
    assert (task.name, task.state, task.attempts) == ("double", "SUCCESS", 1)
    assert task.outputs["report"]["metadata"] == {"rows": 3}
    assert task.outputs["report"]["type"] == "system.Dataset"
    assert Path(task.outputs["report"]["uri"]).read_text(encoding="utf-8") == "a report"
    assert "asked for 21 green" in done.log
    assert kubeflow_runner.service.containers() == []


def test_a_container_that_fails_fails_the_run_after_its_last_attempt(kubeflow_runner: Kubeflow, tmp_path: Path) -> None:
    done = kubeflow_runner.run_local(pipeline(tmp_path, retries=2), {"value": -1}, tmp_path)
    assert done.state == "FAILURE"
    assert [(task.name, task.state, task.attempts) for task in done.tasks] == [("double", "FAILURE", 3)]
    assert done.log.count("asked for -1") == 3
    assert "double" in str(done.error)


def test_a_run_that_takes_too_long_is_ended_with_its_container(kubeflow_runner: Kubeflow, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="did not end within"):
        kubeflow_runner.run_local(pipeline(tmp_path), {"value": 1}, tmp_path, environment={"SLEEP": "1"}, timeout=15)
    assert kubeflow_runner.service.containers() == []


def test_an_image_that_is_not_here_is_an_error_at_once_and_no_download(
    kubeflow_runner: Kubeflow, tmp_path: Path
) -> None:
    file = pipeline(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace(BASE_IMAGES[0], "docker.io/library/nothing:1"))
    done = kubeflow_runner.run_local(file, {"value": 1}, tmp_path, timeout=60)
    assert done.state == "FAILURE"
    assert "docker.io/library/nothing:1" in str(done.error)
