"""A project of its own, deployed to a running Prefect by `penstock`, for the tests of this folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engines.places import program
from engines.prefect import Prefect

POOL = "penstock"


class Lab:
    """A folder with pipelines, and the two command lines that know it: penstock's, and Prefect's Python."""

    def __init__(self, server: Prefect, folder: Path) -> None:
        self.server = server
        self.folder = folder
        (folder / "penstock.toml").write_text("", encoding="utf-8")

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.write_text(source, encoding="utf-8")
        return path

    @property
    def environment(self) -> dict[str, str]:
        """What steps need of ours: where the project's own packages are."""
        return {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}

    def penstock(
        self, *words: str, fails: bool = False, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=self._variables(more or {}), capture_output=True, text=True,
            check=False, timeout=240, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            self.command(*words), cwd=self.folder, env=self._variables({}), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "penstock", *words]

    def _variables(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PREFECT_"))}
        return {**kept, "PREFECT_API_URL": self.server.api_url, **more}

    def flow(self, target: str) -> Path:
        """The flow's file, compiled."""
        self.penstock("compile", target, "--on", "prefect", "--output", "build")
        return next((self.folder / "build").glob("*_flow.py"))

    def run_flow(
        self, file: Path, *words: str, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`python FILE …` with Prefect's Python, as one does who has no deployment."""
        environment = {**self.environment, **(more or {})}
        return self.server.run([file, *words], environment=environment, cwd=self.folder, timeout=240)

    def start_worker(self, name: str) -> None:
        command: Sequence[str | Path] = [program("prefect", "prefect"), "worker", "start", "--pool", POOL]
        self.server.start(name, [*command, "--type", "process", "--name", name], environment=self.environment)

        def polls() -> bool:
            workers = self.server.ask("POST", f"work_pools/{POOL}/workers/filter", {})
            return any(each["name"] == name and each["status"] == "ONLINE" for each in workers)

        self.server.processes.wait_until("the worker polls", polls, timeout=60)

    def newest(self, flow: str) -> dict[str, Any]:
        """The latest run that somebody started; a schedule makes many in advance."""
        return self.started(flow)[-1]

    def started(self, flow: str) -> list[dict[str, Any]]:
        return [each for each in self.server.flow_runs(flow) if not each["auto_scheduled"]]

    def states(self, flow_run: str) -> dict[str, str]:
        """Task run -> the name of its state."""
        return {each["name"]: each["state_name"] for each in self.server.task_runs(flow_run)}

    def shown(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.penstock("show", run, "--json").stdout)
        return found

    def output(self, run: str, step: str) -> Any:
        """What a step of a run returned."""
        return json.loads(self.penstock("artifact", "get", run, step).stdout)
