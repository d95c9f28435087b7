"""The engine's side of a cluster, on one that lives in this process: its worker processes are real, its losses told."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.authoring.identity import load_file
from penstock.core.errors import ClusterError
from penstock.graph import ResourceRequest
from penstock.ports.cluster import Attend, Heard, Lost
from penstock.ports.records import FailureClass, RunState, StepState
from penstock.wiring import runner as runner_module
from penstock.wiring.attending import attend
from penstock.wiring.config import load_settings
from penstock.wiring.runner import LocalRunner
from penstock.wiring.runs import Run

SOURCE = """
import os
from pathlib import Path
from penstock import Resources, Retry, context, pipeline, step

@step
def numbers() -> list[int]:
    return [1, 2, 3]

@step
def doubled(x: int) -> int:
    print("doubling", x)
    return 2 * x

@step
async def total(xs: list[int]) -> int:
    return sum(xs)

@pipeline
def main() -> int:
    return total(doubled.map(x=numbers()))

LOST = Retry(attempts=2, base="0s", on=("killed", "out_of_memory"))

@step(resources=Resources(cpu=2, memory="1Gi", gpu=1), retry=LOST)
def large() -> int:
    return context().attempt

@pipeline
def asking() -> int:
    return large()

@step(cache=False)
def endless() -> int:
    import time
    print("begun")
    Path(os.environ["MARK"]).touch()
    time.sleep(60)
    return 1

@pipeline
def long() -> int:
    return endless()
"""


class Threaded:
    """A cluster whose machines are threads; `losses` are what becomes of the next attempts instead of being run."""

    name = "threads"

    def __init__(self, attend: Attend, *losses: Lost | Exception, places: int = 2) -> None:
        self.places = places
        self.most = 0  # that it had at a time
        self.asked: list[ResourceRequest | None] = []
        self._attend = attend
        self._losses = list(losses)
        self._wanted: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._heard: Heard | None = None

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def keeps(self, wants: ResourceRequest) -> ResourceRequest:
        return ResourceRequest(cpu=wants.cpu, memory_bytes=wants.memory_bytes)

    def lacks(self, wants: ResourceRequest) -> str:
        return "cpu=2"

    def submit(self, ticket: str, content: bytes, wants: ResourceRequest | None, title: str) -> None:
        self.asked.append(wants)
        if self._losses:
            loss = self._losses.pop(0)
            if isinstance(loss, Exception):
                raise loss
            assert self._heard is not None
            self._heard(ticket, loss)
            return
        self._wanted.add(ticket)
        self.most = max(self.most, len(self._wanted))
        thread = threading.Thread(target=self._attend, args=(content, Way(self, ticket)))
        self._threads.append(thread)
        thread.start()

    def forget(self, ticket: str) -> None:
        self._wanted.discard(ticket)

    def stop(self, tickets: Sequence[str], *, at_once: bool) -> None:
        self._wanted -= {*tickets}

    def close(self) -> None:
        self._wanted.clear()
        for thread in self._threads:
            thread.join(timeout=20)


class Way:
    def __init__(self, cluster: Threaded, ticket: str) -> None:
        self._cluster = cluster
        self._ticket = ticket

    def send(self, message: bytes) -> None:
        assert self._cluster._heard is not None
        self._cluster._heard(self._ticket, message)

    def unwanted(self) -> bool:
        return self._ticket not in self._cluster._wanted


Start = Callable[..., tuple[Run, Threaded]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    (tmp_path / "penstock.toml").write_text("")
    file = tmp_path / f"far_{tmp_path.name}.py"
    file.write_text(SOURCE)

    def run(name: str, *losses: Lost | Exception, places: int = 2, **options: Any) -> tuple[Run, Threaded]:
        cluster = Threaded(attend, *losses, places=places)
        monkeypatch.setattr(runner_module, "open_cluster", lambda place: cluster)
        pipeline = getattr(load_file(str(file)), name)
        runner = LocalRunner(load_settings(str(tmp_path)))
        options = {"workers": "ray", "echo": False, "check": False} | options
        found = runner.run(pipeline.trace({}), {}, **options)
        runner.project(str(tmp_path)).store.close()
        return found, cluster

    return run


def test_every_step_runs_on_the_cluster_and_no_more_than_it_has_places(start: Start) -> None:
    run, cluster = start("main")
    assert run.output == 12
    assert len(cluster.asked) == 5
    assert cluster.most == 2


def test_a_lone_place_takes_one_after_the_other(start: Start) -> None:
    run, cluster = start("main", places=1)
    assert run.output == 12
    assert cluster.most == 1


def test_what_the_cluster_schedules_by_is_asked_for_and_the_rest_is_waived(start: Start) -> None:
    run, cluster = start("asking")
    assert cluster.asked == [ResourceRequest(cpu=2, memory_bytes=1 << 30)]
    assert run.step("large").waived == ("gpu=1",)


def test_a_lost_attempt_is_killed_and_the_policy_decides(start: Start) -> None:
    run, _ = start("asking", Lost("its node went away"))
    assert run.output == 2
    run, _ = start("asking", Lost("one"), Lost("two"), cache=False)
    failure = run.step("large").failure
    assert (run.state, run.step("large").attempts) == (RunState.FAILED, 2)
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureClass.KILLED, "the cluster lost 'large': two")


def test_a_machine_without_memory_is_out_of_memory(start: Start) -> None:
    lost = Lost("95% used", out_of_memory=True)
    run, _ = start("asking", lost, lost)
    failure = run.step("large").failure
    assert failure is not None
    assert failure.kind is FailureClass.OUT_OF_MEMORY


def test_an_attempt_that_is_not_taken_is_lost_too(start: Start) -> None:
    run, _ = start("asking", ClusterError("it is down", hint="start it"), ClusterError("it is down", hint="start it"))
    failure = run.step("large").failure
    assert failure is not None
    assert (failure.kind, failure.hint) == (FailureClass.KILLED, "start it")


def test_a_run_that_is_told_to_stop_takes_its_attempts_back(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("MARK", str(mark))

    def interrupt() -> None:
        while not mark.exists():
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    run, _ = start("long")
    waiting.join()
    assert run.state is RunState.CANCELLED
    assert run.step("endless").state is StepState.CANCELLED
