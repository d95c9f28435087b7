"""Deployments on a real Prefect: made by `penstock deploy`, run by whoever is meant to, and refused with the fix."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engines.places import free_port
from engines.prefect import Prefect
from penstock.backends.prefect.api import Api

from .prefect_lab import Lab

pytestmark = pytest.mark.long

NIGHTLY = """
from penstock import Cron, Static, pipeline, step

@step
def double(x: int, by: int) -> int: return by * x

@pipeline(schedule=Cron("0 3 * * *", tz="Europe/Paris"), tags={"team": "growth"}, max_active_runs=1)
def NAME(x: int = 4, by: Static[int] = 2) -> int: return double(x, by)
"""


@pytest.fixture
def lab(prefect_server: Prefect, tmp_path: Path) -> Lab:
    return Lab(prefect_server, tmp_path)


@pytest.fixture
def worker(lab: Lab) -> Iterator[None]:
    lab.penstock("deploy", str(lab.write("first.py", NIGHTLY.replace("NAME", "first"))), "--on", "prefect")
    lab.start_worker(f"worker-{lab.folder.name}")
    try:
        yield
    finally:
        lab.server.processes.stop_one(f"worker-{lab.folder.name}")


def deployment(lab: Lab, name: str) -> dict[str, object]:
    return next(each for each in lab.server.deployments() if each["name"] == name)


def test_a_deployment_has_the_schedule_limit_tags_form_and_version_of_the_pipeline(lab: Lab) -> None:
    lab.write("nightly.py", NIGHTLY.replace("NAME", "nightly"))
    told = json.loads(lab.penstock("deploy", "nightly.py", "--on", "prefect", "--json").stdout)
    found = deployment(lab, "nightly")
    (schedule,) = found["schedules"]  # type: ignore[misc]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 3 * * *", "Europe/Paris")
    assert schedule["active"] is True
    assert found["tags"] == ["team=growth"]
    assert found["global_concurrency_limit"]["limit"] == 1  # type: ignore[index]
    assert found["concurrency_options"] == {"collision_strategy": "ENQUEUE", "grace_period_seconds": None}
    assert found["version"] == told["digest"][:12]
    assert found["parameter_openapi_schema"]["properties"]["x"]["default"] == 4  # type: ignore[index]
    assert found["work_pool_name"] == "penstock"


def test_what_somebody_has_paused_stays_so_when_it_is_deployed_again(lab: Lab) -> None:
    lab.write("paused.py", NIGHTLY.replace("NAME", "paused"))
    lab.penstock("deploy", "paused.py", "--on", "prefect")
    before = deployment(lab, "paused")
    (schedule,) = before["schedules"]  # type: ignore[misc]
    lab.server.ask("PATCH", f"deployments/{before['id']}/schedules/{schedule['id']}", {"active": False})
    lab.server.ask("POST", f"deployments/{before['id']}/pause_deployment")
    lab.penstock("deploy", "paused.py", "--on", "prefect")
    after = deployment(lab, "paused")
    assert after["id"] == before["id"]
    assert after["paused"] is True
    assert [each["active"] for each in after["schedules"]] == [False]  # type: ignore[attr-defined]
    said = lab.penstock("run", "paused.py", "--on", "prefect", fails=True).stderr
    assert "paused" in said


def test_two_deployments_at_once_leave_one_of_them_whole(lab: Lab) -> None:
    lab.write("one.py", NIGHTLY.replace("NAME", "twice"))
    lab.write("two.py", NIGHTLY.replace("NAME", "twice").replace("0 3", "0 4"))
    both = [lab.start("deploy", file, "--on", "prefect") for file in ("one.py", "two.py")]
    told = [each.communicate(timeout=120)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    found = deployment(lab, "twice")
    (schedule,) = found["schedules"]  # type: ignore[misc]
    (step,) = found["pull_steps"]  # type: ignore[misc]
    folder = Path(step["prefect.deployments.steps.set_working_directory"]["directory"])
    assert schedule["schedule"]["cron"] in (folder / "twice_flow.py").read_text()


@pytest.mark.usefixtures("worker")
def test_a_run_that_penstock_starts_has_its_id_there_and_its_end_here(lab: Lab) -> None:
    lab.write("told.py", NIGHTLY.replace("NAME", "told"))
    done = lab.penstock("run", "told.py", "--on", "prefect", "--x", "21")
    flow_run = lab.server.wait_for_flow_run(lab.newest("told")["id"])
    assert flow_run["state_type"] == "COMPLETED"
    assert flow_run["parameters"] == {"x": 21}
    assert lab.output(flow_run["name"], "double") == 42
    assert flow_run["name"] in done.stdout + done.stderr


@pytest.mark.usefixtures("worker")
def test_a_run_keeps_what_it_began_with_when_it_is_deployed_anew(lab: Lab) -> None:
    source = """
import time
from pathlib import Path
from penstock import pipeline, step

@step
def wait() -> int:
    Path("begun").touch()
    while not Path("go").exists(): time.sleep(0.05)
    return 1

