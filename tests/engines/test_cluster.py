"""`--workers ray` and `--workers dask`: what a pipeline means does not change with the machines that run its steps."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.places import python
from engines.processes import MARK, marked

from .cluster_places import DEADLINE_S, TOKEN, DaskPlace, Place, RayPlace, apart, environment, wait_for

pytestmark = pytest.mark.long

LAB = '''
import asyncio, os, subprocess, threading, time
from pathlib import Path
from penstock import Limits, Resources, Retry, Secret, context, pipeline, step

HERE = Path(__file__).parent

def await_file(name):
    limit = time.monotonic() + 40
    while not (HERE / name).exists():
        assert time.monotonic() < limit, f"{name} never came"
        threading.Event().wait(0.02)

def tell(name):
    (HERE / f"{name}.new").write_text(str(os.getpid()))
    (HERE / f"{name}.new").rename(HERE / name)

def child():
    """In a session of its own, as a server that a step starts would be."""
    started = subprocess.Popen(["sleep", "300"], start_new_session=True)
    (HERE / "child").write_text(str(started.pid))

@step
def numbers(n: int) -> list[int]:
    print("counting to", n)
    return list(range(n))

@step
def squared(x: int) -> int:
    os.write(1, f"squaring {x}\\n".encode())
    context().progress(x, 3)
    return x * x

@step(isolation="thread", cache_despite=("process",))
async def total(xs: list[int]) -> int:
    await asyncio.sleep(0)
    print("in", os.getcwd())
    return sum(xs)

@pipeline
def squares(n: int = 3) -> int:
    return total(squared.map(x=numbers(n)))

@step(retry=Retry(attempts=3, base="0.3s", factor=2), cache=False)
def third_time() -> int:
    if context().attempt < 3:
        raise OSError(f"attempt {context().attempt}")
    return 7

@step(retry=Retry(attempts=3, base="0.1s", on=(OSError,)), cache=False)
def wrong() -> int:
    print("before it broke")
    return int("seven")

@pipeline
def retried() -> int:
    return third_time()

@pipeline
def broken() -> int:
    return wrong()

@step(timeout="1s", cache=False)
def too_slow() -> int:
    child()
    time.sleep(300)
    return 1

@pipeline
def slow() -> int:
    return too_slow()

@step(limits=Limits(memory="100Mi"), cache=False)
def too_large() -> int:
    return len(bytearray(400 << 20))

@pipeline
def large() -> int:
    return too_large()

@step
def with_token(token: str) -> int:
    print("the token is", token)
    return len(token)

@pipeline
def secretive(token: str = Secret("CLUSTER_TOKEN")) -> int:
    return with_token(token)

@step(resources=Resources(cpu=4), retry=Retry(attempts=2, base="0.1s", on=("killed",)), cache=False)
def on_the_big_one() -> int:
    os.write(1, f"attempt {context().attempt}\\n".encode())
    time.sleep(0.5)  # what is printed in the last moments before a node dies may die with it
    tell(f"begun{context().attempt}")
    if context().attempt == 1:
        child()
        time.sleep(300)
    return 5

@pipeline
def lost() -> int:
    return on_the_big_one()

@step(cache=False)
def stopped_in_the_middle() -> int:
    child()
    tell("begun1")
    try:
        await_file("go")
    finally:
        (HERE / "ended").write_text("by its own finally")
    return 3

@pipeline
def long() -> int:
    return stopped_in_the_middle()

@step(resources=Resources(gpu=1, cpu=1), cache=False)
def greedy() -> int:
    return 1

@pipeline
def greedy_one() -> int:
    return greedy()

@step(resources=Resources(gpu=1), cache=False)
def on_its_own() -> int:
    return os.getppid()

@pipeline
def own() -> int:
    return on_its_own()

@step(effect="at-least-once")
def announce(x: int) -> int:
    with context().effect() as act:
        print("told under", act.key[:4])
    return x

@pipeline
def telling() -> int:
    return announce(4)
'''


class Project:
    """A folder with a pipeline file, and `penstock` run in it."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder = folder
        self.place = place
        (folder / "penstock.toml").write_text("")
        (folder / "lab.py").write_text(LAB)

    def start(self, *words: str, cluster: bool = True) -> subprocess.Popen[str]:
        environment = {name: value for name, value in self.place.environment.items() if name != "CLUSTER_TOKEN"}
        where = ["--workers", self.place.workers] if cluster else []
        return subprocess.Popen(
            [python("cluster"), "-m", "penstock", *words, *where],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, name: str, *words: str, cluster: bool = True) -> Finished:
        return self.finish(self.start("run", f"lab.py:{name}", "--json", *words, cluster=cluster))

    def finish(self, process: subprocess.Popen[str]) -> Finished:
        out, err = process.communicate(timeout=DEADLINE_S)
        return Finished(process.returncode, out, err)

    def say(self, *words: str) -> str:
        done = self.finish(self.start(*words, cluster=False))
        assert done.code == 0, done.err
        return done.out

    def gone(self, name: str) -> bool:
        """Whether the process lives no more whose number a step wrote into this file."""
        try:
            stat = Path(f"/proc/{(self.folder / name).read_text()}/stat").read_text()
        except FileNotFoundError:
            return True
        return stat.rpartition(")")[2].split()[0] in "ZX"


