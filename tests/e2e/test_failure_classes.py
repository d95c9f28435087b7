"""Failures told apart by real processes, memory that grows, and the end of the same error: recorded and shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.ports.events import AttemptStarted
from penstock.ports.records import Attempt

from .engine_lab import DEADLINE_S, Lab, finish, last_json, states, wait_for

MODES: list[dict[str, Any]] = [{}, {"one_process_per_step": True}]
BY_NAME = ["engine", "exec-step"]
MIB = 1024 * 1024


def attempts(lab: Lab, run_id: str, step: str) -> list[Attempt]:
    return lab.project().store.attempts(run_id, step)


def kinds(lab: Lab, run_id: str, step: str) -> list[str | None]:
    return [each.failure.kind.value if each.failure else None for each in attempts(lab, run_id, step)]


def penstock(lab: Lab, *arguments: str) -> str:
    command = [sys.executable, "-m", "penstock", *arguments]
    return subprocess.run(command, cwd=lab.root, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


@pytest.mark.parametrize("mode", MODES, ids=BY_NAME)
def test_network_failures_are_told_apart_from_the_users_and_shown_everywhere(lab: Lab, mode: dict[str, Any]) -> None:
    lab.write("""
from penstock import FailureClass

@step(retry=Retry(3, base=0, on=FailureClass.NETWORK))
def away() -> int:
    print("asking")
    try:
        raise ConnectionResetError("reset by peer")
    except OSError as error:
        raise RuntimeError("the feature store is away") from error

@step(retry=Retry(3, base=0, on=("network", "timeout")))
def wrong() -> int:
    raise ValueError("no such column")

@pipeline
def main() -> None:
    away(); wrong()
""")
    run = lab.run(**mode)
    assert kinds(lab, run.id, "away") == ["network"] * 3
    assert kinds(lab, run.id, "wrong") == ["error"]
    assert "network: RuntimeError: the feature store is away" in penstock(lab, "show", "last")
    assert penstock(lab, "show", "last", "away").count("network: RuntimeError: the feature store is away") == 4
    assert "attempt 2 (network: RuntimeError: the feature store is away)" in penstock(lab, "logs", "last", "away")
    assert {piece["failure_class"] for piece in json.loads(penstock(lab, "logs", "last", "away", "--json"))} == {
        "network"
    }
    told = json.loads(penstock(lab, "show", "last", "wrong", "--json"))
    assert told[0]["failure"]["kind"] == "error"


@pytest.mark.parametrize("mode", MODES, ids=BY_NAME)
@pytest.mark.parametrize(("number", "kind"), [("SIGTERM", "preempted"), ("SIGSEGV", "killed"), ("SIGKILL", "killed")])
def test_a_process_that_is_told_to_go_is_preempted_and_one_that_is_shot_is_killed(
    lab: Lab, mode: dict[str, Any], number: str, kind: str
) -> None:
    lab.write(f"""
@step(retry=Retry(2, base=0, on="{kind}"), isolation="process")
def struck() -> int:
    if context().attempt == 1:
        os.kill(os.getpid(), signal.{number})
        threading.Event().wait(600)
    return context().attempt

@pipeline
def main() -> int:
    return struck()
""")
    run = lab.run(**mode)
    assert kinds(lab, run.id, "struck") == [kind, None]
    assert run.output == 2


def test_a_step_process_that_is_told_to_go_records_it_itself_and_runs_the_steps_finally(lab: Lab) -> None:
    lab.write("""
@step
def going() -> int:
    try:
        arrive(f"pid-{os.getpid()}")
        threading.Event().wait(600)
    finally:
        arrive("tidied")

@pipeline
def main() -> int:
    return going()
