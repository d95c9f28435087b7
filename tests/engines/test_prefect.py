"""The Prefect that `engines` starts is a whole one: flows, retries, logs, and runs of deployments that it hands out."""

from __future__ import annotations

from pathlib import Path

from engines.prefect import Prefect

TINY = """
import sys

from prefect import flow, task
from prefect.runtime import task_run


@task(retries=2, retry_delay_seconds=0.2)
def flaky(value: int) -> int:
    print(f"try {task_run.run_count}")
    if task_run.run_count == 1:
        raise ValueError("not yet")
    return value * 2


@flow(log_prints=True)
def NAME(value: int = 21) -> int:
    return flaky(value)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        NAME.serve(name="served")
    else:
        print("result", NAME())
"""


def written(folder: Path, name: str) -> Path:
    file = folder / "flow.py"
    file.write_text(TINY.replace("NAME", name), encoding="utf-8")
    return file


def test_a_flow_runs_to_its_end_and_its_states_tries_and_logs_can_be_read(
    prefect_server: Prefect, tmp_path: Path
) -> None:
    done = prefect_server.run([written(tmp_path, "tiny")])
    assert done.returncode == 0, done.stderr
    assert "result 42" in done.stdout
    (run,) = prefect_server.flow_runs("tiny")
    assert prefect_server.wait_for_flow_run(run["id"])["state_type"] == "COMPLETED"
    (task,) = prefect_server.task_runs(run["id"])
    assert (task["state_type"], task["run_count"]) == ("COMPLETED", 2)
    names = [each["name"] for each in prefect_server.task_run_states(task["id"])]
    assert names == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    told = [each["message"] for each in prefect_server.logs(run["id"])]
    assert "try 1" in told
    assert "try 2" in told


def test_a_run_of_a_deployment_is_made_by_the_server_and_done_by_a_process_beside_it(
    prefect_server: Prefect, tmp_path: Path
) -> None:
    prefect_server.start("serving", [prefect_server.python, written(tmp_path, "handed_out"), "serve"])
    try:
        find = "the deployment is there"
        deployment = prefect_server.processes.wait_until(
            find, lambda: next((x for x in prefect_server.deployments() if x["name"] == "served"), None), timeout=60
        )
        run = prefect_server.create_flow_run(deployment["id"], {"value": 4})
        assert prefect_server.wait_for_flow_run(run)["state_type"] == "COMPLETED"
        assert list(prefect_server.states(run).values()) == ["COMPLETED"]
    finally:
        prefect_server.processes.stop_one("serving")


def test_without_its_server_a_flow_fails_rather_than_start_one_of_its_own(
    prefect_server: Prefect, tmp_path: Path
) -> None:
    done = prefect_server.run([written(tmp_path, "alone")], environment={"PREFECT_API_URL": ""})
    assert done.returncode != 0
    assert "result" not in done.stdout
    assert "PREFECT_API_URL" in done.stderr
