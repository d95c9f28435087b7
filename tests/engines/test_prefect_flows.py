"""A pipeline as a flow on a real Prefect: what its users see is what the run log says, whatever goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engines.prefect import Prefect
from penstock.backends.prefect.api import Api
from penstock.backends.prefect.parameters import parameter_schema
from penstock.graph import Graph

from .prefect_lab import Lab

SHOP = """
import os, time
from pathlib import Path
from penstock import Retry, context, optional, pipeline, step, when

@step
def upto(n: int) -> list[int]:
    print("up to", n)
    return list(range(n))

@step
def square(x: int) -> int: return x * x

@step
def total(xs: list[int]) -> int: return sum(xs)

@step(retry=Retry(3, base="100ms", factor=1))
def flaky(x: int) -> int:
    if context().attempt < 3: raise OSError(f"attempt {context().attempt}")
    return x

@step
def broken(x: int) -> int: raise ValueError(f"no {x}")

@pipeline
def shop(n: int = 3, go: bool = False) -> int:
    squares = square.map(x=upto(n))
    with when(go):
        extra = square.named("extra")(n)
    total.named("behind").after(broken(n))(squares)
    return flaky(total(squares))
"""


@pytest.fixture
def lab(prefect_server: Prefect, tmp_path: Path) -> Lab:
    return Lab(prefect_server, tmp_path)


def test_a_flow_shows_elements_retries_skips_failures_and_what_came_before(lab: Lab) -> None:
    lab.write("shop.py", SHOP)
    done = lab.run_flow(lab.flow("shop.py:shop"), "--n", "2")
    assert done.returncode == 1, done.stderr
    run = lab.newest("shop")
    assert run["state_type"] == "FAILED"
    assert run["state"]["message"] == "broken: no 2"
    tasks = {each["name"]: each for each in lab.server.task_runs(run["id"])}
    assert {name: each["state_name"] for name, each in tasks.items()} == {
        "upto": "Completed", "square[0]": "Completed", "square[1]": "Completed", "extra": "Skipped",
        "broken": "Failed", "behind": "UpstreamFailed", "total": "Completed", "flaky": "Completed",
    }  # fmt: skip
    assert tasks["flaky"]["run_count"] == 3
    assert "ValueError: no 2" in tasks["broken"]["state"]["message"]
    came_before = {each["id"] for each in tasks["total"]["task_inputs"]["wait_for"]}
    assert came_before == {tasks["square[0]"]["id"], tasks["square[1]"]["id"]}
    assert [each["id"] for each in tasks["square[1]"]["task_inputs"]["wait_for"]] == [tasks["upto"]["id"]]
    assert {each["id"] for each in tasks["behind"]["task_inputs"]["wait_for"]} == {*came_before, tasks["broken"]["id"]}
    told = lab.server.processes.wait_until(
        "the logs are there",
        lambda: (found := [each["message"] for each in lab.server.logs(run["id"])]) and "up to 2" in found and found,
        timeout=30,
    )
    assert any(text.rstrip().endswith("ValueError: no 2") and "shop.py" in text for text in told)
    shown = lab.shown(run["name"])  # Prefect's run has the name of penstock's
    assert shown["state"] == "failed"


def test_a_second_run_of_the_same_flow_run_resumes_it(lab: Lab) -> None:
    """Prefect's own button "retry": what is done stays done, and the same run goes on."""
    lab.write(
        "mended.py",
        """
from pathlib import Path
from penstock import pipeline, step

@step(cache=False)
def once() -> int:
    with open("times", "a") as file: file.write("x")
    return 1

@step(reads="mended")
def fragile(x: int) -> int:
    if not Path("mended").exists(): raise OSError("not yet")
    return x + 1

@pipeline
def mended() -> int: return fragile(once())
""",
    )
    lab.penstock("deploy", "mended.py:mended", "--on", "prefect")
    lab.start_worker("resuming")
    try:
        deployment = next(each for each in lab.server.deployments() if each["name"] == "mended")
        flow_run = lab.server.create_flow_run(deployment["id"])
        first = lab.server.wait_for_flow_run(flow_run)
        assert first["state_type"] == "FAILED"
        lab.write("mended", "")
        api = Api(lab.server.api_url, {})
        api.post(
            f"/flow_runs/{flow_run}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        )
        again = lab.server.processes.wait_until(
            "it is done again",
            lambda: (run := lab.server.flow_run(flow_run))["state_type"] == "COMPLETED" and run,
            timeout=90,
        )
        assert again["name"] == first["name"]
        assert lab.shown(first["name"])["state"] == "succeeded"
        assert (lab.folder / "times").read_text() == "x"
    finally:
        lab.server.processes.stop_one("resuming")


def test_the_schema_of_a_deployment_is_the_one_that_prefect_derives_from_the_flow(lab: Lab) -> None:
    lab.write(
        "typed.py",
        """
from datetime import date
from typing import Any, Literal
from penstock import pipeline, step

@step
def take(values: list) -> int: return len(values)

@pipeline
def typed(a: int, b: float = 0.5, c: str = "x", d: bool = True, e: list[int] = [1, 2], f: dict[str, float] = {"k": 1.0},
          g: int | None = None,
          h: Literal["p", "q"] = "p", n: Literal["a", 1] = 1, o: Literal["z"] = "z",
          i: Any = None, j: date = date(2026, 1, 31), k: dict = {},
          l: list[list[str] | None] = [], m: tuple[int, str] = (1, "a")) -> int:
    return take([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o])
""",
    )
    flow = lab.flow("typed.py:typed")
    manifest = json.loads((flow.parent / "typed.manifest.json").read_text())
    ours = parameter_schema(Graph.from_json(json.dumps(manifest["graph"]).encode()))
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from typed_flow import typed;"
        " print(json.dumps(typed.parameters.model_dump()))"
    )
    done = lab.server.run(["-c", code, flow.parent])
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert theirs == ours
    lab.run_flow(flow, "--a", "3", "--e", "[4]", "--no-d", "--h", "q")
    assert lab.newest("typed")["state_type"] == "COMPLETED"


