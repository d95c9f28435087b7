"""`exec-step`: which instances it takes, and which attempts and folders it leaves alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import NotFoundError, UsageError
from penstock.engine.launcher import Launcher
from penstock.engine.processtree import born_since, end, is_there, is_there_since, now_s
from penstock.engine.services import Services
from penstock.engine.single import StepExit, check_instance, execute_step
from penstock.engine.tasks import StepOutcome, StepTask
from penstock.graph import Graph, Item, Node, Scope, Value
from penstock.ports.events import AttemptStarted, Event, MapExpanded, RunFinished, RunStarted, RunView, fold
from penstock.ports.records import RunRecord, RunState

GRAPH = Graph(
    "p",
    "f.py:p",
    (
        Node("flat", "f.py:flat"),
        Node("shop", "f.py:shop", inputs={"x": Item("shops", "x")}, scope="shops"),
        Node("day", "f.py:day", inputs={"x": Item("days", "x")}, scope="days"),
    ),
    (Scope("shops", {"x": Value("[1, 2]")}), Scope("days", {"x": Value("[1]")}, parent="shops")),
)
RECORD = RunRecord(id="r", pipeline="p", project="", manifest="", parameters={}, created_at=0)


class Log:
    """A run log that may only be read."""

    def __init__(self, *events: Event) -> None:
        self._events = list(enumerate(events, 1))

    def events(self, run_id: str, after: int = 0) -> list[tuple[int, Event]]:
        return self._events


def exec_step(*events: Event, step: str = "flat", index: str = "") -> StepExit:
    store = cast(Any, Log(RunStarted(at=1), *events))
    code, _ = execute_step(
        GRAPH, RECORD, store, cast(Any, None), step=step, index=index, engine_attempt=None, worker_module=""
    )
    return code


@pytest.mark.parametrize(
    ("step", "index"),
    [
        ("flat", "../.."),
        ("flat", "/etc"),
        ("flat", "0"),
        ("shop", ""),
        ("shop", "."),
        ("shop", ".."),
        ("shop", "/"),
        ("shop", "1\n"),
        ("shop", "-1"),
        ("shop", "01"),
        ("shop", "²"),
        ("shop", "0.0"),
        ("shop", "2"),
        ("day", "0"),
        ("day", "1.3"),
    ],
)
def test_an_index_that_the_run_does_not_have_is_refused_before_anything_happens(step: str, index: str) -> None:
    sizes = [MapExpanded(at=1, scope="shops", size=2), MapExpanded(at=1, scope="days", index="1", size=3)]
    with pytest.raises(UsageError, match="--index"):
        check_instance(GRAPH, step, index, fold(sizes))
    with pytest.raises(UsageError, match="--index"):
        exec_step(*sizes, step=step, index=index)


def test_indexes_of_the_right_depth_and_within_the_recorded_sizes_pass() -> None:
    view = fold([MapExpanded(at=1, scope="shops", size=2)])
    for step, index in (("flat", ""), ("shop", "1"), ("day", "1.7")):
        check_instance(GRAPH, step, index, view)


def test_an_unknown_step_is_refused_with_near_names() -> None:
    with pytest.raises(NotFoundError, match=r"no step 'shpo'[\s\S]*shop"):
        exec_step(step="shpo")


def test_a_run_that_is_over_is_not_touched() -> None:
    assert exec_step(RunFinished(at=2, state=RunState.CANCELLED)) is StepExit.FENCED


def test_an_attempt_whose_process_lives_on_this_host_is_not_taken_over() -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            at = time.time_ns() // 1000
            begun = AttemptStarted(at=at, step="flat", attempt=1, host=os.uname().nodename, pid=other.pid)
            assert exec_step(begun) is StepExit.FENCED
        finally:
            other.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are dated by /proc")
def test_a_younger_process_with_the_number_of_an_older_one_is_somebody_else() -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            now = time.time_ns() // 1000
            assert is_there_since(other.pid, now)
            assert not is_there_since(other.pid, now - 60_000_000)
        finally:
            other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert not is_there_since(other.pid, now), "a zombie does nothing any more"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are dated by /proc")
def test_only_children_born_since_a_moment_are_ended_however_deaf_they_are() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    with subprocess.Popen(["sleep", "600"]) as older:
        try:
            while (
                now_s()
                - float(Path(f"/proc/{older.pid}/stat").read_text().rpartition(")")[2].split()[19])
                / (os.sysconf("SC_CLK_TCK"))
                < 0.05
            ):
                pass  # the kernel dates processes by hundredths of a second
            since = now_s()
            with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as younger:
                assert younger.stdout is not None
                younger.stdout.readline()
                found = born_since(since)
                assert younger.pid in found
                assert older.pid not in found
                end(found)
                assert younger.wait(10) == -signal.SIGKILL
            assert is_there(older.pid)
        finally:
            older.kill()


@pytest.mark.parametrize("where", ["outside", "home/checkpoints/../..", "home/checkpoints", "home/checkpoints/link"])
def test_clearing_a_checkpoint_removes_nothing_outside_the_checkpoints(tmp_path: Path, where: str) -> None:
    home = tmp_path / "home" / "checkpoints"
    home.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    kept = [tmp_path / "outside" / "kept", home / "kept"]
    for file in kept:
        file.touch()
    (home / "link").symlink_to(tmp_path / "outside")
    _conclude(home, f"{tmp_path}/{where}")
    assert all(file.exists() for file in kept)


def test_a_checkpoint_is_cleared_when_its_step_succeeded(tmp_path: Path) -> None:
    own = tmp_path / "checkpoints" / "r" / "flat" / "_"
    own.mkdir(parents=True)
    _conclude(tmp_path / "checkpoints", str(own))
    assert not own.exists()
    assert own.parent.exists()


def _conclude(checkpoints: Path, folder: str) -> None:
    services = Services(
        artifacts=cast(Any, None),
        loader=cast(Any, None),
        fingerprints=cast(Any, None),
        clock=SystemClock(),
        checkpoints=str(checkpoints),
    )
    launcher = Launcher(GRAPH, RECORD, RunView(), cast(Any, None), services)
    task = StepTask(
        run_id="r", pipeline="p", step="flat", index="", attempt=1, target="", arguments={}, outputs=(),
        checkpoint_dir=folder,
    )  # fmt: skip
    prepared = SimpleNamespace(task=task, started=AttemptStarted(at=1, step="flat", attempt=1))
    launcher.concluded(cast(Any, prepared), StepOutcome(checkpointed=True))