@step
def old(x: int) -> int: return x + 1

@step
def new(x: int) -> int: return x + 100

@pipeline
def changed() -> int: return old(wait())
"""
    lab.write("changed.py", source)
    lab.penstock("deploy", "changed.py", "--on", "prefect")
    flow_run = lab.server.create_flow_run(str(deployment(lab, "changed")["id"]))
    lab.server.processes.wait_until("it has begun", lambda: (lab.folder / "begun").exists(), timeout=60)
    lab.write("changed.py", source.replace("return old(wait())", "return new(wait())"))
    lab.penstock("deploy", "changed.py", "--on", "prefect")
    lab.write("go", "")
    assert lab.server.wait_for_flow_run(flow_run)["state_type"] == "COMPLETED"
    assert set(lab.states(flow_run)) == {"wait", "old"}
    assert lab.output(lab.newest("changed")["name"], "old") == 2


@pytest.mark.usefixtures("worker")
def test_cancelling_stops_the_step_that_runs_on_both_sides(lab: Lab) -> None:
    lab.write(
        "long.py",
        """
import time
from pathlib import Path
from penstock import pipeline, step

@step
def sleep() -> None:
    Path("begun").touch()
    time.sleep(600)

@pipeline
def long() -> None: sleep()
""",
    )
    following = lab.start("run", "long.py", "--on", "prefect")
    lab.server.processes.wait_until("it has begun", lambda: (lab.folder / "begun").exists(), timeout=60)
    lab.penstock("cancel", lab.newest("long")["name"])
    assert lab.server.wait_for_flow_run(lab.newest("long")["id"])["state_type"] in ("CANCELLED", "CRASHED")
    following.communicate(timeout=60)
    assert following.returncode != 0
    assert lab.shown(lab.newest("long")["name"])["state"] == "cancelled"


@pytest.mark.usefixtures("worker")
def test_a_run_whose_flow_is_killed_is_over_on_both_sides_and_goes_on_there(lab: Lab) -> None:
    lab.write(
        "struck.py",
        """
import os, time
from pathlib import Path
from penstock import pipeline, step

@step
def one() -> int: return 1

@step
def slow(x: int) -> int:
    Path("pids").write_text(f"{os.getpid()} {os.getppid()}")
    while not Path("go").exists(): time.sleep(0.05)
    return x + 1

@pipeline
def struck() -> int: return slow(one())
""",
    )
    following = lab.start("run", "struck.py", "--on", "prefect")
    pids = lab.folder / "pids"
    lab.server.processes.wait_until("the step runs", lambda: pids.exists() and pids.read_text(), timeout=90)
    attempt, worker = (int(each) for each in pids.read_text().split())
    flow = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])  # its parent
    os.kill(flow, signal.SIGKILL)
    lab.server.processes.wait_until("its worker is gone", lambda: not Path(f"/proc/{attempt}").exists(), timeout=15)
    run = lab.newest("struck")
    assert lab.server.wait_for_flow_run(run["id"])["state_type"] == "CRASHED"
    told, _ = following.communicate(timeout=90)
    assert following.returncode != 0, told
    assert lab.shown(run["name"])["state"] in ("failed", "interrupted")
    lab.write("go", "")
    lab.penstock("resume", run["name"], "--on", "prefect")
    assert lab.output(run["name"], "slow") == 2
    again = lab.server.wait_for_flow_run(lab.newest("struck")["id"])
    assert (again["state_type"], again["name"]) == ("COMPLETED", run["name"])


@pytest.mark.usefixtures("worker")
def test_a_scheduled_run_that_was_missed_is_not_caught_up_with(lab: Lab) -> None:
    lab.write("late.py", NIGHTLY.replace("NAME", "late").replace("0 3 * * *", "* * * * *"))
    lab.penstock("deploy", "late.py", "--on", "prefect")
    now = datetime.now(UTC)
    span = {"start_time": (now - timedelta(minutes=3)).isoformat(), "end_time": now.isoformat()}
    lab.server.ask("POST", f"deployments/{deployment(lab, 'late')['id']}/schedule", span)
    runs = [run for run in lab.server.flow_runs("late") if run["expected_start_time"] < now.isoformat()]
    assert len(runs) >= 3
    ended = [
        lab.server.wait_for_flow_run(run["id"]) for run in sorted(runs, key=lambda run: run["expected_start_time"])
    ]
    names = [run["state"]["name"] for run in ended]
    assert names[:-1] == ["Missed"] * (len(names) - 1)
    lab.server.ask("DELETE", f"deployments/{deployment(lab, 'late')['id']}")


@pytest.mark.usefixtures("worker")
def test_a_pipeline_starts_when_all_data_that_it_waits_for_was_updated(lab: Lab) -> None:
    lab.write(
        "writers.py",
        """
from penstock import pipeline, step

@step(updates="file:///shop/orders", cache=False)
def orders() -> int: return 1

@step(updates="file:///shop/prices", cache=False)
def prices() -> int: return 2

@pipeline
def write_orders() -> int: return orders()

