"""Steps that end their process, flood the log or are ended by the kernel: recorded by name, and the run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.engine import workers
from penstock.ports.records import FailureClass, RunState
from penstock.wiring.runner import find_run

from ..e2e.engine_lab import Lab, finish, states, wait_for

MEMORY = Path("/sys/fs/cgroup/memory")  # version 1 of control groups
UNIFIED = Path("/sys/fs/cgroup")


FATAL = """
@step
def first() -> int:
    mark("first")
    return 1

@step
def fatal(x: int) -> int:
    mark("fatal")
    if not (HERE / "tame").exists():
        {body}
    return x + 1

@step
def last(x: int) -> int:
    mark("last")
    return x + 1

@pipeline
def main() -> int:
    return last(fatal(first()))
"""
DEATHS = {
    "os._exit": ("os._exit(0)", 0, "ended with exit code 0"),
    "segfault": ("ctypes.string_at(0)", -signal.SIGSEGV, "was killed by SIGSEGV"),
    "abort": ("os.abort()", -signal.SIGABRT, "was killed by SIGABRT"),
    "kill -9": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "was killed by SIGKILL"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_lone_step_that_ends_the_engines_process_is_named_and_resume_finishes_it(lab: Lab, death: str) -> None:
    body, code, _ = DEATHS[death]
    lab.write(FATAL.format(body=body))
    ended, _, err = finish(lab.start("lab.main.using(workers=1).run()"))
    assert ended == code, err
    assert find_run(lab.project(), "last").state is RunState.INTERRUPTED
    shown = subprocess.run(
        [sys.executable, "-P", "-m", "penstock", "show", "last", "--json"],
        cwd=lab.root, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert {each["step"]: each["state"] for each in json.loads(shown)["steps"]} == {
        "first": "succeeded", "fatal": "interrupted", "last": "pending",
    }  # fmt: skip
    (lab.root / "tame").touch()
    run = lab.resume("last", workers=1)
    assert (run.state, run.output) == (RunState.SUCCEEDED, 3)
    assert lab.ran() == ["first", "fatal", "fatal", "last"]


@pytest.mark.parametrize("death", DEATHS)
def test_when_it_does_so_again_the_step_fails_and_the_engine_lives(lab: Lab, death: str) -> None:
    body, _, told = DEATHS[death]
    lab.write(FATAL.format(body=body))
    finish(lab.start("lab.main.using(workers=1).run()"))
    run = lab.resume("last", workers=1)
    assert states(run) == {"first": "succeeded", "fatal": "failed", "last": "upstream_failed"}
    failure = run.step("fatal").failure
    assert failure is not None
    assert failure.kind is FailureClass.KILLED
    assert failure.message == f"the process of 'fatal' {told}"
    (lab.root / "tame").touch()
    assert lab.resume("last", workers=1).output == 3
    assert lab.ran().count("first") == 1


def test_a_step_that_was_not_running_when_the_process_died_stays_on_the_main_thread(lab: Lab) -> None:
    lab.write(
        FATAL.format(body="os._exit(3)").replace(
            'mark("last")', "mark(threading.current_thread() is threading.main_thread() and os.getpid())"
        )
    )
    finish(lab.start("lab.main.using(workers=1).run()"))
    (lab.root / "tame").touch()
    assert lab.resume("last", workers=1).output == 3
    assert lab.ran()[-1] == str(os.getpid())


GIGABYTE = """
@step{options}
def flood() -> int:
    piece = "y" * (1 << 20)
    for _ in range(1024):
        {write}
    mark("flooded")
    return 1

@pipeline
def main() -> int:
    return flood()
"""
WRITES = {"print": "print(piece)", "descriptor": "os.write(1, piece.encode())"}
BOUND_BYTES = 200 << 20


@pytest.mark.parametrize(
    ("options", "how", "write"),
    [
        ("", "workers=1", "print"),
        ('(isolation="process")', "workers=1", "print"),
        ('(isolation="process")', "workers=1", "descriptor"),
        ("", "one_process_per_step=True", "print"),
    ],
)
def test_a_step_that_prints_a_gigabyte_leaves_memory_and_run_log_small(
    lab: Lab, options: str, how: str, write: str
) -> None:
    lab.write(GIGABYTE.format(options=options, write=WRITES[write]))
    code = f"""
import resource
assert lab.main.using({how}, echo=False).run().output == 1
own = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss keeps the forker's
peaks = [int(own.split()[1]) * 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]
(lab.HERE / "peaks").write_text(json.dumps(peaks))
"""
    head = f"import sys, os, json\nsys.path.insert(0, {str(lab.root)!r})\nimport {lab.file.stem} as lab\n"
    subprocess.run([sys.executable, "-c", head + code], cwd=lab.root, stdout=subprocess.DEVNULL, timeout=60, check=True)
    assert lab.ran() == ["flooded"]
    peaks = json.loads((lab.root / "peaks").read_text())
    assert max(peaks) < BOUND_BYTES, [f"{peak >> 20} MiB" for peak in peaks]
    stored = sum(path.stat().st_size for path in (lab.root / ".penstock").rglob("*") if path.is_file())
    assert (16 << 20) < stored < (64 << 20)
    text = lab.text(lab.last_run(), "flood")
    assert "more characters were not kept" in text[-100:]


GREEDY = """
@step{options}
def greedy() -> int:
    if not (HERE / "tame").exists():
        Path({group!r}, "cgroup.procs").write_text(str(os.getpid()))
        return len([bytes(b"1") * (1 << 20) for _ in range(4000)])
    return 1