def test_a_worker_that_is_killed_loses_its_attempt_and_prefect_makes_another(lab: Lab) -> None:
    lab.write(
        "mortal.py",
        """
import os, signal
from penstock import Retry, context, pipeline, step

@step(retry=Retry(2, base="10ms", on="killed"))
def mortal() -> int:
    if context().attempt == 1: os.kill(os.getpid(), signal.SIGKILL)
    return context().attempt

@step
def doomed() -> int: os.kill(os.getpid(), signal.SIGKILL)

@pipeline
def main(both: bool = False) -> int:
    doomed()
    return mortal()
""",
    )
    done = lab.run_flow(lab.flow("mortal.py:main"), more={"PENSTOCK_WORKERS": "1"})
    assert done.returncode == 1, done.stderr
    run = lab.newest("main")
    assert lab.states(run["id"]) == {"mortal": "Completed", "doomed": "Failed"}
    steps = {each["step"]: each for each in lab.shown(run["name"])["steps"]}
    assert (steps["mortal"]["state"], steps["mortal"]["attempts"]) == ("succeeded", 2)
    assert (steps["doomed"]["state"], steps["doomed"]["attempts"]) == ("failed", 1)


SLOW = """
import subprocess, sys, time
from pathlib import Path
from penstock import pipeline, step

@step
def slow() -> int:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path("child").write_text(str(child.pid))
    while not Path("go").exists(): time.sleep(0.05)
    child.kill()
    return 1

@step
def last(x: int) -> int: return x + 1

@pipeline
def NAME() -> int: return last(slow())
"""


def _started(lab: Lab, name: str) -> tuple[subprocess.Popen[bytes], int]:
    """A flow in the middle of its slow step, and the process that the step has started."""
    lab.write(f"{name}.py", SLOW.replace("NAME", name))
    flow = lab.flow(f"{name}.py:{name}")
    environment = {**lab.server.environment, **lab.environment}
    process = subprocess.Popen([lab.server.python, flow], cwd=lab.folder, env=environment, stdin=subprocess.DEVNULL)
    child = lab.folder / "child"
    lab.server.processes.wait_until("the step runs", lambda: child.exists() and child.read_text(), timeout=60)
    return process, int(child.read_text())


def _gone(lab: Lab, pid: int) -> None:
    lab.server.processes.wait_until(
        "what the step started is gone", lambda: not Path(f"/proc/{pid}").exists(), timeout=15
    )