""")
    process = lab.start(
        "from penstock.wiring.runner import LocalRunner\n"
        "from penstock.wiring.project import Project\n"
        "from penstock.wiring.config import load_settings\n"
        f"runner = LocalRunner(project=Project(load_settings({str(lab.root)!r})))\n"
        "run = runner.run(lab.main.trace({}), {}, one_process_per_step=True, echo=False, check=False)\n"
        "print(json.dumps(run.step('going').failure.kind))"
    )
    pid = int(wait_for(lambda: next(iter(lab.root.glob("pid-*")), None)).name.removeprefix("pid-"))
    os.kill(pid, signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, last_json(out)) == (0, "preempted"), err
    assert (lab.root / "tidied").exists()


GROWING = """
from penstock import Grow, Resources

@step(
    retry=Retry(5, base=0, on="out_of_memory"),
    resources=Resources(memory="64Mi"),
    limits=Limits(memory="64Mi", on_out_of_memory=Grow(factor=2, cap="200Mi")),
)
def hungry(mib: int) -> list[int]:
    held = bytearray(mib * 1024 * 1024)
    return [context().attempt, context().limits.memory_bytes // (1024 * 1024)]

@pipeline
def main(mib: int = 100) -> list[int]:
    return hungry(mib)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="capability missing: memory limits")
@pytest.mark.parametrize("mode", MODES, ids=BY_NAME)
def test_an_attempt_after_one_that_ran_out_of_memory_gets_more_up_to_the_cap_and_says_so(
    lab: Lab, mode: dict[str, Any]
) -> None:
    lab.write(GROWING)
    run = lab.run(parameters={"mib": 150}, **mode)
    assert run.output == [3, 200]
    assert kinds(lab, run.id, "hungry") == ["out_of_memory", "out_of_memory", None]
    started = [event for _, event in lab.project().store.events(run.id) if isinstance(event, AttemptStarted)]
    assert [each.memory_limit for each in started] == [64 * MIB, 128 * MIB, 200 * MIB]
    assert [each.waived for each in started] == [(f"memory={each.memory_limit}",) for each in started]
    told = json.loads(penstock(lab, "show", "last", "hungry", "--json"))[0]
    assert [each["memory_limit"] for each in told["attempts_made"]] == [64 * MIB, 128 * MIB, 200 * MIB]
    assert "limit 128.0 MiB" in penstock(lab, "show", "last", "hungry")


@pytest.mark.skipif(sys.platform != "linux", reason="capability missing: memory limits")
def test_memory_that_has_grown_stays_so_after_a_resume_and_a_policy_starts_anew(lab: Lab) -> None:
    lab.write(GROWING.replace("Retry(5,", "Retry(2,"))
    run = lab.run(parameters={"mib": 150})
    assert states(run) == {"hungry": "failed"}
    assert attempts(lab, run.id, "hungry")[-1].number == 2
    resumed = lab.resume(run.id)
    assert resumed.output == [3, 200]


SAME = """
@step(retry=Retry(5, base=0))
def pure(n: int) -> int:
    mark("pure")
    raise ValueError(f"cannot use {n}")
"""