@pipeline
def write_prices() -> int: return prices()
""",
    )
    lab.write(
        "reader.py",
        """
from penstock import OnData, pipeline, step

@step(cache=False)
def read() -> int: return 3

@pipeline(schedule=OnData("file:///shop/orders", "file:///shop/prices"))
def reader() -> int: return read()
""",
    )
    lab.penstock("deploy", "reader.py", "--on", "prefect")
    lab.penstock("run", "writers.py:write_orders", "--on", "prefect")
    assert lab.server.flow_runs("reader") == []
    lab.penstock("run", "writers.py:write_prices", "--on", "prefect")
    (run,) = lab.server.wait_for_flow_runs("reader", 1)
    assert lab.server.wait_for_flow_run(run["id"])["state_type"] == "COMPLETED"
    lab.write("reader.py", (lab.folder / "reader.py").read_text().replace("(schedule=", "  # (schedule="))
    lab.penstock("deploy", "reader.py", "--on", "prefect")
    assert [x for x in lab.server.ask("POST", "automations/filter", {}) if "reader" in x["name"]] == []


def test_a_served_flow_takes_runs_without_a_work_pool(lab: Lab) -> None:
    lab.write("penstock.toml", '[profiles.served]\nbackend = "prefect"\nform = "serve"\n')
    lab.write("served.py", NIGHTLY.replace("NAME", "served"))
    told = lab.penstock("deploy", "served.py", "--profile", "served").stdout
    assert "served_flow.py serve" in told
    said = lab.penstock("run", "served.py", "--profile", "served", fails=True).stderr
    assert "nobody serves served" in said
    flow = next((lab.folder / ".penstock").rglob("served_flow.py"))
    lab.server.start("serving-ours", [lab.server.python, flow, "serve"], environment=lab.environment)
    try:
        lab.server.processes.wait_until(
            "it is served", lambda: deployment(lab, "served")["status"] == "READY", timeout=60
        )
        lab.penstock("run", "served.py", "--profile", "served", "--x", "5")
        assert lab.output(lab.newest("served")["name"], "double") == 10
    finally:
        lab.server.processes.stop_one("serving-ours")


def test_without_anybody_who_would_run_it_nothing_is_started(lab: Lab) -> None:
    lab.write("alone.py", NIGHTLY.replace("NAME", "alone"))
    pool = {"PENSTOCK_PREFECT_POOL": "nobodys"}
    said = lab.penstock("run", "alone.py", "--on", "prefect", fails=True, more=pool).stderr
    assert "no worker polls the work pool 'nobodys'" in said
    assert "prefect worker start --pool nobodys" in said
    assert lab.started("alone") == []


def test_a_pool_of_the_settings_is_a_limit_there_unless_somebody_has_set_one(lab: Lab) -> None:
    lab.write("penstock.toml", "[pools]\ntills = 3\n")
    lab.write("limited.py", NIGHTLY.replace("NAME", "limited").replace("@step", '@step(pool="tills")'))
    lab.penstock("deploy", "limited.py", "--on", "prefect")
    assert lab.server.ask("GET", "v2/concurrency_limits/tag:tills")["limit"] == 3
    lab.server.ask("PATCH", "v2/concurrency_limits/tag:tills", {"limit": 1})
    told = lab.penstock("deploy", "limited.py", "--on", "prefect").stdout
    assert "pool tills: 1 places there, 3 in the settings" in told
    assert lab.server.ask("GET", "v2/concurrency_limits/tag:tills")["limit"] == 1
    lab.server.ask("DELETE", "v2/concurrency_limits/tag:tills")


def test_a_work_pool_of_containers_is_refused(lab: Lab) -> None:
    lab.server.ask("POST", "work_pools/", {"name": "boxes", "type": "docker"})
    lab.write("plain.py", NIGHTLY.replace("NAME", "plain"))
    said = lab.penstock(
        "deploy", "plain.py", "--on", "prefect", fails=True, more={"PENSTOCK_PREFECT_POOL": "boxes"}
    ).stderr
    assert "starts a docker" in said


class _Elderly(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'"2.20.14"')

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server_that_is_away_or_of_another_version_is_named_with_the_fix(lab: Lab) -> None:
    lab.write("lost.py", NIGHTLY.replace("NAME", "lost"))
    away = f"http://127.0.0.1:{free_port()}/api"
    said = lab.penstock("deploy", "lost.py", "--on", "prefect", fails=True, more={"PREFECT_API_URL": away}).stderr
    assert away in said
    assert "prefect server start" in said
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elderly) as old:
        threading.Thread(target=old.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{old.server_port}/api"
        said = lab.penstock("deploy", "lost.py", "--on", "prefect", fails=True, more={"PREFECT_API_URL": url}).stderr
        old.shutdown()
    assert "Prefect 2.20.14" in said
    assert Api(lab.server.url, {}).ui == lab.server.url
    no_api = {"PREFECT_API_URL": lab.server.url}
    said = lab.penstock("deploy", "lost.py", "--on", "prefect", fails=True, more=no_api).stderr
    assert "/api" in said