def test_a_flow_that_is_killed_leaves_nothing_behind_and_can_be_resumed_here(lab: Lab) -> None:
    process, child = _started(lab, "killed")
    process.kill()
    process.wait()
    _gone(lab, child)
    run = lab.newest("killed")
    lab.write("go", "")
    told = lab.penstock("resume", run["name"], "--on", "local", "--from-engine")
    assert "succeeded" in told.stdout + told.stderr
    assert lab.shown(run["name"])["state"] == "succeeded"


def test_a_flow_that_is_told_to_go_ends_its_steps_and_both_sides_know(lab: Lab) -> None:
    process, child = _started(lab, "told")
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    _gone(lab, child)
    run = lab.newest("told")
    assert lab.shown(run["name"])["state"] == "cancelled"
    assert lab.server.wait_for_flow_run(run["id"])["state_type"] in ("CANCELLED", "CRASHED")


def test_prefects_server_may_be_away_for_a_while(lab: Lab) -> None:
    process, _ = _started(lab, "patient")
    lab.server.processes.stop_one("server")
    lab.server.start_server()
    lab.server.wait_until_ready()
    lab.write("go", "")
    assert process.wait(timeout=120) == 0
    assert lab.server.wait_for_flow_run(lab.newest("patient")["id"])["state_type"] == "COMPLETED"


def test_what_keeps_a_flow_from_beginning_is_said_in_its_state(lab: Lab) -> None:
    lab.write("plain.py", SHOP.replace("def shop", "def plain"))
    flow = lab.flow("plain.py:plain")
    text = flow.read_text()
    manifest = flow.parent / "plain.manifest.json"
    whole = manifest.read_text()

    def told(source: str) -> str:
        flow.write_text(source)
        assert lab.run_flow(flow).returncode == 1
        run = lab.newest("plain")
        assert (run["state_type"], lab.states(run["id"])) == ("FAILED", {})
        return str(run["state"]["message"])

    assert "/nowhere/python" in told(text.replace(sys.executable, "/nowhere/python"))
    pipeline = lab.folder / "plain.py"
    right = pipeline.read_text()
    pipeline.write_text("import nothing_of_the_kind\n" + right)
    assert "nothing_of_the_kind" in told(text)
    pipeline.write_text(right)
    manifest.write_text(whole.replace('"broken"', '"harmless"'))
    assert "it was altered" in told(text)
    manifest.unlink()
    assert "there is no manifest" in told(text)
    manifest.write_text(whole)


BUSY = """
import os, time
from pathlib import Path
from penstock import pipeline, step

@step(PLACES)
def busy(x: int) -> int:
    mark = Path(f"busy-{x}")
    mark.touch()
    limit = time.monotonic() + 20
    while len(list(Path().glob("busy-*"))) < 2 and time.monotonic() < limit: time.sleep(0.01)
    time.sleep(0.3)  # a third one has its chance
    most = len(list(Path().glob("busy-*")))
    mark.unlink()
    return most

@step
def highest(counts: list[int]) -> int: return max(counts)

@pipeline
def NAME(xs: list[int] = [0, 1, 2, 3, 4, 5]) -> int: return highest(busy.map(x=xs))
"""


@pytest.mark.parametrize(("name", "places"), [("counted", "max_parallel=2"), ("pooled", 'pool="hands"')])
def test_no_more_of_a_step_run_at_a_time_than_it_has_places(lab: Lab, name: str, places: str) -> None:
    lab.write("penstock.toml", "[pools]\nhands = 2\n")
    lab.write(f"{name}.py", BUSY.replace("NAME", name).replace("PLACES", places))
    done = lab.run_flow(lab.flow(f"{name}.py:{name}"), more={"PENSTOCK_WORKERS": "4"})
    assert done.returncode == 0, done.stderr
    assert lab.output(lab.newest(name)["name"], "highest") == 2


def test_an_interrupt_at_the_terminal_ends_everything(lab: Lab) -> None:
    process, child = _started(lab, "interrupted")
    os.kill(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    _gone(lab, child)
    assert lab.shown(lab.newest("interrupted")["name"])["state"] == "cancelled"
