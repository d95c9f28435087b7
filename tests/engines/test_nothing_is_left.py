"""However an engine's starter ends, no process of the engine outlives it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from engines.places import CHECKOUT, EngineError
from engines.processes import Processes, marked

pytestmark = pytest.mark.long

MARK = "ENGINES_TEST_MARK"  # inherited by all that a starter starts, like the mark of `engines` itself
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
print("ready", flush=True)
time.sleep(600)
"""
# A DAG file is read again and again by processes of Airflow: this one leaves a child in a session of its own.
STRAY = """
import subprocess
from airflow.sdk import dag, task

subprocess.Popen(["sleep", "600"], start_new_session=True)

@dag(dag_id="stray", schedule=None)
def stray():
    @task
    def nothing() -> None: ...
    nothing()

stray()
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that PostgreSQL's user can walk into as well."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-left-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def living(folder: Path, value: str) -> list[str]:
    """Commands of processes that carry the test's mark, or name its temporary folder in their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if command and (f"{MARK}={value}".encode() in variables or str(folder).encode() in command):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(what: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (answer := what()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


@pytest.mark.parametrize("engine", ["airflow", "prefect"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_starter_that_ends_or_is_killed_leaves_no_process_no_port_and_no_folder(
    engine: str, how: signal.Signals, temporary: Path
) -> None:
    dags = temporary / "dags"
    dags.mkdir()
    (dags / "stray.py").write_text(STRAY, encoding="utf-8")
    value = f"{engine}-{how.name}-{os.getpid()}"
    command = [sys.executable, "-m", "engines", "start", engine, "--dags", str(dags)]
    environment = {**os.environ, MARK: value, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        lines = iter(starter.stdout.readline, "")
        url = next((line.split()[0] for line in lines if line.startswith("http")), None)
        assert url is not None
        if engine == "airflow":
            assert until(lambda: any(each.startswith("sleep") for each in living(temporary, value)), 60)
        assert len(living(temporary, value)) >= 2
        starter.send_signal(how)
        starter.wait(timeout=60)
        assert until(lambda: living(temporary, value) == [], 30), living(temporary, value)
    # A process that is ending has no arguments and no variables any more some moments before its socket closes.
    assert until(lambda: not listening(urlsplit(url).port or 0), 10)
    assert until(lambda: not list(temporary.glob("penstock-pg-*")), 10)


def test_children_that_left_their_group_and_ignore_signals_are_ended_too(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("stubborn", [sys.executable, "-c", STUBBORN], os.environ)
    processes.wait_until("both are there", lambda: len(list(marked(processes.mark))) == 2, timeout=30)
    processes.wait_until("both are deaf", lambda: processes.tail("stubborn").count("ready") == 2, timeout=30)
    processes.stop(grace=0.5)
    assert list(marked(processes.mark)) == []


def test_a_server_that_ends_by_itself_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    try:
        processes.start("frail", [sys.executable, "-c", "import sys; sys.exit('no such port')"], os.environ)
        with pytest.raises(EngineError, match=r"frail ended by itself, exit code 1[^\n]*\n  \| no such port"):
            processes.wait_until("it is ready", lambda: None, timeout=30)
    finally:
        processes.stop()


def test_a_server_that_is_never_ready_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    try:
        waits = "print('still waiting', flush=True); import time; time.sleep(600)"
        processes.start("slow", [sys.executable, "-c", waits], os.environ)
        processes.wait_until("it speaks", lambda: "still waiting" in processes.tail("slow"), timeout=30)
        with pytest.raises(EngineError, match=r"not within 0.5 s: it is ready\nThe end of slow's log:\n  \| still"):
            processes.wait_until("it is ready", lambda: None, timeout=0.5)
    finally:
        processes.stop()
