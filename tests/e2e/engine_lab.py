"""A project folder to run real pipelines in: SQLite, local artifacts, worker processes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from penstock.authoring.identity import load_file
from penstock.wiring.config import load_settings
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner
from penstock.wiring.runs import Run

DEADLINE_S = 60.0

HEAD = """
import asyncio, ctypes, os, signal, subprocess, sys, threading, time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from penstock import Limits, Retry, Secret, Static, context, optional, pipeline, step, when

HERE = Path(__file__).parent

def mark(word):
    with open(HERE / "ran.txt", "a") as file:
        file.write(f"{word}\\n")

def arrive(name):
    (HERE / name).touch()

def await_file(name, seconds=30.0):
    limit = time.monotonic() + seconds
    while not (HERE / name).exists():
        if time.monotonic() > limit:
            raise TimeoutError(f"{name} never came")
        threading.Event().wait(0.01)
"""


class Lab:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "penstock.toml").write_text("")
        self.file = root / f"lab_{uuid.uuid4().hex[:8]}.py"
        self.module: ModuleType | None = None
        self._projects: list[Project] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *error: object) -> None:
        for project in self._projects:
            if "store" in vars(project):
                project.store.close()

    def write(self, source: str) -> Lab:
        self.file.write_text(HEAD + source)
        return self

    def load(self) -> ModuleType:
        if self.module is None:
            self.module = load_file(str(self.file))
        return self.module

    def run(self, name: str = "main", parameters: dict[str, Any] | None = None, **options: Any) -> Run:
        pipeline = getattr(self.load(), name)
        texts = pipeline.parameters(parameters or {})
        options = {"workers": 2, "echo": False, "check": False} | options
        return self.runner().run(pipeline.trace(texts), texts, **options)

    def resume(self, run_id: str, **options: Any) -> Run:
        options = {"workers": 2, "echo": False, "check": False} | options
        return self.runner().resume(run_id, str(self.root), **options)

    def runner(self) -> LocalRunner:
        return LocalRunner(project=self.project())

    def project(self, **flags: Any) -> Project:
        project = Project(load_settings(str(self.root), **flags))
        self._projects.append(project)
        return project

    def ran(self) -> list[str]:
        file = self.root / "ran.txt"
        return file.read_text().split() if file.exists() else []

    def text(self, run: str, step: str, index: str = "", attempt: int | None = None) -> str:
        return "".join(row[4] for row in self.project().store.read_text(run, step, index, attempt))

    def start(self, code: str, **environment: str) -> subprocess.Popen[str]:
        """A Python process in the project, with the pipeline file imported as `lab`."""
        head = f"import sys, os, json\nsys.path.insert(0, {str(self.root)!r})\nimport {self.file.stem} as lab\n"
        return subprocess.Popen(
            [sys.executable, "-c", head + code],
            cwd=self.root, env={**os.environ, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def start_file(self) -> subprocess.Popen[str]:
        """`python file.py`"""
        return subprocess.Popen(
            [sys.executable, str(self.file)], cwd=self.root, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def last_run(self) -> str:
        return self.project().store.match_runs("")[0]


def states(run: Run) -> dict[str, str]:
    return {f"{each.step}[{each.index}]" if each.index else each.step: each.state.value for each in run.steps}


def wait_for(what: Callable[[], Any], reason: str = "") -> Any:
    """Poll until it is true; the poll waits on nothing but a deadline."""
    limit = time.monotonic() + DEADLINE_S
    while not (found := what()):
        if time.monotonic() > limit:
            raise TimeoutError(reason or "it never became true")
        select.select([], [], [], 0.02)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie whose parent is slow to reap it has)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def last_json(text: str) -> Any:
    return json.loads(text.strip().splitlines()[-1])
