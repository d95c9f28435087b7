"""What is compiled for Kubeflow is what its own protobufs, its SDK and its Kubernetes extension read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engines.places import CHECKOUT, python
from penstock.authoring.identity import load_file
from penstock.authoring.pipeline import Pipeline
from penstock.backends.kubeflow import KubeflowBackend
from penstock.core.canonical import digest_bytes
from penstock.core.errors import PenstockError
from penstock.graph import Graph, Node, RetryPolicy, StepOptions
from penstock.ports.backend import Blueprint

EXAMPLES = [*sorted(CHECKOUT.glob("examples/**/pipeline.py"))]
CASES = sorted((CHECKOUT / "src/penstock/testing/conformance/cases").glob("*.py"))

# Run by the interpreter that has the SDK.
READER = """
import json, sys
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.client.client import _extract_pipeline_yaml
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
from kfp.pipeline_spec import pipeline_spec_pb2 as spec
from kfp.local import utils

for path in sys.argv[1:]:
    documents = list(yaml.safe_load_all(open(path)))
    read = json_format.ParseDict(documents[0], spec.PipelineSpec())
    for name, executor in read.deployment_spec["executors"].items():
        assert utils.struct_to_executor_spec(executor).container.image, name
    for component in read.components.values():
        assert component.WhichOneof("implementation")
    if len(documents) > 1:
        platform = json_format.ParseDict(documents[1], spec.PlatformSpec())
        for label, told in documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
            json_format.ParseDict(told, kubernetes.KubernetesExecutorConfig())
            assert label in read.deployment_spec["executors"]
    loaded = components.load_component_from_file(path)
    _extract_pipeline_yaml(path)  # what the client reads before it uploads
    print(json.dumps({"file": path, "name": loaded.name, "inputs": sorted(loaded.component_spec.inputs or {})}))
"""


def blueprint(graph: Graph) -> Blueprint:
    graph = Graph.from_json(graph.to_json())
    return Blueprint(
        graph=graph, name=graph.pipeline, digest=digest_bytes(graph.to_json()), manifest="s3://lake/m.json", root="/p",
        python="python", runs="postgresql://db/p", artifacts="s3://lake", home="/p/.penstock", image="i:1", version="1",
        endpoint="local",
    )  # fmt: skip


def pipelines(file: Path) -> list[Graph]:
    found = []
    for value in vars(load_file(str(file))).values():
        if isinstance(value, Pipeline):
            try:
                found.append(value.trace().graph)
            except PenstockError:
                continue  # it needs a value for a Static parameter, or is not meant to be built
    return found


# The delays that kfp.local itself keeps between attempts of the step `fit`, each of which fails.
DELAYS = """
import json, sys, types
from kfp import components, local
from kfp.local import io, status, task_dispatcher
from kfp.local.orchestrator import task_executor

waited = []
task_executor.time = types.SimpleNamespace(sleep=waited.append)
task_dispatcher.run_single_task_implementation = lambda **more: ({}, status.Status.FAILURE)
local.init(runner=local.DockerRunner(), pipeline_root=sys.argv[1])
for path in sys.argv[2:]:
    spec = components.load_component_from_file(path).pipeline_spec
    task = spec.components["comp-steps"].dag.tasks["fit"]
    task.inputs.Clear()
    executors = {"exec-fit": local.utils.struct_to_executor_spec(spec.deployment_spec["executors"]["exec-fit"])}
    waited.clear()
    task_executor.execute_single_task(
        "fit", task, "p", dict(spec.components), executors, io.IOStore(), sys.argv[1], local.DockerRunner(), "1", []
    )
    print(json.dumps(waited))
"""


def test_there_are_pipelines_to_read() -> None:
    assert len(EXAMPLES) >= 2
    assert len(CASES) > 80


@pytest.mark.parametrize("files", [EXAMPLES, CASES], ids=["examples", "cases"])
def test_it_is_read_by_kubeflow(files: list[Path], tmp_path: Path) -> None:
    written = {}
    for file in files:
        for graph in pipelines(file):
            bundle = KubeflowBackend().compile(blueprint(graph))
            path = tmp_path / f"{file.parent.name}-{file.stem}-{bundle.entry}"
            path.write_text(bundle.files[bundle.entry], encoding="utf-8")
            written[str(path)] = graph
    done = subprocess.run(
        [python("kubeflow"), "-c", READER, *written], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    read = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {each["file"] for each in read} == set(written)
    for each in read:
        graph = written[each["file"]]
        given = {one.name for one in graph.parameters if not one.static and not one.secret}
        own = {"penstock_run", "penstock_logical_time"}
        assert set(each["inputs"]) - own == given


@pytest.mark.parametrize(("jitter", "expected"), [("none", [4, 8]), ("equal", [2, 4]), ("full", [0, 0])])
def test_kfp_local_waits_no_longer_than_the_policy_may_draw(jitter: Any, expected: list[float], tmp_path: Path) -> None:
    retry = RetryPolicy(attempts=3, base_s=4, cap_s=10, jitter=jitter)
    graph = Graph.checked(
        pipeline="waits", target="w.py:waits", nodes=(Node("fit", "w.py:fit", options=StepOptions(retry=retry)),)
    )
    bundle = KubeflowBackend().compile(blueprint(graph))
    path = tmp_path / bundle.entry
    path.write_text(bundle.files[bundle.entry], encoding="utf-8")
    done = subprocess.run(
        [python("kubeflow"), "-c", DELAYS, str(tmp_path / "outputs"), str(path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == expected
