"""Stopping, dying and resuming, with real processes and real signals."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys

import pytest

from penstock.cli.progress import PlainProgress
from penstock.core.errors import CodeChangedError, FencedError, UsageError
from penstock.engine.processtree import descendants
from penstock.engine.single import StepExit
from penstock.ports.events import RunCancelRequested, StepSkipped
from penstock.ports.records import RunState
from penstock.wiring.runner import LocalRunner, find_run

from .engine_lab import Lab, finish, gone, last_json, states, wait_for

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
    # The resumed attempt starts none: what a step leaves when it ends by itself stays, and would outlive the test.
    start = "mark(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    body = f'(HERE / "go").exists() or {start}; hold()'
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
    repaired = source.replace('raise ValueError("unfinished")', "return x + 1")
    lab.write(repaired.replace("return 1\n", "return 3\n"))
    with pytest.raises(CodeChangedError, match="first") as refused:
        lab.resume("last")
    assert "first finished with the code of then" in (refused.value.hint or "")
    run = lab.resume("last", with_current_code=True)
    assert run.output == 2
    assert run.kept == ("first",)
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


@pytest.mark.parametrize("how", ["inline", "processes"])
def test_what_a_stopped_step_started_ends_with_it(lab: Lab, how: str) -> None:
    body = "mark(subprocess.Popen(['sleep', '600'], start_new_session=True).pid); hold()"
    lab.write(WAITING.format(options="", kind="", body=body, branches="pass"))
    process = lab.start(f"lab.main.using(one_process_per_step={how == 'processes'}).run()")
    arrived(lab)
    children = [int(word) for word in lab.ran() if word.isdigit()]
    process.send_signal(signal.SIGINT)
    finish(process)
    assert state_of(lab) is RunState.CANCELLED
    wait_for(lambda: gone(children[-1]), "the step's child outlived it")


@pytest.mark.parametrize("how", ["inline", "processes", "worker"])
def test_sigterm_stops_a_run_cleanly_as_ctrl_c_does_and_resume_finishes(lab: Lab, how: str) -> None:
    options = 'isolation="process"' if how == "worker" else ""
    lab.write(WAITING.format(options=options, kind="", body="hold()", branches="pass"))
    process = lab.start(f"lab.main.using(one_process_per_step={how == 'processes'}).run()")
    arrived(lab)
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert process.returncode != -signal.SIGTERM
    assert state_of(lab) is RunState.CANCELLED
    let_go(lab)
    assert lab.resume("last").output == 2
    assert lab.ran().count("first") == 1


def test_sigterm_still_ends_a_process_that_a_step_forked(lab: Lab) -> None:
    # Up first: a signal that comes while Python is still forking is lost, in any program.
    up = "target=lambda: (arrive('up'), threading.Event().wait())"
    body = f"child = multiprocessing.get_context('fork').Process({up}); child.start(); await_file('up')"
    ends = "child.terminate(); child.join(); mark(str(child.exitcode))"
    lab.write("import multiprocessing\n" + WAITING.format(options="", kind="", body=f"{body}; {ends}", branches="pass"))
    finish(lab.start("lab.main.run()"))
    assert lab.ran()[-2] == str(-signal.SIGTERM)
    assert state_of(lab) is RunState.SUCCEEDED


def test_a_program_with_its_own_sigterm_handler_keeps_it(lab: Lab) -> None:
    body = "os.kill(os.getpid(), signal.SIGTERM)"
    lab.write("import signal\n" + WAITING.format(options="", kind="", body=body, branches="pass"))
    process = lab.start("import signal; signal.signal(signal.SIGTERM, lambda *_: lab.mark('own')); lab.main.run()")
    finish(process)
    assert "own" in lab.ran()
    assert state_of(lab) is RunState.SUCCEEDED


def test_what_a_step_leaves_running_stays_when_it_ends_by_itself(lab: Lab) -> None:
    quiet = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    body = f"mark(subprocess.Popen(['sleep', '600'], start_new_session=True, {quiet}).pid)"
    lab.write(WAITING.format(options="", kind="", body=body, branches="pass"))
    process = lab.start("lab.main.run()")
    finish(process)
    child = int(lab.ran()[-2])
    assert not gone(child)
    os.kill(child, signal.SIGKILL)


def test_a_step_that_another_process_began_is_awaited_and_its_attempt_left_alone(lab: Lab) -> None:
    """Our child finds it taken and ends with 5: the log says when the other one is done."""
    lab.write("""
@step
def gate() -> int:
    arrive("at-gate"); await_file("open")
    return 1

@step
def work(x: int) -> int:
    mark("work"); arrive("there"); await_file("go")
    return x + 1

@pipeline
def main() -> int:
    return work(gate())
