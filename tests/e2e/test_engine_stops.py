"""Stopping, dying and resuming, with real processes and real signals."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.errors import CodeChangedError, FencedError, UsageError
from penstock.ports.events import RunCancelRequested, StepSkipped
from penstock.ports.records import RunState
from penstock.wiring.runner import LocalRunner, find_run

from .engine_lab import Lab, finish, gone, states, wait_for


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as found:
        yield found


WAITING = """
def hold():
    arrive("there")
    if (HERE / "go").exists():
        return
    await_file("go", 600)

@step
def first() -> int:
    mark("first")
    return 1

@step({options})
{kind}def second(x: int) -> int:
    mark("second"); mark(os.getpid())
    {body}
    mark("done")
    return x + 1

@step
def side(x: int) -> int:
    return x

@pipeline
def main() -> int:
    x = first()
    {branches}
    return second(x)

if __name__ == "__main__":
    print(main.using(workers=2).run().output)
"""

KINDS = {
    "inline": ("", "", "hold()"),
    "worker": ('isolation="process"', "", "hold()"),
    "thread": ('isolation="thread"', "", "await_file('go', 3) if not arrive('there') else None"),
    "async": ("", "async ", "arrive('there'); await (asyncio.sleep(0 if (HERE / 'go').exists() else 600))"),
}


def waiting(lab: Lab, kind: str) -> Lab:
    options, prefix, body = KINDS[kind]
    return lab.write(WAITING.format(options=options, kind=prefix, body=body, branches="pass"))


def arrived(lab: Lab) -> None:
    wait_for(lambda: (lab.root / "there").exists(), "the step never began")


def let_go(lab: Lab) -> None:
    (lab.root / "go").touch()


def state_of(lab: Lab, run: str = "last") -> RunState:
    return find_run(lab.project(), run).state


@pytest.mark.parametrize("kind", ["inline", "worker", "async"])
def test_ctrl_c_once_stops_cleanly_and_the_run_can_be_resumed(lab: Lab, kind: str) -> None:
    process = waiting(lab, kind).start_file()
    arrived(lab)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 1
    assert "was stopped" in err
    assert state_of(lab) is RunState.CANCELLED
    runs = {each.step: each.state.value for each in lab.project().store.step_runs(lab.last_run())}
    assert runs == {"first": "succeeded", "second": "cancelled"}
    let_go(lab)
    run = lab.resume("last")
    assert (run.state, run.output) == (RunState.SUCCEEDED, 2)
    assert [word for word in lab.ran() if word.isalpha()] == ["first", "second", "second", "done"]


def test_ctrl_c_waits_for_a_thread_a_while_since_it_cannot_be_stopped(lab: Lab) -> None:
    process = waiting(lab, "thread").start_file()
    arrived(lab)
    process.send_signal(signal.SIGINT)
    let_go(lab)
    code, _, err = finish(process)
    assert "done" in lab.ran(), err
    assert state_of(lab) is RunState.SUCCEEDED, "everything had finished before it stopped"
    assert code == 0


@pytest.mark.parametrize("kind", ["worker", "thread"])
def test_ctrl_c_twice_ends_now(lab: Lab, kind: str) -> None:
    options, prefix, _ = KINDS[kind]
    stubborn = "signal.signal(signal.SIGINT, signal.SIG_IGN); hold()" if kind == "worker" else "hold()"
    lab.write(WAITING.format(options=options, kind=prefix, body=stubborn, branches="pass"))
    process = lab.start_file()
    arrived(lab)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: process.poll() is not None or process.send_signal(signal.SIGINT))
    assert finish(process)[0] == 130
    assert state_of(lab) is RunState.INTERRUPTED
    pid = int(lab.ran()[2])
    wait_for(lambda: gone(pid))
    let_go(lab)
    assert lab.resume("last").output == 2
    assert lab.ran().count("first") == 1


@pytest.mark.parametrize("kind", ["inline", "worker"])
def test_cancel_from_another_process_stops_the_run(lab: Lab, kind: str) -> None:
    process = waiting(lab, kind).start_file()
    arrived(lab)
    store = lab.project().store
    store.append(lab.last_run(), 1, [RunCancelRequested(at=1, by="somebody")])
    code, _, _ = finish(process)
    assert code == 1
    assert state_of(lab) is RunState.CANCELLED
    let_go(lab)
    assert lab.resume("last").output == 2


def test_a_cancel_stops_a_run_in_a_thread_that_is_not_the_main_one(lab: Lab) -> None:
    waiting(lab, "worker")
    process = lab.start(
        "import threading\nt = threading.Thread(target=lambda: lab.main.using(workers=2).run())\nt.start(); t.join()"
    )
    arrived(lab)
    lab.project().store.append(lab.last_run(), 1, [RunCancelRequested(at=1)])
    finish(process)
    assert state_of(lab) is RunState.CANCELLED


def test_ctrl_c_stops_step_processes_too(lab: Lab) -> None:
    waiting(lab, "inline")
    process = lab.start("lab.main.using(one_process_per_step=True).run()")
    arrived(lab)
    process.send_signal(signal.SIGINT)
    finish(process)
    assert state_of(lab) is RunState.CANCELLED
    wait_for(lambda: gone(int(lab.ran()[2])))
    let_go(lab)
    run = lab.resume("last", one_process_per_step=True)
    assert run.output == 2
    assert lab.ran().count("first") == 1


@pytest.mark.parametrize("how", ["worker", "processes", "supervised"])
def test_kill_9_of_the_engine_takes_workers_and_their_children_along_and_resume_finishes(lab: Lab, how: str) -> None:
    options = {"worker": 'isolation="process"', "processes": "", "supervised": 'timeout="10m"'}[how]
    body = "mark(subprocess.Popen(['sleep', '600'], start_new_session=True).pid); hold()"
    lab.write(WAITING.format(options=options, kind="", body=body, branches="pass"))
    process = lab.start(f"lab.main.using(workers=2, one_process_per_step={how != 'worker'}).run()")
    arrived(lab)
    assert state_of(lab) is RunState.RUNNING
    with pytest.raises(UsageError, match="is still running"):
        lab.resume("last")
    process.kill()
    finish(process)
    for pid in (int(word) for word in lab.ran() if word.isdigit()):
        wait_for(lambda pid=pid: gone(pid), f"{pid} outlived its engine")
    assert state_of(lab) is RunState.INTERRUPTED
    let_go(lab)
    run = lab.resume("last", one_process_per_step=how != "worker")
    assert run.output == 2
    assert run.step("second").attempts == 2
    assert [word for word in lab.ran() if word.isalpha()] == ["first", "second", "second", "done"]
    with pytest.raises(UsageError, match="succeeded"):
        lab.resume("last")


def test_an_inline_step_that_kills_the_process_leaves_an_interrupted_run_that_can_be_resumed(lab: Lab) -> None:
    lab.write(
        WAITING.format(options="", kind="", body='(HERE / "go").exists() or ctypes.string_at(0)', branches="pass")
    )
    process = lab.start_file()
    code, _, _ = finish(process)
    assert code == -signal.SIGSEGV
    assert state_of(lab) is RunState.INTERRUPTED
    let_go(lab)
    assert lab.resume("last").output == 2
    assert lab.ran().count("first") == 1


def test_a_stopped_engine_that_wakes_after_a_takeover_is_fenced_and_says_so(lab: Lab) -> None:
    process = waiting(lab, "worker").start_file()
    arrived(lab)
    run_id = lab.last_run()
    process.send_signal(signal.SIGSTOP)
    try:
        # Another machine sees no lock of this host, only that the lease has run out.
        elsewhere = lab.project(home="elsewhere", runs=f"sqlite:///{lab.root}/.penstock/runs.db",
                                artifacts=f"{lab.root}/.penstock/artifacts")  # fmt: skip
        with sqlite3.connect(lab.root / ".penstock" / "runs.db") as database:
            column = next(row[1] for row in database.execute("PRAGMA table_info(runs)") if "lease" in row[1])
            database.execute(f"UPDATE runs SET {column} = 0")
        let_go(lab)
        run = LocalRunner(project=elsewhere).resume(run_id, str(lab.root), workers=2, echo=False)
        assert run.output == 2
    finally:
        process.send_signal(signal.SIGCONT)
    code, _, err = finish(process)
    assert code == 1
    assert "FencedError" in err
    assert "taken over" in err
    assert state_of(lab, run_id) is RunState.SUCCEEDED
    with pytest.raises(FencedError):
        lab.project().store.append(run_id, 1, [StepSkipped(at=1, step="first", because="")])


def test_resume_refuses_changed_code_unless_told_to_take_it(lab: Lab) -> None:
    source = """
