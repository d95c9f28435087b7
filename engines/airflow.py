"""Airflow: API server, scheduler and DAG processor (a triggerer where asked for) over a PostgreSQL of their own."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import postgres
from .asking import Refused, answers, ask
from .places import EngineError, clean_environment, free_port, home, program, python, with_programs_of
from .postgres import Postgres
from .processes import Processes

COMMANDS = {
    "api-server": ("api-server",),
    # The log server listens on a fixed port, on every address, and nobody here asks it: logs are read from the disk.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
SETTINGS = {
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__PARALLELISM": "4",
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    # An edited DAG file is read, and its new version kept, at once.
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "0",
    # New and edited files are looked for every second and read at once; the others are read again now and then, in case
    # one was edited while it was read.
    "DAG_PROCESSOR__REFRESH_INTERVAL": "1",
    "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    # A worker notices the end of its task when it looks after it, and takes no other until then.
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "API__HOST": "127.0.0.1",
    "API__WORKERS": "1",
    "API__DAG_CACHE_TTL": "0",
}
RUN_ENDED = {"success", "failed"}


def template() -> Path:
    return home("airflow") / "database-template"


def make_template(logs: Path) -> None:
    """An empty, migrated database: migrating takes longer than all else that a start does before Airflow itself."""

    def migrate(running: Postgres) -> None:
        environment = _environment(logs / "home", logs / "dags", running, 0, {})
        command: list[str | Path] = [program("airflow", "airflow"), "db", "migrate"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise EngineError(f"airflow db migrate failed, exit code {done.returncode}:\n{done.stdout}{done.stderr}")

    postgres.make_template(template(), migrate, logs)


@contextmanager
def airflow(
    folder: Path,
    *,
    dags: Path,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    triggerer: bool = False,
) -> Iterator[Airflow]:
    """A running Airflow, ready to take requests and to run tasks.

    `environment` is added to that of its processes and so of its tasks. `settings` are Airflow's own, named
    "SECTION__KEY". Everything that it writes lies in `folder`, but for the database.
    """
    for each in (folder, dags):
        each.mkdir(parents=True, exist_ok=True)
    if not template().exists():
        raise EngineError("Airflow is not installed here, or not wholly\n  hint: make engines")
    with postgres.server(folder / "log", template=template()) as database:
        server = Airflow(folder, dags, database, environment or {}, settings or {})
        try:
            for name in COMMANDS:
                if name != "triggerer" or triggerer:
                    server.start(name)
            server.wait_until_ready()
            yield server
        finally:
            server.processes.stop()


def _environment(
    airflow_home: Path, dags: Path, database: Postgres, port: int, settings: Mapping[str, str]
) -> dict[str, str]:
    ours = {
        **SETTINGS,
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": database.url.replace("postgresql://", "postgresql+psycopg2://"),
        "LOGGING__BASE_LOG_FOLDER": str(airflow_home / "logs"),
        "API__PORT": str(port),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        **settings,
    }
    variables = with_programs_of("airflow", clean_environment("AIRFLOW"))
    variables |= {f"AIRFLOW__{name}": value for name, value in ours.items()}
    return {**variables, "AIRFLOW_HOME": str(airflow_home), "NO_COLOR": "1"}


class Airflow:
    """What a test asks of a running Airflow; `ask` is for all else in its REST API."""

    def __init__(
        self, folder: Path, dags: Path, database: Postgres, environment: Mapping[str, str], settings: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.dags = dags
        self.database = database
        self.processes = Processes(folder / "log")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.python = python("airflow")
        self.environment = {**_environment(folder / "home", dags, database, port, settings), **environment}
        self._token = ""

    # -- its processes -----------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """One of its processes ("api-server", "scheduler", "dag-processor", "triggerer")."""
        self.processes.start(name, [program("airflow", "airflow"), *COMMANDS[name]], self.environment, cwd=self.folder)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            if not answers(f"{self.url}/api/v2/monitor/health"):
                return False
            health = self.health()
            return all(health[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor"))

        self.processes.wait_until("Airflow is healthy", ready, timeout=240)
        # The API for tasks is built at its first request, which would be the first task's.
        self.processes.wait_until(
            "Airflow serves its tasks", lambda: answers(f"{self.url}/execution/health"), timeout=120
        )

    def health(self) -> Any:
        return ask("GET", f"{self.url}/api/v2/monitor/health")

    # -- REST --------------------------------------------------------------------------------------------------------

    def token(self) -> str:
        if not self._token:
            self._token = str(ask("GET", f"{self.url}/auth/token")["access_token"])
        return self._token

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """`path` is below /api/v2, already quoted."""
        headers = {"authorization": f"Bearer {self.token()}"}
        return ask(method, f"{self.url}/api/v2/{path}", body, headers)

    def pages(self, path: str, key: str) -> list[dict[str, Any]]:
        """Every page of a listing."""
        found: list[dict[str, Any]] = []
        joined = "&" if "?" in path else "?"
        while True:
            page = self.ask("GET", f"{path}{joined}limit=100&offset={len(found)}")
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found

    def find(self, path: str) -> Any:
        """The answer, or None where there is no such thing."""
        try:
            return self.ask("GET", path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    # -- DAGs --------------------------------------------------------------------------------------------------------

    def import_errors(self) -> list[dict[str, Any]]:
        """Files that could not be read: `filename`, `stack_trace`."""
        return self.pages("importErrors", "import_errors")

    def wait_for_import_error(self, file: Path, *, timeout: float = 60) -> str:
        def found() -> str | None:
            traces = [each["stack_trace"] for each in self.import_errors() if Path(each["filename"]).name == file.name]
            return traces[0] if traces else None

        return self.processes.wait_until(f"an import error of {file.name}", found, timeout=timeout)

    def wait_for_dag(self, dag_id: str, *, timeout: float = 120) -> dict[str, Any]:
        """Until the DAG's file is read, as it now is on the disk; gives the DAG."""

        def parsed() -> dict[str, Any] | None:
            broken = self.import_errors()
            if any(dag_id in each["filename"] or dag_id in each["stack_trace"] for each in broken):
                raise EngineError(f"the file of DAG {dag_id} cannot be imported:\n{broken[0]['stack_trace']}")
            dag: dict[str, Any] | None = self.find(f"dags/{quote(dag_id)}")
            if dag is None or dag["is_stale"]:
                return None
            source = self.find(f"dagSources/{quote(dag_id)}")
            return dag if source and source["content"] == Path(dag["fileloc"]).read_text(encoding="utf-8") else None

        what = f"DAG {dag_id} is read from {self.dags}"
        return self.processes.wait_until(what, parsed, timeout=timeout, log="dag-processor")

    def pause(self, dag_id: str, paused: bool = True) -> None:
        self.ask("PATCH", f"dags/{quote(dag_id)}", {"is_paused": paused})

    def unpause(self, dag_id: str) -> None:
        self.pause(dag_id, False)

    # -- runs --------------------------------------------------------------------------------------------------------

    def trigger(
        self,
        dag_id: str,
        conf: Mapping[str, object] | None = None,
        *,
        run_id: str | None = None,
        logical_date: str | None = None,
    ) -> str:
        """Start a run; gives its id."""
        body: dict[str, object] = {"logical_date": logical_date, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self.ask("POST", f"dags/{quote(dag_id)}/dagRuns", body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return self.pages(f"dags/{quote(dag_id)}/dagRuns?order_by=run_after", "dag_runs")

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", _run(dag_id, run_id))
        return found

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float = 180) -> dict[str, Any]:
        """Until it has ended, well or not; gives the run (`state`)."""

        def ended() -> dict[str, Any] | None:
            run = self.run(dag_id, run_id)
            return run if run["state"] in RUN_ENDED else None

        try:
            return self.processes.wait_until(f"run {run_id} of {dag_id} ends", ended, timeout=timeout, log="scheduler")
        except EngineError as error:
            raise EngineError(f"{error}\ntasks: {self.states(dag_id, run_id)}") from None

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, states: set[str], *, map_index: int = -1, timeout: float = 60
    ) -> dict[str, Any]:
        """Until a task instance is in one of these states: to strike while it runs."""

        def there() -> dict[str, Any] | None:
            for each in self.task_instances(dag_id, run_id):
                if (each["task_id"], each["map_index"]) == (task_id, map_index) and each["state"] in states:
                    return each
            return None

        return self.processes.wait_until(f"{task_id} is one of {sorted(states)}", there, timeout=timeout)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The last try of each: `task_id`, `map_index`, `state`, `try_number`, `start_date`, `end_date`."""
        return self.pages(f"{_run(dag_id, run_id)}/taskInstances", "task_instances")

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """State by task, a mapped one as "task[index]"."""
        return {
            each["task_id"] if each["map_index"] < 0 else f"{each['task_id']}[{each['map_index']}]": each["state"]
            for each in self.task_instances(dag_id, run_id)
        }

    def tries(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> list[dict[str, Any]]:
        """Every try of a task instance, the oldest first, with its `start_date` and `end_date`."""
        index = "" if map_index < 0 else f"/{map_index}"
        found = self.ask("GET", f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}{index}/tries")
        return sorted(found["task_instances"], key=lambda each: int(each["try_number"]))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key)}?map_index={map_index}"
        return self.ask("GET", path)["value"]

    def logs(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, *, map_index: int = -1) -> str:
        """The log of one try, as its UI shows it: one line per event, and one per exception."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/logs/{try_number}"
        content = self.ask("GET", f"{path}?full_content=true&map_index={map_index}")["content"]
        return "\n".join(line for each in content for line in _log_lines(each))

    def wait_for_runs(self, dag_id: str, count: int, *, timeout: float = 60) -> list[dict[str, Any]]:
        """Until a DAG has this many runs, which a schedule or an asset started."""

        def enough() -> list[dict[str, Any]] | None:
            runs = self.runs(dag_id)
            return runs if len(runs) >= count else None

        return self.processes.wait_until(f"{dag_id} has {count} runs", enough, timeout=timeout)


def _log_lines(entry: dict[str, Any] | str) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    yield str(entry["event"])
    for error in entry.get("error_detail") or ():
        yield f"{error['exc_type']}: {error['exc_value']}"


def _run(dag_id: str, run_id: str) -> str:
    return f"dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"