""")
    engine = lab.start("run = lab.main.using(one_process_per_step=True).run(); print(json.dumps(run.output))")
    wait_for(lambda: (lab.root / "at-gate").exists())
    run_id = lab.last_run()
    manifest = lab.root / ".penstock" / "manifests" / f"{run_id}.json"
    engine.send_signal(signal.SIGSTOP)
    (lab.root / "open").touch()
    store = lab.project().store
    wait_for(lambda: [each for each in store.step_runs(run_id) if each.step == "gate" and each.state.has_output])
    command = [sys.executable, "-P", "-m", "penstock", "exec-step", "--manifest", str(manifest), "--run", run_id]
    with subprocess.Popen([*command, "--step", "work"], cwd=lab.root, text=True) as other:
        arrived(lab)
        twin = subprocess.run([*command, "--step", "work"], cwd=lab.root, timeout=60)
        assert twin.returncode == StepExit.FENCED
        engine.send_signal(signal.SIGCONT)
        wait_for(lambda: len(_exec_steps(engine.pid)) == 1)
        wait_for(lambda: not _exec_steps(engine.pid))
        assert engine.poll() is None, "it waits for the other one"
        let_go(lab)
        assert other.wait(60) == 0
    code, out, err = finish(engine)
    assert (code, last_json(out)) == (0, 2), err
    assert [(each.number, each.state, each.pid) for each in store.attempts(run_id, "work")] == [
        (1, "succeeded", other.pid)
    ]
    assert lab.ran() == ["work"]


def test_exec_step_for_a_run_that_is_over_writes_nothing(lab: Lab) -> None:
    waiting(lab, "inline")
    process = lab.start("lab.main.using(one_process_per_step=True).run()")
    arrived(lab)
    process.send_signal(signal.SIGINT)
    finish(process)
    run_id = lab.last_run()
    manifest = lab.root / ".penstock" / "manifests" / f"{run_id}.json"
    store = lab.project().store
    before = store.events(run_id)
    let_go(lab)
    command = [sys.executable, "-P", "-m", "penstock", "exec-step", "--manifest", str(manifest), "--run", run_id]
    for more, code in (([], StepExit.FAILED), (["--index", "../../.."], 2), (["--index", str(lab.root)], 2)):
        done = subprocess.run([*command, "--step", "second", *more], cwd=lab.root, timeout=60, capture_output=True)
        assert done.returncode == code, done.stderr
    assert store.events(run_id) == before
    assert lab.file.exists()


def test_a_dead_runs_running_step_is_told_as_interrupted(lab: Lab) -> None:
    process = waiting(lab, "inline").start_file()
    arrived(lab)
    assert "1 running" in told(lab, "ls")
    process.kill()
    finish(process)
    assert "1 interrupted" in told(lab, "ls")
    assert " running" not in told(lab, "ls")
    assert re.search(r"second +\S interrupted", told(lab, "show"))
    assert " running" not in told(lab, "show", "last", "second")
    assert json.loads(told(lab, "ls", "--json"))[0]["counts"]["interrupted"] == 1
    assert [each["state"] for each in json.loads(told(lab, "show", "--json"))["steps"]] == ["succeeded", "interrupted"]
    (step,) = json.loads(told(lab, "show", "last", "second", "--json"))
    assert (step["state"], [each["state"] for each in step["attempts_made"]]) == ("interrupted", ["interrupted"])


def test_a_stopped_step_is_told_as_stopped_not_as_an_exception(lab: Lab) -> None:
    waiting(lab, "inline")
    process = lab.start(f"from penstock.cli.app import main\nsys.exit(main(['run', {str(lab.file)!r} + ':main']))")
    arrived(lab)
    process.send_signal(signal.SIGINT)
    _, _, err = finish(process)
    assert "second cancelled: stopped" in err
    assert "KeyboardInterrupt: KeyboardInterrupt" not in err + told(lab, "show")


def test_attempts_are_told_within_the_budget_that_a_resume_gives_anew(lab: Lab) -> None:
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
    shown = io.StringIO()
    lab.runner().resume(run.id, str(lab.root), workers=1, echo=False, check=False, listener=PlainProgress(shown))
    assert "flaky attempt 1 of 2 failed" in shown.getvalue()
    assert "flaky (attempt 2 of 2)" in shown.getvalue()
    assert "3" not in re.sub(r"\d+(\.\d+)? m?s|OSError: 3|run .*", "", shown.getvalue())


def told(lab: Lab, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "penstock", *words]
    return subprocess.run(command, cwd=lab.root, timeout=60, capture_output=True, text=True, check=True).stdout


def _exec_steps(parent: int) -> list[int]:
    return [pid for pid in descendants(parent) if not gone(pid)]
