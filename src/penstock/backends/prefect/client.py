"""Deployments, runs and their states on a Prefect server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from ...core.canonical import digest_bytes
from ...core.errors import BackendError
from ...core.files import put_text
from ...graph import Graph
from ...ports.backend import Blueprint, Bundle, EngineRun, EngineState, Places
from ...ports.records import RunState
from .api import AlreadyThere, Api, NotThere, quoted
from .parameters import flow_parameters, parameter_schema
from .writing import SERVED, entry_file, flow_function

POOL = "penstock"
RUN_LABEL = "penstock.run"  # the generated file reads it
_STATES = {
    "COMPLETED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "CRASHED": RunState.INTERRUPTED,
    "CANCELLED": RunState.CANCELLED,
}


class Client:
    """What penstock asks of one server."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._api = Api(places.endpoint, places.environment)
        self._pool = places.environment.get("PENSTOCK_PREFECT_POOL") or POOL

    # -- deployments ---------------------------------------------------------------------------------------------------

    def deploy(self, bundle: Bundle, blueprint: Blueprint) -> str:
        """Write the files where a worker on this machine reads them, and register the deployment."""
        self._api.check_version()
        graph = blueprint.graph
        limits = self._make_limits(blueprint)
        served = blueprint.form == SERVED
        if not served:
            self._need_pool()
        folder = self._written(bundle, blueprint)
        flow = self._api.post("/flows/", {"name": graph.pipeline})
        record = self._record(bundle, blueprint, folder, flow["id"])
        deployment = self._api.post("/deployments/", record)
        self._follow_data(graph, blueprint, deployment["id"])
        where = f"{self._api.ui}/deployments/deployment/{deployment['id']}"
        told = f"Prefect knows {graph.pipeline}/{record['name']}: {where}\n  the flow: {folder / bundle.entry}{limits}"
        if served:
            return f"{told}\n  it runs while this does: {self._python} {folder / bundle.entry} serve"
        if self._ready():
            return told
        return f"{told}\n  nothing takes its runs yet; start a worker: {self._worker_command()}"

    def _written(self, bundle: Bundle, blueprint: Blueprint) -> Path:
        """A folder of its own for each content: a run that is in progress keeps the files it began with."""
        content = "".join(f"{name}\n{text}" for name, text in sorted(bundle.files.items()))
        top = Path(self._places.folder or Path(self._places.work) / "prefect")
        folder = top / blueprint.name / digest_bytes(content.encode())[:12]
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in bundle.files.items():
            put_text(folder / name, text)
        return folder

    def _record(self, bundle: Bundle, blueprint: Blueprint, folder: Path, flow_id: str) -> dict[str, Any]:
        graph = blueprint.graph
        name = blueprint.name
        before = self._deployment(graph, name)
        limit = graph.max_active_runs
        record: dict[str, Any] = {
            "name": name,
            "flow_id": flow_id,
            "description": f"The penstock pipeline `{graph.pipeline}` of {blueprint.source}",
            "entrypoint": f"{bundle.entry}:{flow_function(graph)}",
            "path": ".",
            "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
            "version": blueprint.digest[:12],
            "tags": [f"{key}={value}" for key, value in graph.tags.items()],
            "parameter_openapi_schema": parameter_schema(graph),
            "enforce_parameter_schema": True,
            "schedules": self._schedules(graph, before),
            "paused": bool(before and before["paused"]),  # what somebody has stopped stays so
            "concurrency_limit": limit,
            "concurrency_options": {"collision_strategy": "ENQUEUE"} if limit else None,
        }
        return record if blueprint.form == SERVED else {**record, "work_pool_name": self._pool}

    def _schedules(self, graph: Graph, before: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        if graph.schedule is None:
            return []
        cron = {"cron": graph.schedule.expression, "timezone": graph.schedule.tz}
        stopped = any(
            not each["active"] and each["schedule"].get("cron") == cron["cron"]
            for each in (before["schedules"] if before else [])
        )
        return [{"schedule": cron, "active": not stopped}]

    def _deployment(self, graph: Graph, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._api.get(f"/deployments/name/{quoted(graph.pipeline)}/{quoted(name)}")
        except NotThere:
            return None
        return found

    def _make_limits(self, blueprint: Blueprint) -> str:
        """Pools as limits of Prefect's own. One that is there stays as it is: somebody may have set it. In words."""
        told = ""
        for pool, places in blueprint.pools.items():
            try:
                limit = self._api.get(f"/v2/concurrency_limits/{quoted(f'tag:{pool}')}")["limit"]
            except NotThere:
                self._api.post("/concurrency_limits/", {"tag": pool, "concurrency_limit": places})
                continue
            if limit != places:
                told += f"\n  pool {pool}: {limit} places there, {places} in the settings; fewer counts"
        return told

    def _follow_data(self, graph: Graph, blueprint: Blueprint, deployment_id: str) -> None:
        """An automation that starts a run when all data that the pipeline waits for was updated."""
        name = f"penstock: {graph.pipeline}/{blueprint.name} when its data is updated"
        old = self._api.post("/automations/filter", {"automations": {"name": {"any_": [name]}}})
        if not graph.on_data:
            for each in old:
                self._api.delete(f"/automations/{each['id']}")
            return
        record = {
            "name": name,
            "description": f"Starts {graph.pipeline} when each of these was updated: {', '.join(graph.on_data)}",
            "enabled": all(each["enabled"] for each in old),
            "trigger": {
                "type": "compound",
                "require": "all",
                "within": None,
                "triggers": [_updated(url) for url in graph.on_data],
            },
            "actions": [{"type": "run-deployment", "source": "selected", "deployment_id": deployment_id}],
        }
        if old:
            self._api.put(f"/automations/{old[0]['id']}", record)
        else:
            self._api.post("/automations/", record)

    # -- work pool -----------------------------------------------------------------------------------------------------

    def _need_pool(self) -> None:
        """The work pool is there, and its workers start processes on this machine."""
        try:
            self._api.post("/work_pools/", {"name": self._pool, "type": "process", "description": "Made by penstock"})
            return
        except AlreadyThere:
            pool = self._api.get(f"/work_pools/{quoted(self._pool)}")
        if pool["type"] != "process":
            raise BackendError(
                f"the work pool '{self._pool}' starts a {pool['type']}; penstock's flows run in a process pool",
                hint="name another pool in PENSTOCK_PREFECT_POOL; a new one is made by `penstock deploy`",
            )

    def _ready(self) -> bool:
        workers = self._api.post(f"/work_pools/{quoted(self._pool)}/workers/filter", {})
        return any(worker["status"] == "ONLINE" for worker in workers)

    @property
    def _python(self) -> str:
        return self._places.python or "python"

    def _worker_command(self) -> str:
        prefix = f"{self._places.python} -m " if self._places.python else ""
        return f"{prefix}prefect worker start --pool {self._pool}"

    # -- runs ----------------------------------------------------------------------------------------------------------

    def submit(self, blueprint: Blueprint, run_id: str, key: str, parameters: Mapping[str, object]) -> EngineRun:
        self._api.check_version()
        graph, name = blueprint.graph, blueprint.name
        deployment = self._deployment(graph, name)
        if deployment is None:
            raise BackendError(
                f"Prefect has no deployment {graph.pipeline}/{name}",
                hint=f"penstock deploy {blueprint.source} --on prefect",
            )
        self._need_takers(blueprint, deployment)
        known = flow_parameters(graph)  # what was fixed by compiling is none of the flow's
        record = {
            "name": run_id,
            "idempotency_key": key,
            "labels": {RUN_LABEL: key},
            "parameters": {each.name: parameters[each.name] for each in known if each.name in parameters},
            "state": {"type": "SCHEDULED", "message": "Submitted by penstock"},
        }
        found = self._api.post(f"/deployments/{deployment['id']}/create_flow_run", record)
        return EngineRun(found["id"], self._page(found["id"]))

    def _need_takers(self, blueprint: Blueprint, deployment: Mapping[str, Any]) -> None:
        """Somebody who will run it; otherwise it would wait, and nobody would know why."""
        if deployment.get("paused"):
            raise BackendError(
                f"the deployment {deployment['name']} is paused",
                hint="prefect deployment resume, or its page in the UI",
            )
        if blueprint.form == SERVED:
            if deployment["status"] != "READY":
                raise BackendError(
                    f"nobody serves {deployment['name']}: its run would wait for ever",
                    hint=f"start it: {self._python} {entry_file(blueprint)} serve (`penstock deploy` says where it is)",
                )
        elif not self._ready():
            raise BackendError(
                f"no worker polls the work pool '{self._pool}': its run would wait for ever",
                hint=f"start one, in Prefect's environment on this machine: {self._worker_command()}",
            )

    def state(self, run: EngineRun) -> EngineState:
        found = self._flow_run(run)
        if found is None:
            return EngineState(RunState.INTERRUPTED, "Prefect no longer knows this flow run: it was deleted there")
        told = found.get("state") or {}
        kind, name = told.get("type", ""), told.get("name", "")
        words = ": ".join(filter(None, [name, told.get("message") or ""]))
        return EngineState(_STATES.get(kind, RunState.RUNNING), words if kind != "COMPLETED" else "")

    def cancel(self, run: EngineRun) -> None:
        found = self._flow_run(run)
        if found is None or (found.get("state") or {}).get("type") in _STATES:
            return
        begun = found["state"]["type"] in ("RUNNING", "CANCELLING", "PAUSED")
        state = {"type": "CANCELLING" if begun else "CANCELLED", "message": "Asked for by penstock"}
        self._api.post(f"/flow_runs/{found['id']}/set_state", {"state": state})

    def _flow_run(self, run: EngineRun) -> dict[str, Any] | None:
        """By Prefect's own id, or by the name under which penstock submitted it."""
        try:
            UUID(run.id)
        except ValueError:
            runs = self._api.post(
                "/flow_runs/filter", {"flow_runs": {"idempotency_key": {"any_": [run.id]}}, "limit": 1}
            )
            return runs[0] if runs else None
        try:
            found: dict[str, Any] = self._api.get(f"/flow_runs/{run.id}")
        except NotThere:
            return None
        return found

    def _page(self, flow_run_id: str) -> str:
        return f"{self._api.ui}/runs/flow-run/{flow_run_id}"


def _updated(url: str) -> dict[str, Any]:
    return {
        "type": "event",
        "posture": "Reactive",
        "expect": ["penstock.data.updated"],
        "match": {"prefect.resource.id": f"penstock.data.{url}"},
        "threshold": 1,
        "within": 0,
    }
