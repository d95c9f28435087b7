"""The conformance suite on Airflow: API server, scheduler, DAG processor and workers over PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from penstock.testing.conformance.case import Case
from penstock.testing.conformance.commands import CommandDriver
from penstock.testing.conformance.driving import EngineRun, Ground

from . import postgres
from .airflow import Airflow, airflow
from .installing import versions

_ENDING_S = 60.0
_STATES = {"success": "succeeded", "failed": "failed"}
_SETTINGS = {
    "CORE__MAX_MAP_LENGTH": "8",  # so that the larger maps of the suite go in chunks
    # Every file is read when it is new and when `deploy` asks for it: a hundred of them need not be read all the time.
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
}


def driver() -> AirflowDriver:
    return AirflowDriver()


class AirflowDriver(CommandDriver):
    """`penstock run … --on airflow`, and what Airflow itself shows of the run afterwards."""

    def __init__(self) -> None:
        super().__init__("airflow", "--on", "airflow", at_once=4, backend="airflow")
        self._stack = ExitStack()
        self._server: Airflow | None = None
        self._work = Path()

    @property
    def server(self) -> Airflow:
        assert self._server is not None
        return self._server

    def versions(self) -> Mapping[str, str]:
        return {"Airflow": versions()["airflow"], "PostgreSQL": postgres.version().split()[2]}

    def start(self, ground: Ground) -> Mapping[str, str]:
        self._work = ground.work
        folder = ground.work / "airflow"
        self._server = self._stack.enter_context(
            airflow(folder, dags=folder / "dags", environment=ground.environment, settings=_SETTINGS)
        )
        pool = {"name": "narrow", "slots": 1, "description": "of penstock.toml", "include_deferred": False}
        self._server.ask("POST", "pools", pool)  # pools are Airflow's own: whoever looks after it makes them
        return {
            **super().start(ground),
            "PENSTOCK_ENDPOINT": self._server.url,
            "PENSTOCK_DAGS": str(self._server.dags),
            "PENSTOCK_PYTHON": sys.executable,
        }

    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        return self._seen(super().run(case, parameters))

    def resume(self, case: Case, run_id: str) -> EngineRun:
        return self._seen(super().resume(case, run_id))

    def places_to_search(self) -> Iterable[Path]:
        dump = self._work / "airflow.sql"
        dump.write_text(self.server.database.dump(), encoding="utf-8")
        return (self._work / "airflow", dump)  # DAG files, task logs, the logs of its processes

    def close(self) -> None:
        self._stack.close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _seen(self, run: EngineRun) -> EngineRun:
        """With the state and the failed tasks that Airflow shows. A cancelled run is a failed one to Airflow."""
        if run.run_id is None:
            return run
        found = self._ended(run.run_id)
        if found is None:
            return run
        state = "" if run.state == "cancelled" and found["state"] == "failed" else _STATES[found["state"]]
        return run._replace(state=state, failed_steps=self._failed(found))

    def _ended(self, run_id: str) -> dict[str, Any] | None:
        """Airflow's newest run of this one; it is over there a moment after it is in the run log."""
        deadline = monotonic() + _ENDING_S
        while True:
            found = self.server.ask("GET", f"dags/~/dagRuns?run_id_pattern={run_id}%25&order_by=-id")["dag_runs"]
            if not found:
                return None
            if found[0]["state"] in _STATES:
                newest: dict[str, Any] = found[0]
                return newest
            if monotonic() > deadline:
                raise RuntimeError(f"Airflow still has run {run_id} as {found[0]['state']}")
            sleep(0.5)

    def _failed(self, run: Mapping[str, Any]) -> frozenset[str] | None:
        """Steps whose task failed, an element with its index; None where a chunk did, which does not say which."""
        found: set[str] = set()
        for each in self.server.task_instances(run["dag_id"], run["dag_run_id"]):
            if each["state"] != "failed" or each["operator_name"] != "Step":
                continue
            step, index = each["task_id"].replace(".", "/"), each["rendered_map_index"]
            if index is not None and "," in index:
                return None
            found.add(step if index is None else f"{step}[{index}]")
        return frozenset(found)
