"""The Airflow that `engines` starts is a whole one: it reads DAG files, runs tasks, keeps their logs and tries."""

from __future__ import annotations

import os
from pathlib import Path

from engines.airflow import Airflow

TINY = """
from datetime import timedelta

from airflow.sdk import dag, get_current_context, task


@dag(dag_id="{name}", schedule=None)
def made():
    @task
    def number() -> int:
        print("counting to {number}")
        return {number} + get_current_context()["dag_run"].conf.get("more", 0)

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def flaky(value: int) -> int:
        if get_current_context()["ti"].try_number == 1:
            raise ValueError("not yet")
        return value * 2

    flaky(number())


made()
"""
BROKEN = """
from datetime import datetime

from airflow.sdk import DAG

import a_module_that_is_not_there
"""


def written(server: Airflow, name: str, text: str) -> Path:
    """The file of a DAG. Never as old as the one before, to the second: Python would take that one's compiled code."""
    file = server.dags / f"{name}.py"
    before = file.stat().st_mtime if file.exists() else 0.0
    file.write_text(text, encoding="utf-8")
    if int(before) == int(file.stat().st_mtime):
        os.utime(file, (before + 1, before + 1))
    return file


def test_a_dag_runs_to_its_end_and_its_states_tries_logs_and_values_can_be_read(airflow_server: Airflow) -> None:
    written(airflow_server, "tiny", TINY.format(name="tiny", number=41))
    airflow_server.wait_for_dag("tiny")
    airflow_server.unpause("tiny")
    run = airflow_server.trigger("tiny", {"more": 1})
    assert airflow_server.wait_for_run("tiny", run)["state"] == "success"
    assert airflow_server.states("tiny", run) == {"number": "success", "flaky": "success"}
    assert airflow_server.xcom("tiny", run, "number") == 42
    assert airflow_server.xcom("tiny", run, "flaky") == 84
    assert "counting to 41" in airflow_server.logs("tiny", run, "number")
    assert "not yet" in airflow_server.logs("tiny", run, "flaky", 1)
    assert "not yet" not in airflow_server.logs("tiny", run, "flaky", 2)
    assert [each["state"] for each in airflow_server.tries("tiny", run, "flaky")] == ["failed", "success"]


def test_a_file_that_was_edited_is_waited_for_in_its_new_form(airflow_server: Airflow) -> None:
    written(airflow_server, "edited", TINY.format(name="edited", number=1))
    airflow_server.wait_for_dag("edited")
    airflow_server.unpause("edited")
    for number in (2, 3):
        written(airflow_server, "edited", TINY.format(name="edited", number=number))
        airflow_server.wait_for_dag("edited")
        run = airflow_server.trigger("edited")
        airflow_server.wait_for_run("edited", run)
        assert airflow_server.xcom("edited", run, "number") == number


def test_a_file_that_cannot_be_imported_is_told_with_its_trace(airflow_server: Airflow) -> None:
    file = written(airflow_server, "broken", BROKEN)
    try:
        assert "a_module_that_is_not_there" in airflow_server.wait_for_import_error(file)
    finally:
        file.unlink()


def test_a_run_asked_for_while_the_scheduler_is_away_is_run_when_it_is_back(airflow_server: Airflow) -> None:
    written(airflow_server, "waiting", TINY.format(name="waiting", number=5))
    airflow_server.wait_for_dag("waiting")
    airflow_server.unpause("waiting")
    airflow_server.processes.stop_one("scheduler")
    run = airflow_server.trigger("waiting")
    assert airflow_server.run("waiting", run)["state"] == "queued"
    airflow_server.start("scheduler")
    assert airflow_server.wait_for_run("waiting", run)["state"] == "success"


def test_the_database_can_be_searched_as_text(airflow_server: Airflow) -> None:
    written(airflow_server, "searched", TINY.format(name="searched", number=7_654_321))
    airflow_server.wait_for_dag("searched")
    assert "counting to 7654321" in airflow_server.database.dump()
