"""A project of its own, deployed to a running Airflow by `penstock`, for the tests of this folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engines.airflow import Airflow


class Lab:
    """A folder with pipelines, and the command line that knows it."""

    def __init__(self, server: Airflow, folder: Path) -> None:
        self.server = server
        self.folder = folder
        (folder / "penstock.toml").write_text("", encoding="utf-8")

    def write(self, name: str, source: str) -> None:
        (self.folder / name).write_text(source, encoding="utf-8")

    def penstock(
        self, *words: str, fails: bool = False, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=self._variables(more or {}), capture_output=True, text=True,
            check=False, timeout=300, stdin=subprocess.DEVNULL,
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

    def run(self, target: str, *words: str, fails: bool = False) -> str:
        """A run to its end; gives its id."""
        done = self.penstock("run", target, "--on", "airflow", "--json", *words, fails=fails)
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return str(next(each["run"] for each in said if each.get("type") == "run"))

    def states(self, run: str) -> dict[str, str]:
        """State by step run, as the run log has it."""
        found = json.loads(self.penstock("show", run, "--json").stdout)
        return {
            f"{each['step']}[{each['index']}]" if each["index"] else each["step"]: each["state"]
            for each in found["steps"]
        }

    def show(self, run: str) -> Any:
        return json.loads(self.penstock("show", run, "--json").stdout)

    def wait_until(self, what: str, there: Callable[[], Any], timeout: float = 90) -> Any:
        return self.server.processes.wait_until(what, there, timeout=timeout)

    def _variables(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "AIRFLOW"))}
        ours = {
            "PENSTOCK_ENDPOINT": self.server.url,
            "PENSTOCK_DAGS": str(self.server.dags),
            "PENSTOCK_PYTHON": sys.executable,
        }
        return {**kept, **ours, **more}
