"""What penstock says to a Kubeflow server, through the real SDK. The server is a stub: see engines/kubeflow_stub.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import kubeflow_stub
from engines.kubeflow_stub import Stub
from engines.places import clean_environment, python
from penstock.backends.kubeflow import KubeflowBackend
from penstock.core.canonical import digest_bytes
from penstock.core.errors import BackendError, ConfigError
from penstock.graph import Cron, Graph, Node, Param, Parameter
from penstock.ports.backend import Blueprint, EngineRun, Places
from penstock.ports.records import RunState

BACKEND = KubeflowBackend()
DEPTH = (Parameter("depth", "int", "3"), Parameter("limit", "int | None", "null"))


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with kubeflow_stub.server() as stub:
        yield stub


@pytest.fixture
def places(tmp_path: Path) -> Places:
    environment = {**clean_environment("KFP", "KF_"), "KFP_TOKEN": "let me in"}
    return Places(python=str(python("kubeflow")), work=str(tmp_path), environment=environment)


def blueprint(url: str, name: str, step: str = "fit", **more: Any) -> Blueprint:
    node = Node(step, f"{name}.py:{step}", {"depth": Param("depth")})
    graph = Graph.checked(pipeline=name, target=f"{name}.py:{name}", nodes=(node,), parameters=DEPTH, **more)
    return Blueprint(
        graph=graph, name=name, digest=digest_bytes(graph.to_json()), manifest="s3://lake/m.json", root="/p",
        python="python", runs="postgresql://db/p", artifacts="s3://lake", home="/p/.penstock", image="i:1",
        endpoint=url,
    )  # fmt: skip


def deploy(plan: Blueprint, places: Places) -> str:
    return BACKEND.deploy(BACKEND.compile(plan), plan, places)


def test_a_pipeline_is_uploaded_once_and_every_change_is_a_version(stub: Stub, places: Places) -> None:
    plan = blueprint(stub.url, "churn")
    told = deploy(plan, places)
    deploy(plan, places)
    (pipeline,) = [each for each in stub.pipelines if each["display_name"] == "churn"]
    assert f"{stub.url}/#/pipelines/details/{pipeline['pipeline_id']}" in told
    changed = blueprint(stub.url, "churn", step="fit_better")
    deploy(changed, places)
    assert [each["display_name"] for each in stub.versions] == [plan.digest[:12], changed.digest[:12]]
    assert "exec-fit-better" in stub.versions[-1]["text"]
    assert stub.tokens == {"Bearer let me in"}


def test_a_run_is_started_once_with_its_parameters(stub: Stub, places: Places) -> None:
    plan = blueprint(stub.url, "started")
    deploy(plan, places)
    first = BACKEND.submit(plan, places, "started-1", "started-1", {"depth": 5, "limit": None})
    again = BACKEND.submit(plan, places, "started-1", "started-1", {"depth": 5, "limit": None})
    assert first == again
    (run,) = [each for each in stub.runs if each["display_name"] == "started-1"]
    assert first.id == run["run_id"]
    assert run["runtime_config"]["parameters"] == {"depth": 5, "limit": "null", "penstock_run": "started-1"}
    version = next(each for each in stub.versions if each["display_name"] == plan.digest[:12])
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]


def test_a_run_is_asked_for_by_its_id_or_by_the_name_that_we_gave_it(stub: Stub, places: Places) -> None:
    plan = blueprint(stub.url, "asked")
    deploy(plan, places)
    run = BACKEND.submit(plan, places, "asked-1", "asked-1", {})
    kept = next(each for each in stub.runs if each["run_id"] == run.id)
    for told, state in (("RUNNING", RunState.RUNNING), ("SUCCEEDED", RunState.SUCCEEDED), ("FAILED", RunState.FAILED)):
        kept["state"] = told
        assert BACKEND.state(plan, places, run).state is state
        assert BACKEND.state(plan, places, EngineRun("asked-1")).state is state
    kept["error"] = {"message": "the image cannot be pulled"}
    assert BACKEND.state(plan, places, run).note == "the image cannot be pulled"
    BACKEND.cancel(plan, places, EngineRun("asked-1"))
    BACKEND.cancel(plan, places, EngineRun(run.id))  # as Kubeflow calls a run that its own schedule has started
    assert stub.terminated == [run.id, run.id]


def test_a_run_that_it_does_not_know_is_told_as_such_and_not_as_running(stub: Stub, places: Places) -> None:
    plan = blueprint(stub.url, "unknown")
    for name in ("unknown-1", "00000000-0000-4000-8000-000000000000"):
        told = BACKEND.state(plan, places, EngineRun(name))
        assert told.state is RunState.INTERRUPTED
        assert name in told.note
        BACKEND.cancel(plan, places, EngineRun(name))  # there is nothing to stop


def test_a_schedule_is_one_recurring_run_and_goes_with_the_schedule(stub: Stub, places: Places) -> None:
    cron = Cron("30 3 * * 1", catch_up=True, start="2026-12-01T00:00:00Z")
    deploy(blueprint(stub.url, "nightly", schedule=cron), places)
    deploy(blueprint(stub.url, "nightly", step="other", schedule=cron, max_active_runs=4), places)
    (recurring,) = [each for each in stub.recurring if each["display_name"] == "nightly"]
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 30 3 * * 1"  # seconds first
    assert recurring["trigger"]["cron_schedule"]["start_time"].startswith("2026-12-01T00:00:00")
    assert recurring["max_concurrency"] in (4, "4")
    assert not recurring.get("no_catchup")
    assert recurring["runtime_config"]["parameters"] == {
        "penstock_logical_time": "[[ScheduledTime.2006-01-02T15:04:05Z]]"
    }
    deploy(blueprint(stub.url, "nightly", step="other"), places)
    assert [each for each in stub.recurring if each["display_name"] == "nightly"] == []


def test_what_the_server_refuses_is_told_in_its_words(stub: Stub, places: Places) -> None:
    stub.refuses = "you may not"
    try:
        with pytest.raises(BackendError, match="you may not"):
            deploy(blueprint(stub.url, "refused"), places)
    finally:
        stub.refuses = ""


def test_a_server_that_is_away_is_told_with_what_to_check(places: Places) -> None:
    plan = blueprint("http://127.0.0.1:1", "away")
    with pytest.raises(BackendError, match="cannot be reached") as away:
        deploy(plan, places)
    assert "KFP_TOKEN" in str(away.value)
    with pytest.raises(BackendError, match="does not answer"):
        BACKEND.state(plan, places, EngineRun("away-1"))


def test_another_version_of_the_sdk_is_refused(stub: Stub, places: Places, tmp_path: Path) -> None:
    for module, text in (("kfp", '__version__ = "1.8.22"'), ("kfp_server_api", ""), ("urllib3", "")):
        (tmp_path / f"{module}.py").write_text(text)
    old = Places(
        python=places.python, work=places.work, environment={**places.environment, "PYTHONPATH": str(tmp_path)}
    )
    with pytest.raises(BackendError, match=r"kfp 1\.8\.22") as wrong:
        deploy(blueprint(stub.url, "old"), old)
    assert "kfp>=2.17" in str(wrong.value)


@pytest.mark.parametrize(
    ("interpreter", "error", "words"),
    [(f"{os.devnull}/python", ConfigError, "engine_python"), ("/usr/bin/env", BackendError, "SDK")],
)
def test_an_interpreter_without_the_sdk_or_that_is_not_there_is_told(
    stub: Stub, places: Places, interpreter: str, error: type[Exception], words: str
) -> None:
    other = Places(python=interpreter, work=places.work, environment=places.environment)
    with pytest.raises(error, match=words):
        deploy(blueprint(stub.url, "none"), other)