@pytest.mark.parametrize("mode", MODES, ids=BY_NAME)
def test_a_pure_step_that_meets_the_same_error_twice_is_not_tried_again_and_says_why(
    lab: Lab, mode: dict[str, Any]
) -> None:
    lab.write(SAME + "@pipeline\ndef main() -> int: return pure(3)\n")
    run = lab.run(**mode)
    assert kinds(lab, run.id, "pure") == ["error", "error"]
    hint = run.step("pure").failure.hint
    assert hint.startswith("the same ValueError twice on the same inputs: another attempt would meet it again")
    assert "even_if_same=True" in hint
    resumed = lab.resume(run.id, **mode)  # a policy starts anew: one more may be the first of two
    assert [each.number for each in attempts(lab, resumed.id, "pure")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ("retry=Retry(3, base=0, even_if_same=True)", 'raise ValueError("no")'),
        ("retry=Retry(3, base=0, on=ValueError)", 'raise ValueError("no")'),
        ('retry=Retry(3, base=0, on="error")', 'raise ValueError("no")'),
        ("retry=Retry(3, base=0), cache=False", 'raise ValueError("no")'),
        ('retry=Retry(3, base=0), effect="at-least-once"', 'raise ValueError("no")'),
        ("retry=Retry(3, base=0)", 'raise OSError("the disk says no")'),
        ("retry=Retry(3, base=0)", 'raise ConnectionError("no")'),
        ("retry=Retry(3, base=0)", "raise ValueError(time.monotonic_ns())"),
        ("retry=Retry(3, base=0)", 'raise ValueError("no") if context().attempt else None'),
        ("retry=Retry(3, base=0)", 'context().checkpoint_dir; raise ValueError("no")'),
        ("retry=Retry(3, base=0)", 'context().observe("file", "x", "1"); raise ValueError("no")'),
        ("retry=Retry(3, base=0)", "deeper(len((HERE / 'ran.txt').read_text()))"),
        ('retry=Retry(3, base=0), isolation="process"', "os._exit(3)"),
        ('retry=Retry(3, base=0), timeout="100ms"', "threading.Event().wait(60)"),
    ],
)
def test_attempts_are_made_as_asked_for_wherever_the_next_one_might_not_meet_the_same(
    lab: Lab, options: str, body: str
) -> None:
    lab.write(f"""
def deeper(length):
    if length < 8:
        raise ValueError("no")
    raise ValueError("no")

@step({options})
def tried() -> int:
    mark("tried"); {body}

@pipeline
def main() -> int:
    return tried()
""")
    run = lab.run()
    assert [each.number for each in attempts(lab, run.id, "tried")] == [1, 2, 3]
    assert "twice" not in (run.step("tried").failure.hint or "")


IN_A_GROUP = """
import os, sys, uuid
group = sys.argv[1]
open(f"{group}/cgroup.procs", "w").write(str(os.getpid()))
os.chdir(sys.argv[2])
sys.path.insert(0, sys.argv[2])
from penstock.wiring.config import load_settings
from penstock.wiring.project import Project
from penstock.wiring.runner import LocalRunner
import importlib
lab = importlib.import_module(sys.argv[3])
runner = LocalRunner(project=Project(load_settings(sys.argv[2])))
mode = {"one_process_per_step": True} if sys.argv[4] == "exec-step" else {}
run = runner.run(lab.main.trace({}), {}, echo=False, check=False, workers=2, **mode)
failure = run.step("greedy").failure
print(failure.kind.value, "|", failure.message, "|", run.step("shot").failure.kind.value)
"""


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group of our own with 160 MiB, where the kernel kills what needs more."""
    version_2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    group = Path("/sys/fs/cgroup" if version_2 else "/sys/fs/cgroup/memory") / f"penstock-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if version_2 else "memory.limit_in_bytes")).write_text(str(160 * MIB))
        swap = group / ("memory.swap.max" if version_2 else "memory.memsw.limit_in_bytes")
        if swap.exists():
            swap.write_text("0" if version_2 else str(160 * MIB))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"capability missing: a memory control group of our own ({error.strerror})")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text().split())
    group.rmdir()


@pytest.mark.parametrize("mode", BY_NAME)
def test_a_step_that_the_kernel_kills_for_memory_ran_out_of_memory_and_one_shot_beside_it_was_killed(
    lab: Lab, memory_group: Path, mode: str
) -> None:
    lab.write("""
@step(isolation="process")
def greedy() -> int:
    held = bytearray(512 * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
    return len(held)

@step(isolation="process")
def shot() -> int:
    os.kill(os.getpid(), signal.SIGKILL)

@pipeline
def main() -> None:
    greedy(); shot()
""")
    program = lab.root / "grouped.py"
    program.write_text(textwrap.dedent(IN_A_GROUP))
    done = subprocess.run(
        [sys.executable, str(program), str(memory_group), str(lab.root), lab.file.stem, mode],
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.stdout.strip() == "out_of_memory | the kernel killed the process of 'greedy' for memory | killed", done
