"""Talks to Kubeflow: to a server through its SDK in an interpreter of its own, or to kfp.local on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import BackendError, ConfigError
from ...core.files import put_text
from ...ports.backend import Blueprint, EngineRun, EngineState, Places
from ...ports.records import RunState
from .containers import environment_names
from .cron import instant, six_fields
from .declarations import LOCAL, MOST_AT_ONCE
from .here import Here
from .kinds import given, shown_in_kubeflow
from .names import RUN, pipeline_name

_SDK = Path(__file__).parent / "sdk"
_PATIENCE_S = 120.0
_STATES = {
    "SUCCEEDED": RunState.SUCCEEDED,
    "SKIPPED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "CANCELED": RunState.CANCELLED,
    "CANCELING": RunState.RUNNING,
}


class Client:
    """For one deployment. Holds nothing: every call begins anew."""

    def __init__(self, blueprint: Blueprint, places: Places) -> None:
        self._blueprint = blueprint
        self._places = places
        self._name = pipeline_name(blueprint.name)
        self._version = blueprint.digest[:12]  # the same graph is the same version
        self._folder = Path(places.work or ".") / "kubeflow"
        self._file = self._folder / f"{blueprint.name}-{blueprint.digest[:12]}.yaml"
        self._here = Here(places, self._folder, _SDK / "local.py")

    @property
    def _is_local(self) -> bool:
        return self._blueprint.endpoint == LOCAL

    def deploy(self, text: str) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        put_text(self._file, text)
        if self._is_local:
            return f"{self._file} is written; `penstock run --on kubeflow` runs it here, under kfp.local"
        graph = self._blueprint.graph
        schedule = None
        if (cron := graph.schedule) is not None:
            schedule = {
                "cron": six_fields(cron.expression),
                "start": instant(cron.start) if cron.start else "",
                "catch_up": cron.catch_up,
                "most": graph.max_active_runs or MOST_AT_ONCE,
            }
        found = self._asked("deploy", file=str(self._file), schedule=schedule)
        when = f", a recurring run at '{cron.expression}' UTC" if cron is not None else ""
        if when and not found["enabled"]:
            when += " (disabled there, and left so)"
        url = f"{self._endpoint}/#/pipelines/details/{found['pipeline']}/version/{found['version']}"
        return f"pipeline '{self._name}', version {self._version}, is on {self._endpoint}{when}\n  {url}"

    def submit(self, run_id: str, key: str, parameters: Mapping[str, object]) -> EngineRun:
        declared = given(self._blueprint.graph.parameters)
        arguments: dict[str, Any] = {
            each.name: shown_in_kubeflow(each, parameters[each.name]) for each in declared if each.name in parameters
        }
        arguments[RUN] = key
        if self._is_local:
            self._here.start(self._file, key, arguments, self._environment())
            return EngineRun(key)
        found = self._asked("submit", run=key, arguments=arguments)
        return EngineRun(found["id"], f"{self._endpoint}/#/runs/details/{found['id']}")

    def state(self, run: str) -> EngineState:
        if self._is_local:
            return self._here.state(run)
        found = self._run(run)
        if found is None:
            return EngineState(RunState.INTERRUPTED, f"Kubeflow at {self._endpoint} has no run '{run}'")
        told = found.get("state", "")
        error = found.get("error") or {}
        return EngineState(_STATES.get(told, RunState.RUNNING), str(error.get("message", "")))

    def cancel(self, run: str) -> None:
        if self._is_local:
            self._here.cancel(run)
        elif (found := self._run(run)) is not None:
            self._asked("cancel", run=found["run_id"])

    # -- a server ------------------------------------------------------------------------------------------------

    @property
    def _endpoint(self) -> str:
        if not self._blueprint.endpoint:
            raise ConfigError(
                "where is Kubeflow? No endpoint is set",
                hint=f'endpoint = "https://…" in the profile; or "{LOCAL}", for kfp.local on this machine',
            )
        return self._blueprint.endpoint.rstrip("/")

    def _asked(self, ask: str, **more: Any) -> dict[str, Any]:
        """One question through the SDK. Raises BackendError in words of ours."""
        request = {"ask": ask, "endpoint": self._endpoint, "name": self._name, "version": self._version, **more}
        python = self._places.python or sys.executable
        try:
            done = subprocess.run(
                [python, "-P", str(_SDK / "cluster.py")],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                env=dict(self._places.environment) or None,
                check=False,
            )
        except OSError as error:
            raise ConfigError(
                f"engine_python is {python}, which cannot be started: {error.strerror}", hint=_NO_SDK
            ) from None
        except subprocess.TimeoutExpired:
            raise BackendError(f"Kubeflow at {self._endpoint} did not answer within {_PATIENCE_S:g} s") from None
        try:
            answer = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise BackendError(f"Kubeflow's SDK failed: {done.stderr.strip()[-1000:]}", hint=_NO_SDK) from None
        if "ok" in answer:
            return dict(answer["ok"])
        match answer["kind"]:
            case "version":
                raise BackendError(answer["error"], hint=_NO_SDK)
            case "away":
                raise BackendError(f"Kubeflow at {self._endpoint} cannot be reached: {answer['error']}", hint=_AWAY)
        raise BackendError(f"Kubeflow at {self._endpoint} refused to {ask}: {answer['error']}")

    def _run(self, run: str) -> dict[str, Any] | None:
        """The run as the server's own API tells it: asked every second or so, which is too often for the SDK.

        A run that another process started is known by the name that we gave it; one that Kubeflow itself started, by
        Kubeflow's id. None: there is none.
        """
        if run.count("-") == 4 and len(run) == 36:
            return self._read(f"/apis/v2beta1/runs/{run}")
        predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": run}
        query = urllib.parse.urlencode({"filter": json.dumps({"predicates": [predicate]})})
        found = (self._read(f"/apis/v2beta1/runs?{query}") or {}).get("runs")
        return dict(found[0]) if found else None

    def _read(self, path: str) -> dict[str, Any] | None:
        token = self._places.environment.get("KFP_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{self._endpoint}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise BackendError(f"Kubeflow at {self._endpoint} does not answer: {error}", hint=_AWAY) from error
        except (OSError, ValueError) as error:
            raise BackendError(f"Kubeflow at {self._endpoint} does not answer: {error}", hint=_AWAY) from error

    def _environment(self) -> list[str]:
        """Names of the variables that containers on this machine are given."""
        return environment_names(self._blueprint)


_AWAY = "is it up? The endpoint is its API, such as http://localhost:8888; a token comes from KFP_TOKEN"
_NO_SDK = "engine_python in the profile is an interpreter with `pip install 'kfp>=2.17,<3' docker`"
