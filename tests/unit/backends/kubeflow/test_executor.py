"""What a container is handed, and what it tells Kubeflow: KFP's ExecutorInput and ExecutorOutput."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.backends.kubeflow.executor import ExecutorInput
from penstock.core.errors import UsageError
from penstock.graph import Graph, Guard, Node, Output, Parameter
from penstock.ports.artifacts import ArtifactRef, Blob
from penstock.ports.records import StepRun, StepState

from .plans import graph

GATED = graph(
    Node("gate", "c.py:gate", outputs=("passed", "why"), several=True),
    Node("register", "c.py:register", {"w": Output("gate", "why")}, guards=(Guard(Output("gate", "passed")),)),
)
TABLE = ArtifactRef("ab" * 32, "pandas", 9000, (Blob("", "cd" * 32, 9000),), meta={
    "type": "DataFrame", "rows": 569, "columns": [["radius", "double"], ["label", "int64"]], "preview": [[1.0, 2]],
})  # fmt: skip


def small(text: str, **meta: Any) -> ArtifactRef:
    return ArtifactRef("ef" * 32, "json", len(text), inline=text, meta=meta)


def handed(
    folder: Path, *outputs: str, kind: str = "system.Artifact", told: tuple[str, ...] = (), **values: Any
) -> str:
    """As kfp.local hands it over: outputs are paths."""
    artifacts = {
        name: {"artifacts": [{"name": name, "type": {"schemaTitle": kind}, "uri": str(folder / "out" / name)}]}
        for name in outputs
    }
    record = {
        "inputs": {"parameterValues": values},
        "outputs": {
            "artifacts": artifacts,
            "parameters": {name: {"outputFile": str(folder / name)} for name in told},
            "outputFile": str(folder / "deep" / "executor_output.json"),
        },
    }
    return json.dumps(record)


def told(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "deep" / "executor_output.json").read_text()))


def tell(folder: Path, text: str, run: StepRun, of: Graph = GATED, store: str = "s3://lake/penstock") -> dict[str, Any]:
    found = ExecutorInput(text)
    found.artifacts_url = store
    found.tell_step(of, run)
    return told(folder)


def test_the_run_its_parameters_and_how_it_ended_stand_in_the_input(tmp_path: Path) -> None:
    status = {"state": "FAILED", "pipelineTaskName": "steps"}
    found = ExecutorInput(
        handed(
            tmp_path, depth=4.0, penstock_run="churn-1", penstock_engine_run="42", penstock_state=status,
            penstock_logical_time="2026-11-27T03:00:00Z",
        )
    )  # fmt: skip
    assert (found.run, found.engine_run, found.engine_state) == ("churn-1", "42", "failed")
    assert found.logical_time == "2026-11-27T03:00:00Z"
    assert found.parameters([Parameter("depth", "int", "3")]) == {"depth": 4}


def test_a_run_that_kubeflow_started_has_no_id_of_ours_yet(tmp_path: Path) -> None:
    found = ExecutorInput(handed(tmp_path, penstock_run="", penstock_engine_run="42"))
    assert (found.run, found.logical_time, found.engine_state) == ("", "", "succeeded")


@pytest.mark.parametrize("text", ["{{$}}", "", "[]", "{}", '{"outputs": 3}', '{"outputs": {}}'])
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match="not what Kubeflow hands") as refused:
        ExecutorInput(text)
    assert "--executor-input '{{$}}'" in str(refused.value)


def test_a_stored_artifact_is_told_by_its_place_and_by_what_people_want_to_see(tmp_path: Path) -> None:
    run = StepRun("load", "", StepState.SUCCEEDED, outputs={"output": TABLE}, metrics={"seconds": 1.5})
    answer = tell(tmp_path, handed(tmp_path, "output", kind="system.Dataset"), run)
    (artifact,) = answer["artifacts"]["output"]["artifacts"]
    assert artifact["uri"] == f"s3://lake/penstock/objects/cd/{'cd' * 31}"
    assert artifact["metadata"] == {
        "state": "succeeded", "digest": "ab" * 32, "codec": "pandas", "size_bytes": 9000, "metrics.seconds": 1.5,
        "type": "DataFrame", "rows": 569, "schema": "radius double, label int64",
    }  # fmt: skip
    assert not (tmp_path / "out").exists()  # nothing is copied


def test_a_small_value_is_written_where_kubeflow_wants_its_output(tmp_path: Path) -> None:
    run = StepRun("count", "", StepState.CACHED, outputs={"output": small("42", type="int")})
    answer = tell(tmp_path, handed(tmp_path, "output"), run)
    (artifact,) = answer["artifacts"]["output"]["artifacts"]
    assert artifact["uri"] == str(tmp_path / "out" / "output")
    assert (tmp_path / "out" / "output").read_text() == "42"
    assert artifact["metadata"]["state"] == "cached"


def test_metrics_are_numbers(tmp_path: Path) -> None:
    values = small('{"auc":0.91,"n":7,"ok":true,"worst":1e999,"name":"x"}')
    run = StepRun("score", "", StepState.SUCCEEDED, outputs={"output": values})
    answer = tell(tmp_path, handed(tmp_path, "output", kind="system.Metrics"), run)
    metadata = answer["artifacts"]["output"]["artifacts"][0]["metadata"]
    assert {name: metadata[name] for name in ("auc", "n")} == {"auc": 0.91, "n": 7}
    assert not {"ok", "worst", "name"} & set(metadata)


@pytest.mark.parametrize("state", [StepState.SKIPPED, StepState.FAILED, StepState.UPSTREAM_FAILED])
def test_a_step_without_outputs_has_empty_ones_that_say_why(tmp_path: Path, state: StepState) -> None:
    text = handed(tmp_path, "passed", "why", told=("when-1",))
    answer = tell(tmp_path, text, StepRun("gate", "", state))
    assert answer["artifacts"]["why"]["artifacts"][0]["metadata"] == {"state": state.value}
    assert (tmp_path / "out" / "why").read_bytes() == b""
    assert answer["parameterValues"] == {"when-1": "false"}


@pytest.mark.parametrize(("value", "expected"), [("true", "true"), ("false", "false"), ('"true"', "false")])
def test_conditions_are_told_as_the_launcher_decides_them(tmp_path: Path, value: str, expected: str) -> None:
    outputs = {"passed": small(value), "why": small('"because"')}
    text = handed(tmp_path, "passed", "why", told=("when-1",))
    answer = tell(tmp_path, text, StepRun("gate", "", StepState.SUCCEEDED, outputs=outputs))
    assert answer["parameterValues"] == {"when-1": expected}


def test_on_a_cluster_a_pointer_lies_where_kubeflow_uploads_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its launcher fails for a URI in a bucket that is not its own, so the place stands in the metadata."""
    monkeypatch.setattr("penstock.backends.kubeflow.executor._MOUNTS", {"minio://": f"{tmp_path}/minio/"})
    record = json.loads(handed(tmp_path, "output"))
    uri = "minio://mlpipeline/v2/artifacts/churn/load/output"
    record["outputs"]["artifacts"]["output"]["artifacts"][0]["uri"] = uri
    run = StepRun("load", "", StepState.SUCCEEDED, outputs={"output": TABLE})
    (artifact,) = tell(tmp_path, json.dumps(record), run)["artifacts"]["output"]["artifacts"]
    assert artifact["uri"] == uri
    place = f"s3://lake/penstock/objects/cd/{'cd' * 31}"
    assert artifact["metadata"]["uri"] == place
    pointer = json.loads((tmp_path / "minio/mlpipeline/v2/artifacts/churn/load/output").read_text())
    assert pointer == {"uri": place, "digest": "ab" * 32, "codec": "pandas"}


def test_metadata_stays_short_enough_for_the_command_lines_it_travels_on(tmp_path: Path) -> None:
    wide = ArtifactRef("ab" * 32, "pandas", 1, (Blob("", "cd" * 32, 1),), meta={
        "type": "DataFrame", "columns": [[f"column_{number}", "double"] for number in range(5000)],
    })  # fmt: skip
    run = StepRun("load", "", StepState.SUCCEEDED, outputs={"output": wide}, metrics={f"m{n}": 0.5 for n in range(500)})
    answer = tell(tmp_path, handed(tmp_path, "output"), run)
    assert len(json.dumps(answer["artifacts"]["output"]["artifacts"][0]["metadata"])) < 900


def test_the_elements_of_a_map_are_told_as_a_list(tmp_path: Path) -> None:
    ExecutorInput(handed(tmp_path)).tell_list(["0", "1"])
    assert told(tmp_path) == {"parameterValues": {"Output": ["0", "1"]}}