@step
def calm() -> int:
    mark("calm")
    return 2

@pipeline
def main() -> list[int]:
    return [greedy(), calm()]
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose members may have 128 MiB together; beyond that the kernel kills."""
    parent, limit = (MEMORY, "memory.limit_in_bytes") if MEMORY.is_dir() else (UNIFIED, "memory.max")
    group = parent / f"penstock-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("missing capability: making a control group for memory (root on Linux)")
    try:
        if not (group / limit).exists():
            pytest.skip("missing capability: the memory controller of control groups")
        (group / limit).write_text(str(128 << 20))
        yield group
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.parametrize(
    ("options", "how"), [('(isolation="process")', {"workers": 2}), ("", {"one_process_per_step": True})]
)
def test_a_step_that_the_kernel_kills_for_memory_fails_and_the_rest_goes_on(
    lab: Lab, small_group: Path, options: str, how: dict[str, object]
) -> None:
    lab.write(GREEDY.format(options=options, group=str(small_group)))
    run = lab.run(**how)
    assert states(run) == {"greedy": "failed", "calm": "succeeded"}
    failure = run.step("greedy").failure
    assert failure is not None
    assert failure.kind in (FailureClass.KILLED, FailureClass.OUT_OF_MEMORY)
    assert "killed" in failure.message
    (lab.root / "tame").touch()
    assert lab.resume(run.id, **how).output == [1, 2]
    assert lab.ran() == ["calm"]


def test_an_engine_that_the_kernel_kills_for_a_lone_steps_memory_leaves_a_run_that_can_be_finished(
    lab: Lab, small_group: Path
) -> None:
    lab.write(GREEDY.format(options="", group=str(small_group)))
    code, _, err = finish(lab.start("lab.main.using(workers=1).run()"))
    assert code == -signal.SIGKILL, err
    assert find_run(lab.project(), "last").state is RunState.INTERRUPTED
    run = lab.resume("last", workers=1)
    assert states(run) == {"greedy": "failed", "calm": "succeeded"}
    (lab.root / "tame").touch()
    assert lab.resume("last", workers=1).output == [1, 2]


def test_threads_and_children_of_a_lone_step_do_not_keep_the_process_or_the_run(lab: Lab) -> None:
    """They live on with the program that called `run`, as they would without penstock; the run is over all the same."""
    lab.write("""
@step
def leaves() -> int:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return 1

@step
def after(x: int) -> int:
    return x + 1

@pipeline
def main() -> int:
    return after(leaves())
""")
    process = lab.start(
        "print(json.dumps(lab.main.using(workers=1).run().output)); os.system('pkill -P %d' % os.getpid())"
    )
    code, out, err = finish(process)
    assert (code, out.strip()) == (0, "2"), err
    assert find_run(lab.project(), "last").state is RunState.SUCCEEDED


def test_a_map_that_a_dead_step_had_blocked_leaves_nothing_behind_once_the_run_is_resumed(lab: Lab) -> None:
    """Found by the soak: the map's own step run, closed as a whole, stayed for ever beside its elements."""
    lab.write("""
@step(isolation="process")
def numbers() -> list[int]:
    if not (HERE / "tame").exists():
        os._exit(9)
    return [1, 2]

@step
def double(n: int) -> int:
    return 2 * n

@pipeline
def main() -> list[int]:
    return double.map(n=numbers())
""")
    run = lab.run()
    assert states(run) == {"numbers": "failed", "double": "upstream_failed"}
    (lab.root / "tame").touch()
    assert lab.resume(run.id).output == [2, 4]
    store = lab.project().store
    assert {(each.step, each.index): each.state.value for each in store.step_runs(run.id)} == {
        ("numbers", ""): "succeeded", ("double", "0"): "succeeded", ("double", "1"): "succeeded",
    }  # fmt: skip
    summary = store.find_run(run.id)
    assert summary is not None
    assert summary.counts == {"succeeded": 3}


def test_workers_that_die_as_they_begin_are_a_killed_attempt_not_the_end_of_the_engine(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the soak: a worker killed before its first message ended the engine with a BrokenPipeError."""
    started: list[int] = []
    popen = subprocess.Popen

    def stillborn(*words: Any, **options: Any) -> Any:
        process = popen([sys.executable, "-c", "pass"], **options)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        started.append(process.pid)
        return process

    lab.write("""
@step(isolation="process")
def one() -> int:
    return 1

@pipeline
def main() -> int:
    return one()
""")
    lab.load()
    monkeypatch.setattr(workers.subprocess, "Popen", stillborn)
    run = lab.run()
    assert states(run) == {"one": "failed"}
    failure = run.step("one").failure
    assert failure is not None
    assert failure.kind is FailureClass.KILLED
    assert failure.message == "the process of 'one' ended with exit code 0"
    assert len(started) >= 3
    monkeypatch.undo()
    assert lab.resume(run.id).output == 1


def test_what_a_step_flushed_is_kept_though_it_is_killed_right_after(lab: Lab) -> None:
    lab.write("""
@step(isolation="process")
def dies() -> int:
    import signal
    for number in range(3):
        print("line", number, flush=True)
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
    return 1

@pipeline
def main() -> int:
    return dies()
""")
    _, _, err = finish(lab.start("lab.main.using(workers=1).run()"))
    assert "SIGKILL" in err
    run = find_run(lab.project(), "last")
    text = "".join(body for *_, body in lab.project().store.read_text(run.record.id, "dies"))
    assert text == "line 0\nline 1\nline 2\n"