@step
def first() -> int:
    mark("first")
    return 1

@step
def second(x: int) -> int:
    mark("second")
    raise ValueError("unfinished")

@pipeline
def main() -> int:
    return second(first())

if __name__ == "__main__":
    main.run()
"""
    finish(lab.write(source).start_file())
    lab.write(source.replace('raise ValueError("unfinished")', "return x + 1"))
    with pytest.raises(CodeChangedError, match="second"):
        lab.resume("last")
    run = lab.resume("last", with_current_code=True)
    assert run.output == 2
    assert lab.ran() == ["first", "second", "second"]


def test_a_resumed_run_has_its_retries_again_and_goes_on_counting(lab: Lab) -> None:
    lab.write("""
@step(retry=Retry(2, base=0))
def flaky() -> int:
    if context().attempt < 4:
        raise OSError(str(context().attempt))
    return context().attempt

@pipeline
def main() -> int:
    return flaky()
""")
    run = lab.run()
    assert (run.state, run.step("flaky").attempts) == (RunState.FAILED, 2)
    assert lab.resume(run.id).output == 4


def test_a_closed_map_opens_again_when_resumed(lab: Lab) -> None:
    lab.write("""
@step
def numbers() -> list[int]:
    if not (HERE / "go").exists():
        raise OSError("not yet")
    return [1, 2]

