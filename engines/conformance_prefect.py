"""The conformance suite on Prefect: a server, a process work pool, one worker that takes two flow runs at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from penstock.backends.prefect.api import Api
from penstock.testing.conformance.case import Case
from penstock.testing.conformance.commands import Place, resume_here
from penstock.testing.conformance.driving import Answer, EngineRun, Ground, answers

from .installing import versions
from .places import program
from .prefect import Prefect, prefect

_STATES = {"COMPLETED": "succeeded", "FAILED": "failed", "CANCELLED": "cancelled", "CRASHED": "crashed"}
_LIMIT_S, _FULL_LIMIT_S = 240.0, 1800.0


class PrefectDriver:
    """Deploys with `penstock deploy`; starts runs as somebody does who only knows Prefect, over its API."""

    name = "prefect"
    at_once = os.cpu_count() or 1

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._server: Prefect | None = None
        self._ground: Ground | None = None
        self._deployments: dict[str, dict[str, Any]] = {}  # by case
        self._undeployed: dict[str, str] = {}  # case -> why it could not be deployed

    def versions(self) -> Mapping[str, str]:
        return {"Prefect": versions()["prefect"]}

    def prepare(self, ground: Ground) -> Mapping[str, str]:
        self._ground = ground
        settings = _settings(ground)
        project = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        environment = {**ground.environment, **settings, **project, "PENSTOCK_WORKERS": "2"}
        server = self._stack.enter_context(prefect(ground.work / "prefect", environment=environment))
        self._server = server
        for case in ground.cases:
            self._deploy(case, ground, {**settings, "PREFECT_API_URL": server.api_url})
        self._deployments = {each["name"]: each for each in server.deployments()}
        words = ("worker", "start", "--pool", "penstock", "--type", "process", "--limit", str(self.at_once))
        server.start("worker", [program("prefect", "prefect"), *words])
        return settings

    def declared(self, case: Case) -> Mapping[str, Answer]:
        return answers("prefect", case)

    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        assert self._server is not None
        assert self._ground is not None
        if case.name not in self._deployments:
            return EngineRun(None, told=self._undeployed.get(case.name, "it was not deployed"))
        server = self._server
        deployment = self._deployments[case.name]
        taken = deployment["parameter_openapi_schema"]["properties"]  # others were fixed when it was deployed
        given = {name: value for name, value in parameters.items() if name in taken}
        body = {"name": f"conformance {case.name}", "parameters": given}
        api = Api(server.api_url, {})  # with some patience: SQLite's one writer is easily too busy
        made = api.post(f"/deployments/{deployment['id']}/create_flow_run", body)
        limit = _FULL_LIMIT_S if self._ground.full else _LIMIT_S
        ended = server.wait_for_flow_run(made["id"], timeout=limit)

        def failed() -> frozenset[str]:
            return frozenset(
                each["name"]
                for each in server.task_runs(made["id"])
                if each["state_type"] == "FAILED" and each["state_name"] != "UpstreamFailed"
            )

        renamed = ended["name"] != body["name"]
        message = ended["state"].get("message") or ""
        # States of tasks come to Prefect's server as events, some of them after the end of the flow run.
        run_id = ended["name"] if renamed else None
        return EngineRun(run_id, _STATES[ended["state_type"]], failed(), message, look_again=failed)

    def resume(self, case: Case, run_id: str) -> EngineRun:
        assert self._server is not None
        assert self._ground is not None
        place = Place.of(self._ground, _settings(self._ground))
        return resume_here(place, run_id, {"PREFECT_API_URL": self._server.api_url}, "--on", "prefect")

    def places_to_search(self) -> Iterable[Path]:
        assert self._ground is not None
        return (self._ground.work / "prefect",)

    def close(self) -> None:
        self._stack.close()

    def _deploy(self, case: Case, ground: Ground, settings: Mapping[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PREFECT_"))}
        target = f"{case.file}:{case.pipeline}"
        sizes = [word for name, value in case.full.items() for word in (f"--{name}", str(value))] if ground.full else []
        done = subprocess.run(
            [sys.executable, "-P", "-m", "penstock", "deploy", target, "--on", "prefect", "--name", case.name, *sizes],
            cwd=ground.folder, env={**kept, **settings, **ground.environment}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            self._undeployed[case.name] = done.stderr


def _settings(ground: Ground) -> dict[str, str]:
    return {"PENSTOCK_HOME": str(ground.folder / ".penstock")}


def driver() -> PrefectDriver:
    return PrefectDriver()