class Finished:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err
        self.events: list[dict[str, Any]] = [
            json.loads(line) for line in out.splitlines() if line.startswith('{"type"')
        ]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def output(self) -> Any:
        assert self.code == 0, self.out + self.err
        return json.loads(self.of("summary")[0]["output"])


@pytest.fixture(scope="module", params=["ray", "dask"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    logs = tmp_path_factory.mktemp(request.param)
    with apart() as environment:
        found: Place = RayPlace(environment, logs) if request.param == "ray" else DaskPlace(environment, logs)
        try:
            yield found
        finally:
            found.end()


@pytest.fixture
def project(tmp_path: Path, place: Place) -> Project:
    return Project(tmp_path, place)


def test_elements_prints_progress_and_async_steps_are_as_they_are_here(project: Project) -> None:
    done = project.run("squares")
    assert done.output == 5
    assert {(event["step"], event["done"]) for event in done.of("progress")} >= {("squared", 2)}
    logs = project.say("logs", "last")
    assert "counting to 3" in logs
    assert "squaring 2" in logs
    assert f"in {project.folder}" in logs
    here = project.run("squares", cluster=False)
    assert here.output == 5
    assert {event["step"] for event in here.of("step_cached")} == {"numbers", "squared", "total"}


def test_what_was_computed_here_is_a_hit_on_the_cluster(project: Project) -> None:
    assert project.run("squares", cluster=False).output == 5
    there = project.run("squares")
    assert there.output == 5
    assert not there.of("attempt_started")


def test_retries_are_the_engines_and_keep_their_distance(project: Project) -> None:
    done = project.run("retried")
    assert done.output == 7
    began = [event["at"] / 1e6 for event in done.of("attempt_started")]
    ended = [event["at"] / 1e6 for event in done.of("attempt_failed")]
    assert [event["failure"]["message"] for event in done.of("attempt_failed")] == ["attempt 1", "attempt 2"]
    assert began[1] - ended[0] >= 0.3
    assert began[2] - ended[1] >= 0.6


def test_an_exception_that_is_not_to_be_retried_ends_the_run_with_its_traceback(project: Project) -> None:
    done = project.run("broken")
    assert done.code == 1
    (failed,) = done.of("attempt_failed")
    assert failed["failure"]["types"][0] == "builtins:ValueError"
    assert 'return int("seven")' in failed["failure"]["traceback"]
    assert "before it broke" in project.say("logs", "last")


def test_a_timeout_ends_the_step_and_what_it_started(project: Project) -> None:
    done = project.run("slow")
    (failed,) = done.of("attempt_failed")
    assert failed["failure"]["kind"] == "timeout"
    wait_for(lambda: project.gone("child"))


def test_a_memory_limit_is_kept(project: Project) -> None:
    (failed,) = project.run("large").of("attempt_failed")
    assert failed["failure"]["kind"] == "out_of_memory"


def test_a_secret_is_resolved_where_the_step_runs_and_stored_nowhere(project: Project) -> None:
    done = project.run("secretive")
    assert done.output == len(TOKEN)  # the engine's own environment does not have it
    assert "the token is" in project.say("logs", "last")
    assert TOKEN not in done.out + done.err
    for path in project.folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


def test_an_effect_asks_the_run_log_from_where_it_runs(project: Project) -> None:
    assert project.run("telling").output == 4
    assert "told under" in project.say("logs", "last")


def test_a_node_that_dies_is_a_lost_attempt_and_the_policy_decides(project: Project) -> None:
    running = project.start("run", "lab.py:lost", "--json")
    wait_for((project.folder / "begun1").exists)
    project.place.kill_big()
    wait_for(lambda: project.gone("begun1") and project.gone("child"))
    project.place.add_big()
    done = project.finish(running)
    assert done.output == 5
    (failed,) = done.of("attempt_failed")
    assert failed["failure"]["kind"] == "killed"
    assert "lost 'on_the_big_one'" in failed["failure"]["message"]
    assert all(not event.get("waived") for event in done.of("attempt_started"))  # the cluster scheduled by it
    assert "attempt 1" in project.say("logs", "last", "on_the_big_one", "--attempt", "1")


def test_ctrl_c_interrupts_the_step_over_there(project: Project) -> None:
    running = project.start("run", "lab.py:long", "--json")
    wait_for((project.folder / "begun1").exists)
    running.send_signal(signal.SIGINT)
    done = project.finish(running)
    assert done.code == 130
    assert done.of("run_finished")[0]["state"] == "cancelled"
    assert (project.folder / "ended").exists()
    assert project.gone("begun1")
    assert project.gone("child")


def test_a_killed_engine_takes_its_steps_along_and_resume_goes_on(project: Project) -> None:
    running = project.start("run", "lab.py:long", "--json")
    wait_for((project.folder / "begun1").exists)
    running.kill()
    running.communicate()
    wait_for(lambda: project.gone("begun1") and project.gone("child"))
    (project.folder / "go").touch()
    assert project.finish(project.start("resume", "last", "--json")).output == 3


def test_a_request_that_no_machine_meets_says_so_and_waits(project: Project) -> None:
    if project.place.name == "dask":
        done = project.run("greedy_one")
        assert done.output == 1
        assert done.of("attempt_started")[0]["waived"] == ["gpu=1"]  # no worker declares GPUs
        return
    running = project.start("run", "lab.py:greedy_one")
    assert running.stdout is not None
    line = next(line for line in running.stdout if "no machine" in line)
    assert re.search(r"no machine of the cluster has cpu=1, gpu=1; 'greedy' waits", line)
    running.send_signal(signal.SIGINT)
    assert project.finish(running).code == 130


@pytest.mark.parametrize("place", ["ray"], indirect=True)
def test_rays_client_reaches_it_from_outside(project: Project) -> None:
    assert isinstance(project.place, RayPlace)
    where = f"ray://127.0.0.1:{project.place.client_port}"
    done = project.finish(project.start("run", "lab.py:squares", "--json", "--workers", where, cluster=False))
    assert done.output == 5
    assert "squaring 2" in project.say("logs", "last")


class OwnPlace:
    """No cluster: one is started for the run."""

    def __init__(self, workers: str, environment: dict[str, str]) -> None:
        self.name = self.workers = workers
        self.environment = environment

    def kill_big(self) -> None:
        raise NotImplementedError

    def add_big(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        return


@pytest.mark.parametrize("workers", ["ray:2", "dask:2"])
def test_a_cluster_of_its_own_begins_and_ends_with_the_run(workers: str, tmp_path: Path) -> None:
    with apart() as environment:
        project = Project(tmp_path, OwnPlace(workers, environment))
        done = project.run("own")
        assert done.output > 1
        assert done.of("attempt_started")[0]["waived"] == ["gpu=1"]  # nobody will add a machine that has one
        wait_for(lambda: not list(marked(environment[MARK])))


@pytest.mark.parametrize("workers", ["ray://127.0.0.1:9", "dask://127.0.0.1:9"])
def test_a_cluster_that_is_not_there_is_said_to_be_before_a_run_begins(workers: str, tmp_path: Path) -> None:
    project = Project(tmp_path, OwnPlace(workers, environment()))
    done = project.run("squares")
    assert done.code != 0
    assert "cannot be reached" in done.out + done.err
    assert not (tmp_path / ".penstock" / "runs.db").exists() or not json.loads(project.say("ls", "--json"))
