"""Prefect: its server over an SQLite file, and whatever runs beside it (flows, workers, `serve`)."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from .asking import Refused, answers, ask
from .places import EngineError, clean_environment, free_port, home, program, python, with_programs_of
from .processes import Processes

SETTINGS = {
    "SERVER_ANALYTICS_ENABLED": "false",
    # Without its server a flow fails; it does not quietly start one of its own.
    "SERVER_EPHEMERAL_ENABLED": "false",
    "LOGGING_TO_API_BATCH_INTERVAL": "0.2",
    "RUNNER_POLL_FREQUENCY": "1",
    "WORKER_QUERY_SECONDS": "1",
    "SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "2",
    "SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "2",
    "SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.5",
    "SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "0.5",
}
RUN_ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PAGE = 200
_BUSY_S = 15.0


def template() -> Path:
    return home("prefect") / "database-template.db"


def make_template(logs: Path) -> None:
    """An empty, migrated database: migrating takes longer than the server's own start."""
    with tempfile.TemporaryDirectory(prefix="penstock-prefect-") as folder:
        made = Path(folder) / "prefect.db"
        environment = _environment(Path(folder), made, 0, {})
        command: list[str | Path] = [program("prefect", "prefect"), "server", "database", "upgrade", "--yes"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise EngineError(f"prefect could not make its database:\n{done.stdout}{done.stderr}")
        with closing(sqlite3.connect(made)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(made, template())


@contextmanager
def prefect(
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    ui: bool = False,
) -> Iterator[Prefect]:
    """A running Prefect server. `settings` are Prefect's own, named without "PREFECT_"."""
    folder.mkdir(parents=True, exist_ok=True)
    if not template().exists():
        raise EngineError("Prefect is not installed here, or not wholly\n  hint: make engines")
    server = Prefect(folder, environment or {}, settings or {}, ui=ui)
    shutil.copy(template(), server.database)
    try:
        server.start_server()
        server.wait_until_ready()
        yield server
    finally:
        server.processes.stop()


def _environment(folder: Path, database: Path, port: int, settings: Mapping[str, str]) -> dict[str, str]:
    ours = {
        **SETTINGS,
        "HOME": str(folder / "home"),
        "API_URL": f"http://127.0.0.1:{port}/api",
        "SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
        **settings,
    }
    variables = with_programs_of("prefect", clean_environment("PREFECT"))
    variables |= {f"PREFECT_{name}": value for name, value in ours.items()}
    return {**variables, "DO_NOT_TRACK": "1", "NO_COLOR": "1"}


class Prefect:
    """What a test asks of a running Prefect; `ask` is for all else in its REST API."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], settings: Mapping[str, str], *, ui: bool = False
    ) -> None:
        self.folder = folder
        self.database = folder / "prefect.db"
        self.processes = Processes(folder / "log")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_url = f"{self.url}/api"
        self.python = python("prefect")
        self._ui = ui
        # For flows, workers and `serve`. Marked, so that what they leave is ended with the server.
        self.environment = self.processes.marked(
            {**_environment(folder, self.database, self.port, settings), **environment}
        )

    # -- its processes -----------------------------------------------------------------------------------------------

    def start_server(self) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--ui" if self._ui else "--no-ui"]
        self.start("server", [program("prefect", "prefect"), "server", "start", *where])

    def wait_until_ready(self) -> None:
        self.processes.wait_until("Prefect is healthy", lambda: answers(f"{self.api_url}/health"), timeout=120)

    def start(self, name: str, command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> None:
        """A process that stays (a worker, `serve`); `processes.stop_one(name)` ends it before the server does."""
        self.processes.start(name, command, {**self.environment, **(environment or {})}, cwd=self.folder)

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 180,
    ) -> subprocess.CompletedProcess[str]:
        """Prefect's Python with these arguments, to its end: a script that holds a flow."""
        return subprocess.run(
            [self.python, *arguments], env={**self.environment, **(environment or {})}, cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    # -- REST --------------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """`path` is below /api."""
        deadline = monotonic() + _BUSY_S
        while True:
            try:
                return ask(method, f"{self.api_url}/{path}", body)
            except Refused as refused:
                if refused.status != 503 or monotonic() > deadline:
                    raise
                sleep(0.2)  # SQLite has one writer, which is easily too busy

    def pages(self, path: str, body: Mapping[str, object]) -> list[dict[str, Any]]:
        """Every page of a `.../filter` listing."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.ask("POST", path, {**body, "limit": PAGE, "offset": len(found)})
            found += page
            if len(page) < PAGE:
                return found

    def flow_runs(self, flow: str | None = None) -> list[dict[str, Any]]:
        """All, or those of one flow by its name; the oldest first."""
        chosen: dict[str, object] = {} if flow is None else {"flows": {"name": {"any_": [flow]}}}
        found = self.pages("flow_runs/filter", {**chosen, "sort": "ID_DESC"})
        return sorted(found, key=lambda each: str(each["created"]))

    def flow_run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"flow_runs/{run_id}")
        return found

    def wait_for_flow_runs(self, flow: str, count: int, *, timeout: float = 60) -> list[dict[str, Any]]:
        """Until a flow has this many runs, which a schedule or an event started."""

        def enough() -> list[dict[str, Any]] | None:
            runs = self.flow_runs(flow)
            return runs if len(runs) >= count else None

        return self.processes.wait_until(f"flow {flow} has {count} runs", enough, timeout=timeout)

    def wait_for_flow_run(self, run_id: str, *, timeout: float = 180) -> dict[str, Any]:
        """Until it has ended, well or not; gives the run (`state_type`, `state`)."""

        def ended() -> dict[str, Any] | None:
            run = self.flow_run(run_id)
            return run if run["state_type"] in RUN_ENDED else None

        return self.processes.wait_until(f"flow run {run_id} ends", ended, timeout=timeout)

    def create_flow_run(self, deployment_id: str, parameters: Mapping[str, object] | None = None) -> str:
        """Ask for a run of a deployment; gives its id."""
        made = self.ask("POST", f"deployments/{deployment_id}/create_flow_run", {"parameters": dict(parameters or {})})
        return str(made["id"])

    def deployments(self) -> list[dict[str, Any]]:
        return self.pages("deployments/filter", {})

    def task_runs(self, run_id: str) -> list[dict[str, Any]]:
        """Those of a flow run: `name`, `state_type`, `run_count`, `start_time`, `end_time`; in order of start."""
        found = self.pages("task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
        return sorted(found, key=lambda each: str(each["start_time"]))

    def states(self, run_id: str) -> dict[str, str]:
        """State type by task run's name."""
        return {each["name"]: each["state_type"] for each in self.task_runs(run_id)}

    def task_run_states(self, task_run_id: str) -> list[dict[str, Any]]:
        """Every state that a task run went through, the oldest first: its tries, with their times."""
        found = self.ask("GET", f"task_run_states/?task_run_id={task_run_id}")
        return sorted(found, key=lambda each: str(each["timestamp"]))

    def flow_run_states(self, run_id: str) -> list[dict[str, Any]]:
        found = self.ask("GET", f"flow_run_states/?flow_run_id={run_id}")
        return sorted(found, key=lambda each: str(each["timestamp"]))

    def logs(self, run_id: str) -> list[dict[str, Any]]:
        """Of a flow run and its tasks: `message`, `level`, `task_run_id`, `timestamp`."""
        return self.pages("logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"})
