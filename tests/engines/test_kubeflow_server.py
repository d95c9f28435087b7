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


def recurring(stub: Stub, name: str) -> list[dict[str, Any]]:
    return [each for each in stub.recurring if each["display_name"] == name]


def disable(stub: Stub, name: str) -> None:
    """What an operator does in Kubeflow's UI."""
    (found,) = recurring(stub, name)
    stub.answer("POST", f"/recurringruns/{found['recurring_run_id']}:disable", {}, None)


def test_a_recurring_run_that_is_what_is_wanted_is_kept(stub: Stub, places: Places) -> None:
    cron = Cron("0 3 * * *", catch_up=True, start="2026-01-01")
    plan = blueprint(stub.url, "kept", schedule=cron)
    deploy(plan, places)
    first = recurring(stub, "kept")
    deploy(plan, places)
    assert recurring(stub, "kept") == first
    deploy(blueprint(stub.url, "kept", schedule=cron, step="other"), places)
    second = recurring(stub, "kept")
    assert second[0]["recurring_run_id"] != first[0]["recurring_run_id"]
    deploy(blueprint(stub.url, "kept", schedule=cron, step="other"), places)
    assert recurring(stub, "kept") == second  # although it starts later than asked


@pytest.mark.parametrize(
    "more",
    [
        {"schedule": Cron("0 4 * * *")},
        {"schedule": Cron("0 3 * * *", start="2999-01-01")},
        {"schedule": Cron("0 3 * * *", catch_up=True)},
        {"schedule": Cron("0 3 * * *"), "max_active_runs": 2},
    ],
    ids=["cron", "start", "catch_up", "max_active_runs"],
)
def test_a_recurring_run_that_is_not_what_is_wanted_is_replaced(
    stub: Stub, places: Places, more: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = f"replaced-{request.node.callspec.id.replace('_', '-')}"
    deploy(blueprint(stub.url, name, schedule=Cron("0 3 * * *")), places)
    (before,) = recurring(stub, name)
    deploy(blueprint(stub.url, name, **more), places)
    (after,) = recurring(stub, name)
    assert after["recurring_run_id"] != before["recurring_run_id"]
    assert after["status"] == "ENABLED"
    assert stub.most_enabled[name] == 1


@pytest.mark.parametrize("field", ["cron", "version", "end_time", "max_concurrency", "no_catchup"])
def test_a_recurring_run_that_the_server_has_otherwise_is_replaced(stub: Stub, places: Places, field: str) -> None:
    name = f"altered-{field.replace('_', '-')}"
    plan = blueprint(stub.url, name, schedule=Cron("0 3 * * *"))
    deploy(plan, places)
    (before,) = recurring(stub, name)
    if field == "version":
        before["pipeline_version_reference"]["pipeline_version_id"] = "another"
    elif field in ("cron", "end_time"):
        before["trigger"]["cron_schedule"][field] = {"cron": "0 0 9 * * *", "end_time": "2999-01-01T00:00:00Z"}[field]
    else:
        before[field] = {"max_concurrency": "3", "no_catchup": False}[field]
    deploy(plan, places)
    (after,) = recurring(stub, name)
    assert after["recurring_run_id"] != before["recurring_run_id"]


def test_what_a_recurring_run_has_caught_up_on_is_not_caught_up_on_again(stub: Stub, places: Places) -> None:
    def start(**more: Any) -> Any:
        deploy(blueprint(stub.url, "caught-up", **more), places)
        (found,) = recurring(stub, "caught-up")
        return found["trigger"]["cron_schedule"].get("start_time")

    past, future = "2026-01-01", "2999-01-01"
    assert start(schedule=Cron("0 3 * * *", catch_up=True, start=future)) == "2999-01-01T00:00:00Z"
    assert start(schedule=Cron("0 3 * * *", catch_up=True, start=past)) == "2026-01-01T00:00:00Z"  # none has begun
    assert start(schedule=Cron("0 3 * * *", catch_up=True, start=past), step="other") is None  # Kubeflow: from now on
    assert start(schedule=Cron("0 3 * * *", catch_up=True, start=future)) == "2999-01-01T00:00:00Z"


def test_without_catching_up_a_start_that_is_over_is_no_start(stub: Stub, places: Places) -> None:
    """Of times that are over, Kubeflow would run the last."""
    deploy(blueprint(stub.url, "not-caught-up", schedule=Cron("0 3 * * *", start="2026-01-01")), places)
    (found,) = recurring(stub, "not-caught-up")
    assert "start_time" not in found["trigger"]["cron_schedule"]


def test_a_recurring_run_that_an_operator_has_disabled_stays_so(stub: Stub, places: Places) -> None:
    cron = Cron("0 3 * * *")
    assert "disabled" not in deploy(blueprint(stub.url, "paused", schedule=cron), places)
    deploy(blueprint(stub.url, "paused", schedule=cron, step="second"), places)  # one that took over from another
    disable(stub, "paused")
    for step in ("second", "third", "fourth"):
        told = deploy(blueprint(stub.url, "paused", schedule=cron, step=step), places)
        (found,) = recurring(stub, "paused")
        assert found["status"] == "DISABLED"
        assert "disabled there" in told


@pytest.mark.parametrize("is_disabled", [False, True], ids=["enabled", "disabled"])
@pytest.mark.parametrize("breaks", ["POST recurringruns", ":disable", ":enable", "DELETE recurringruns"])
def test_a_deployment_that_breaks_off_is_finished_by_the_next_one_and_two_are_never_enabled(
    stub: Stub, places: Places, breaks: str, is_disabled: bool
) -> None:
    name = f"broken-{breaks.strip(':').lower().replace(' ', '-')}-{is_disabled}".lower()
    cron = Cron("0 3 * * *", catch_up=True, start="2026-01-01")
    deploy(blueprint(stub.url, name, schedule=cron), places)
    deploy(blueprint(stub.url, name, schedule=cron, step="second"), places)
    if is_disabled:
        disable(stub, name)
    stub.breaks = breaks
    try:
        changed = blueprint(stub.url, name, schedule=cron, step="third")
        if is_disabled and breaks.startswith(":"):
            deploy(changed, places)  # it switches nothing
        else:
            with pytest.raises(BackendError, match="told to break"):
                deploy(changed, places)
    finally:
        stub.breaks = ""
    deploy(changed, places)
    (found,) = recurring(stub, name)
    version = next(each for each in stub.versions if each["display_name"] == changed.digest[:12])
    assert found["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert found["status"] == ("DISABLED" if is_disabled else "ENABLED")
    assert "start_time" not in found["trigger"]["cron_schedule"]
    assert stub.most_enabled[name] == 1


def test_no_limit_of_runs_is_as_many_as_kubeflow_allows(stub: Stub, places: Places) -> None:
    deploy(blueprint(stub.url, "unlimited", schedule=Cron("0 3 * * *")), places)
    (found,) = recurring(stub, "unlimited")
    assert int(found["max_concurrency"]) == 10
    deploy(blueprint(stub.url, "unlimited", schedule=Cron("0 3 * * *"), max_active_runs=1), places)
    (found,) = recurring(stub, "unlimited")
    assert int(found["max_concurrency"]) == 1


def test_sunday_is_0_and_a_start_is_rfc_3339(stub: Stub, places: Places) -> None:
    cron = Cron("0 3 * * 5-7", catch_up=True, start="2026-01-01")
    deploy(blueprint(stub.url, "sundays", schedule=cron), places)
    (found,) = recurring(stub, "sundays")
    assert found["trigger"]["cron_schedule"] == {"cron": "0 0 3 * * 5-6,0", "start_time": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("cron", "start", "words"),
    [
        ("0 0 3 * * 7", "2026-01-01T00:00:00Z", "above maximum"),
        ("0 0 3 * * 5-7/2", "2026-01-01T00:00:00Z", "above maximum"),
        ("0 0 3 * * 1", "2026-01-01", "no RFC 3339"),
    ],
)
def test_the_stub_refuses_what_kubeflow_refuses(stub: Stub, cron: str, start: str, words: str) -> None:
    asked = {"max_concurrency": 1, "trigger": {"cron_schedule": {"cron": cron, "start_time": start}}}
    with pytest.raises(ValueError, match=words):
        stub.answer("POST", "/recurringruns", {}, asked)


def test_deployments_whose_names_differ_in_what_kubeflow_does_not_take_stay_apart(stub: Stub, places: Places) -> None:
    names = ("daily_sales", "daily-sales", "Daily-Sales", *("d" * 70 + end for end in "ab"))
    for name in names:
        deploy(blueprint(stub.url, name, schedule=Cron("0 3 * * *")), places)
    found = [each["display_name"] for each in stub.pipelines if each["display_name"].startswith(("daily", "dd"))]
    assert len(set(found)) == len(names)
    assert "daily-sales" in found
    assert [len(recurring(stub, name)) for name in found] == [1] * len(names)


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