@step
def double(x: int) -> int: return 2 * x

@step
def total(xs: list[int]) -> int: return sum(xs)

@pipeline
def inner(x: int) -> int:
    return total.named("sum")(double.map(x=numbers()))

@pipeline
def main() -> dict:
    return {"flat": total(double.map(x=numbers())), "nested": inner.map(x=[1])}
""")
    run = lab.run()
    assert states(run)["double"] == "upstream_failed"
    let_go(lab)
    again = lab.resume(run.id)
    assert again.output == {"flat": 6, "nested": [6]}
    assert again.state is RunState.SUCCEEDED


def test_a_finished_step_whose_bytes_are_gone_runs_again_on_resume(lab: Lab) -> None:
    lab.write("""
@step
def big() -> bytes:
    mark("big")
    return b"x" * 1_000_000

@step
def size(content: bytes) -> int:
    if not (HERE / "go").exists():
        raise OSError("not yet")
    return len(content)

@pipeline
def main() -> int:
    return size(big())
""")
    run = lab.run()
    digest = run.step("big").outputs["output"].blobs[0].digest
    for file in (lab.root / ".penstock" / "artifacts").rglob("*"):
        if file.is_file() and file.stat().st_size >= 1_000_000:
            os.unlink(file)
    let_go(lab)
    assert digest
    assert lab.resume(run.id).output == 1_000_000
    assert lab.ran() == ["big", "big"]


def test_an_at_most_once_effect_is_not_tried_again_after_a_crash(lab: Lab) -> None:
    lab.write(
        WAITING.format(options='isolation="process", effect="at-most-once"', kind="", body="hold()", branches="pass")
    )
    process = lab.start_file()
    arrived(lab)
    process.kill()
    finish(process)
    let_go(lab)
    run = lab.resume("last")
    assert run.state is RunState.FAILED
    assert "may have happened" in run.step("second").failure.message
    assert lab.ran().count("second") == 1
