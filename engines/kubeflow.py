"""Kubeflow's pipeline files, run by its SDK on this machine (`kfp.local`): one container per step, on podman."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import podman
from .places import EngineError, clean_environment, home, python

RUNNER = Path(__file__).with_name("kfp_runner.py")


@dataclass(frozen=True)
class TaskRun:
    """One task as kfp.local ran it; an element of a loop is a task of its own."""

    name: str
    state: str  # SUCCESS or FAILURE
    attempts: int
    outputs: Mapping[str, Any]  # parameters as values; artifacts as {"name", "uri", "type", "metadata"}
    started: float
    ended: float


@dataclass(frozen=True)
class LocalRun:
    state: str  # SUCCESS or FAILURE
    error: str | None
    outputs: Mapping[str, Any]
    tasks: Sequence[TaskRun]  # those that ran: kfp.local names no others
    log: str

    def states(self) -> dict[str, str]:
        return {task.name: task.state for task in self.tasks}


@contextmanager
def kubeflow(folder: Path) -> Iterator[Kubeflow]:
    """A podman socket for kfp.local to run containers on."""
    folder.mkdir(parents=True, exist_ok=True)
    python("kubeflow")
    if not (home("podman") / "containers.conf").exists():
        raise EngineError("podman is not set up here\n  hint: make engines")
    with podman.service(folder) as service:
        yield Kubeflow(folder, service)


class Kubeflow:
    def __init__(self, folder: Path, service: podman.Service) -> None:
        self.folder = folder
        self.service = service

    def run_local(
        self,
        pipeline: Path,
        arguments: Mapping[str, object] | None = None,
        folder: Path | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        mounts: Sequence[Path] = (),
        user: str | None = None,
        timeout: float = 600,
    ) -> LocalRun:
        """Run a compiled pipeline to its end.

        `folder` gets the outputs (its pipeline root) and the log. `environment` and `mounts` (folders, at the same
        place inside) are given to every container, over what the pipeline says; all have the host's network.
        """
        folder = folder or self.folder
        folder.mkdir(parents=True, exist_ok=True)
        request, result = folder / "request.json", folder / "result.json"
        asked = {
            "pipeline": str(pipeline),
            "arguments": dict(arguments or {}),
            "folder": str(folder),
            "environment": dict(environment or {}),
            "mounts": [str(each) for each in mounts],
            "user": user,
            "label": self.service.label,
        }
        request.write_text(json.dumps(asked), encoding="utf-8")
        result.unlink(missing_ok=True)
        log = folder / "kfp.log"
        code = self._run([python("kubeflow"), RUNNER, request, result], log, timeout)
        text = log.read_text(encoding="utf-8", errors="replace")
        if not result.exists():
            raise EngineError(f"kfp.local ended without a result, exit code {code}:\n{text}")
        found = json.loads(result.read_text(encoding="utf-8"))
        tasks = [TaskRun(**each) for each in found["tasks"]]
        return LocalRun(found["state"], found["error"], found["outputs"], tasks, text)

    def _run(self, command: Sequence[str | Path], log: Path, timeout: float) -> int:
        """In a group of its own; when the time is up, its containers go too."""
        variables = self.service.processes.marked(
            {**clean_environment("DOCKER", "CONTAINER", "KFP"), **self.service.environment, "PYTHONUNBUFFERED": "1"}
        )
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [str(part) for part in command], env=variables, cwd=log.parent, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        try:
            return process.wait(timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.service.remove_containers()
            if isinstance(error, subprocess.TimeoutExpired):
                text = log.read_text(encoding="utf-8", errors="replace")
                raise EngineError(f"kfp.local did not end within {timeout:g} s:\n{text}") from None
            raise
