"""Runs of a deployed DAG, through Airflow's API: start, look, stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.errors import BackendError, ParameterError
from ...ports.backend import Blueprint, EngineRun, EngineState, Places
from ...ports.records import RunState
from .client import Client, Refused, named
from .parameters import plain_values

_STATES = {
    "queued": RunState.RUNNING,
    "running": RunState.RUNNING,
    "success": RunState.SUCCEEDED,
    "failed": RunState.FAILED,
}
_BAD = ("failed", "upstream_failed")


def submit(blueprint: Blueprint, places: Places, run_id: str, key: str, parameters: Mapping[str, object]) -> EngineRun:
    """Trigger a DAG run whose id is the key: a second call finds the first one's."""
    client, name = Client(places), blueprint.name
    known = client.find(named("dags", name))
    if known is None:
        raise BackendError(
            f"Airflow at {client.endpoint} has no DAG '{name}'",
            hint=f"penstock deploy {blueprint.source or 'FILE.py'} --on airflow",
        )
    if known.get("is_paused"):
        raise BackendError(
            f"DAG '{name}' is paused in Airflow at {client.endpoint}: a run would wait for ever",
            hint=f"unpause it there, or: airflow dags unpause {name}",
        )
    conf = _shown(blueprint, parameters) | {"penstock_run": key}
    try:
        client.ask("POST", named("dags", name, "dagRuns"), {"dag_run_id": key, "logical_date": None, "conf": conf})
    except Refused as refused:
        if refused.status == 400:
            raise ParameterError(
                f"Airflow does not take the parameters of '{name}': {refused.detail}",
                hint=f"penstock deploy {blueprint.source or 'FILE.py'} --on airflow, if its signature has changed",
            ) from refused
        if refused.status != 409:
            raise BackendError(f"Airflow at {client.endpoint} does not start '{name}': {refused.detail}") from refused
    return EngineRun(key, f"{client.endpoint}/dags/{name}/runs/{key}")


def _shown(blueprint: Blueprint, parameters: Mapping[str, object]) -> dict[str, Any]:
    """The values for people to see in Airflow: penstock's run has been made, with the exact ones.

    An integer beyond 64 bits would end Airflow's worker: it goes as text, or not at all where there is a default.
    """
    asked = {each.name: each for each in blueprint.graph.parameters if not each.static and not each.secret}
    shown: dict[str, Any] = {}
    for name, value in plain_values({each: value for each, value in parameters.items() if each in asked}).items():
        if not _is_too_large(value):
            shown[name] = value
        elif isinstance(value, int) and asked[name].default is None:
            shown[name] = str(value)
        elif asked[name].default is None:
            raise ParameterError(
                f"Airflow cannot carry '{name}': there is an integer beyond 64 bits in it",
                hint="give the parameter a default, or take it as text",
            )
    return shown


def _is_too_large(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_is_too_large, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def state(blueprint: Blueprint, places: Places, run: EngineRun) -> EngineState:
    client = Client(places)
    found = client.find(named("dags", blueprint.name, "dagRuns", run.id))
    if found is None:
        return EngineState(RunState.INTERRUPTED, f"Airflow has no run '{run.id}' of '{blueprint.name}' any more")
    reached = _STATES.get(str(found["state"]), RunState.RUNNING)
    if reached is RunState.FAILED:
        return EngineState(reached, _why(client, blueprint.name, run))
    return EngineState(reached)


def cancel(blueprint: Blueprint, places: Places, run: EngineRun) -> None:
    """Mark the run as failed: Airflow stops what runs and starts nothing more, but for the task that closes the run."""
    client = Client(places)
    path = named("dags", blueprint.name, "dagRuns", run.id)
    found = client.find(path)
    if found is not None and _STATES.get(str(found["state"]), RunState.RUNNING) is RunState.RUNNING:
        client.ask("PATCH", path, {"state": "failed"})


def _why(client: Client, name: str, run: EngineRun) -> str:
    """Tasks that failed, as Airflow names them."""
    found: Any = client.get(named("dags", name, "dagRuns", run.id, "taskInstances"), limit="1000")["task_instances"]
    failed = [str(each["task_id"]) for each in found if each["state"] in _BAD]
    shown = ", ".join(sorted(set(failed))[:5])
    return f"failed there: {shown}" if failed else "it was marked as failed"
