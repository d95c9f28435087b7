"""What can go wrong in a step, and what the engine makes of it: recorded by its class, and the engine goes on."""

from __future__ import annotations

import json
import os
from itertools import pairwise

import pytest

from penstock.core.errors import RunFailedError
from penstock.engine.retry import next_delay
from penstock.ports.events import AttemptFailed, AttemptStarted
from penstock.ports.records import FailureClass

from .engine_lab import Lab, gone, states, wait_for

CALM = """
@step
def calm(n: int) -> int:
    return n
"""


def test_retries_count_attempts_and_keep_each_ones_log_error_and_delay(lab: Lab) -> None:
    lab.write("""
@step(retry=Retry(4, base="20ms", factor=3, cap="100ms", jitter="equal"))
def flaky() -> int:
    print("attempt", context().attempt)
    context().logger.info("logged %d", context().attempt)
    if context().attempt < 4:
        raise OSError(f"failure {context().attempt}")
    return context().attempt

@pipeline
def main() -> int:
    return flaky()
""")
    run = lab.run()
    assert run.output == 4
    store = lab.project().store
    attempts = store.attempts(run.id, "flaky")
    assert [each.number for each in attempts] == [1, 2, 3, 4]
    assert [each.failure.message if each.failure else None for each in attempts] == [
        "failure 1", "failure 2", "failure 3", None,
    ]  # fmt: skip
    for number in (1, 2, 3, 4):
        text = lab.text(run.id, "flaky", attempt=number)
        assert f"attempt {number}\n" in text
        assert f"logged {number}\n" in text
    events = [event for _, event in store.events(run.id)]
    failed = [event for event in events if isinstance(event, AttemptFailed)]
    started = [event for event in events if isinstance(event, AttemptStarted)]
    policy = run.graph.node("flaky").options.retry
    for event, following in zip(failed, started[1:], strict=True):
        replayed = next_delay(policy, event.failure, event.attempt, seed=f"{run.id}:flaky:")
        assert event.retry_at == event.at + int(replayed * 1_000_000)
        assert following.at >= event.retry_at
    assert [0.01 <= (event.retry_at - event.at) / 1e6 <= 0.1 for event in failed] == [True] * 3


def test_on_and_not_on_choose_by_class_subclass_and_failure_class(lab: Lab) -> None:
    lab.write("""
class Mine(Exception): ...
class MineToo(Mine): ...

def once_more(error):
    if context().attempt == 1:
        raise error
    return context().attempt

@step(retry=Retry(2, base=0, on=Mine))
def by_subclass() -> int: return once_more(MineToo())

@step(retry=Retry(2, base=0, on=OSError))
def other_class() -> int: return once_more(ValueError())

@step(retry=Retry(2, base=0, not_on=Mine))
def excluded() -> int: return once_more(MineToo())

@step(retry=Retry(2, base=0, on="timeout"), timeout="300ms")
def by_timeout() -> int:
    if context().attempt == 1:
        threading.Event().wait(60)
    return context().attempt

@step(retry=Retry(2, base=0, on="killed"), isolation="process")
def by_death() -> int:
    if context().attempt == 1:
        os._exit(9)
    return context().attempt

@pipeline
def main() -> None:
    by_subclass(); other_class(); excluded(); by_timeout(); by_death()
""")
    run = lab.run()
    assert {each.step: (each.state.value, each.attempts) for each in run.steps} == {
        "by_subclass": ("succeeded", 2), "other_class": ("failed", 1), "excluded": ("failed", 1),
        "by_timeout": ("succeeded", 2), "by_death": ("succeeded", 2),
    }  # fmt: skip


def test_a_retry_on_a_class_of_the_main_file_works_in_worker_processes(lab: Lab) -> None:
    lab.write("""
class Mine(Exception): ...

@step(retry=Retry(2, base=0, on=Mine), isolation="process")
def flaky() -> int:
    if context().attempt == 1:
        raise Mine()
    return context().attempt

@pipeline
def main() -> int:
    return flaky()

if __name__ == "__main__":
    print(main.run().output)
""")
    process = lab.start_file()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip()) == (0, "2"), err


def test_a_timeout_ends_the_work_and_what_it_started_in_other_sessions_and_orphans_too(lab: Lab) -> None:
    lab.write("""
@step(timeout="1s", retry=Retry(2, base=0))
def stuck() -> None:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    forker = ["setsid", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]
    orphan = subprocess.run(forker, capture_output=True, text=True).stdout.strip()
    mark(child.pid); mark(orphan); mark(os.getpid())
    child.wait()

@pipeline
def main() -> None:
    stuck()
""")
    run = lab.run()
    assert states(run) == {"stuck": "timed_out"}
    assert run.step("stuck").attempts == 2
    assert run.step("stuck").failure.kind is FailureClass.TIMEOUT
    assert "timeout of 1" in run.step("stuck").failure.message
    assert len(lab.ran()) == 6
    for pid in lab.ran():
        wait_for(lambda pid=pid: gone(int(pid)), f"{pid} is still alive")


def test_importing_the_steps_module_does_not_count_against_its_timeout(lab: Lab) -> None:
    lab.write("""
if "PENSTOCK_SLOW" in os.environ:
    threading.Event().wait(1.0)

@step(timeout="700ms")
def quick() -> int:
    return 1

@pipeline
def main() -> int:
    return quick()
""")
    lab.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENSTOCK_SLOW", "1")
        assert lab.run().output == 1


def test_a_memory_limit_is_enforced_and_the_engine_survives(lab: Lab) -> None:
    lab.write(
        CALM
        + """
@step(limits=Limits(memory="100Mi"))
def greedy() -> int:
    return len([bytes(1 << 20) for _ in range(4000)])

@step(limits=Limits(memory="100Mi"))
def many_children() -> int:
    fill = "x = bytearray(60 << 20); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(600)"
    children = [subprocess.Popen([sys.executable, "-c", fill]) for _ in range(6)]
    return [each.wait() for each in children][0]

@pipeline
def main() -> int:
    greedy(); many_children()
    return calm(1)
"""
    )
    run = lab.run()
    assert run.output == 1
    for name in ("greedy", "many_children"):
        assert run.step(name).state.value == "failed"
        assert run.step(name).failure.kind is FailureClass.OUT_OF_MEMORY, run.step(name).failure


def test_whatever_a_step_does_in_a_worker_is_recorded_by_its_class_and_the_engine_goes_on(lab: Lab) -> None:
    lab.write(
        CALM
        + """
class Pair(NamedTuple):
    a: int
    b: int

class Odd(Exception):
    def __str__(self): raise RuntimeError("no")

@step(isolation="process")
def wrong_type() -> Pair: return 7

@step(isolation="process")
def unstorable() -> object: return threading.Lock()

@step(isolation="process")
def sys_exit() -> int: sys.exit(3)

@step(isolation="process")
def os_exit() -> int: os._exit(3)

@step(isolation="process")
def segfault() -> int: return ctypes.string_at(0)

@step(isolation="process")
def unprintable() -> int: raise Odd()

@step(isolation="process")
def surrogates() -> int:
    print("\\udcff"); raise ValueError("\\udcff")

@step(isolation="process")
def recursion() -> int: return recursion.fn()

@step(isolation="process")
def hangs_up() -> int:
    os.closerange(3, 256)
    return 1

@step(isolation="process")
def forks_and_dies() -> int:
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
    os._exit(4)

@pipeline
def main() -> int:
    wrong_type(); unstorable(); sys_exit(); os_exit(); segfault(); unprintable(); surrogates(); recursion()
    hangs_up(); forks_and_dies()
    return calm(1)
"""
    )
    run = lab.run()
    assert run.output == 1
    found = {each.step: (each.failure.kind.value, each.failure.message) for each in run.steps if each.failure}
    expected = {
        "wrong_type": ("encoding", "promises Pair, but returned a int"),
        "unstorable": ("encoding", "lock"),
        "sys_exit": ("error", "the step called sys.exit(3)"),
        "os_exit": ("killed", "ended with exit code 3"),
        "segfault": ("killed", "was killed by SIGSEGV"),
        "unprintable": ("error", "Odd"),
        "surrogates": ("error", "?"),
        "recursion": ("error", "recursion"),
        "hangs_up": ("killed", "the process of 'hangs_up'"),
        "forks_and_dies": ("killed", "ended with exit code 4"),
    }
    assert {name: kind for name, (kind, _) in found.items()} == {name: kind for name, (kind, _) in expected.items()}
    for name, (_, message) in expected.items():
        assert message in found[name][1], (name, found[name])


def test_a_child_that_prints_more_than_a_pipe_holds_does_not_stop_the_step(lab: Lab) -> None:
    lab.write("""
@step(isolation="process")
def loud() -> int:
    print("x" * 100_000)
    subprocess.run([sys.executable, "-c", "print('y' * 1_000_000)"], check=True)
    return 1

@step(isolation="process")
def deaf() -> int:
    os.close(1); os.close(2)
    return 2

@pipeline
def main() -> list[int]:
    return [loud(), deaf()]
""")
    run = lab.run()
    assert run.output == [1, 2]
    text = lab.text(run.id, "loud")
    assert (text.count("x"), text.count("y")) == (100_000, 1_000_000)


def test_threads_and_children_that_a_step_leaves_behind_end_with_the_run(lab: Lab) -> None:
    lab.write("""
@step(isolation="process")
def leaves() -> int:
    threading.Thread(target=threading.Event().wait, args=(600,)).start()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return child.pid

@pipeline
def main() -> int:
    return leaves()
""")
    pid = lab.run().output
    wait_for(lambda: gone(pid))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_step_sees_anothers_mutation(lab: Lab, workers: int) -> None:
    lab.write("""
@step
def make() -> list[dict]: return [{"n": 1}]

@step
def spoil(rows: list[dict], options: dict) -> list[dict]:
    rows[0]["n"] = 99; rows.append({}); options["a"].append(1)
    return rows

@step
def look(rows: list[dict], options: dict, after: list[dict]) -> list: return [rows, options, after]

@pipeline
def main(options: dict) -> list:
    rows = make()
    return look(rows, options, spoil(rows, options))
""")
    output = lab.run(parameters={"options": {"a": []}}, workers=workers).output
    assert output == [[{"n": 1}], {"a": []}, [{"n": 99}, {}]]


FAILING = (
    CALM
    + """
@step
def broken(n: int) -> int:
    raise ValueError(f"no {n}")

@step
def join(a: int, b: int) -> int:
    return a + b
"""
)


def test_downstream_of_a_failure_is_upstream_failed_and_independent_branches_finish(lab: Lab) -> None:
    lab.write(
        FAILING
        + """
@pipeline
def main() -> None:
    bad = broken(1)
    good = calm(2)
    join(calm.named("other")(good), good)
    join.named("blocked")(bad, good)
    with when(join.named("condition")(bad, good), 1):
        calm.named("guarded")(3)
    calm.named("later").after(bad)(4)
"""
    )
    run = lab.run()
    assert run.state.value == "failed"
    found = states(run)
    assert (found["other"], found["join"]) == ("cached", "succeeded")  # the same calm(2)
    assert found["blocked"] == found["condition"] == found["guarded"] == found["later"] == "upstream_failed"
    assert run.step("blocked").note == "'broken' failed"
    with pytest.raises(ValueError, match="no 1"):
        run.raise_for_state()


def test_fail_fast_cancels_what_is_left_and_the_run_is_failed(lab: Lab) -> None:
    lab.write(
        FAILING
        + """
@step(isolation="process")
def forever() -> int:
    arrive("running")
    threading.Event().wait(600)

@step(isolation="process")
def breaks() -> int:
    await_file("running")
    raise ValueError("now")

@pipeline(fail_fast=True)
def main() -> None:
    join(forever(), breaks())
"""
    )
    for options in ({}, {"one_process_per_step": True}):
        (lab.root / "running").unlink(missing_ok=True)
        run = lab.run(**options)
        assert run.state.value == "failed"
        assert states(run) == {"forever": "cancelled", "breaks": "failed", "join": "cancelled"}


def test_a_step_whose_worker_is_told_to_stop_while_it_boots_is_cancelled_not_failed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = lab.root / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(  # the second worker boots until it has been told to stop
        f"""
import os, signal, sys, threading
if "penstock.wiring.worker" in " ".join(sys.orig_argv):
    try:
        os.mkdir({str(lab.root / "first")!r})
    except FileExistsError:
        for _ in range(3000):
            if signal.SIGINT in signal.sigpending():
                break
            threading.Event().wait(0.01)
"""
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    lab.write(
        FAILING
        + """
@step(isolation="process")
def quick(x: int) -> int:
    raise ValueError(f"{x}")

@pipeline(fail_fast=True)
def main() -> None:
    join(quick.named("one")(1), quick.named("two")(2))
"""
    )
    run = lab.run()
    assert run.state.value == "failed"
    assert sorted(states(run).values()) == ["cancelled", "cancelled", "failed"]
    assert "Traceback" not in "".join(lab.text(run.id, each) for each in ("one", "two"))


def test_skips_follow_guards_and_needs_but_not_order(lab: Lab) -> None:
    lab.write(
        CALM
        + """
@step
def tell(a: int | None) -> str: return f"got {a}"

@pipeline
def main(go: bool = False) -> str:
    with when(go):
        guarded = calm.named("guarded")(1)
        inner = calm.named("inner")(guarded)
    calm.named("needs")(inner)
    calm.named("follows").after(guarded)(5)
    return tell(optional(inner))
"""
    )
    run = lab.run()
    assert states(run) == {
        "guarded": "skipped", "inner": "skipped", "needs": "skipped", "follows": "succeeded", "tell": "succeeded",
    }  # fmt: skip
    assert run.output == "got None"
    assert run.step("needs").note == "'inner' was skipped"
    assert lab.run(parameters={"go": True}).output == "got 1"


def test_metrics_that_are_no_numbers_do_not_spoil_the_run_log(lab: Lab) -> None:
    lab.write("""
@step
def measured() -> int:
    context().metric("loss", float("nan")); context().metric("auc", 0.5)
    return 1

@pipeline
def main() -> int:
    return measured()
""")
    run = lab.run()
    store = lab.project().store
    assert [each.metrics for each in store.step_runs(run.id)] == [{"auc": 0.5}]
    assert "metric 'loss' is nan" in lab.text(run.id, "measured")


def test_a_map_that_cannot_be_says_why(lab: Lab) -> None:
    lab.write(
        CALM
        + """
@step
def numbers(n: int) -> list[int]: return list(range(n))

@step
def add(a: int, b: int) -> int: return a + b

@step
def total(xs: list[int]) -> int: return sum(xs)

@pipeline
def uneven() -> int:
    return total(add.map(a=numbers(2), b=numbers.named("three")(3)))

@pipeline
def too_many() -> int:
    return total(calm.map(n=numbers(3), max_size=2))
"""
    )
    many = lab.run("too_many")
    assert many.step("calm").note == "the map has 3 elements, more than max_size=2"
    uneven = lab.run("uneven")
    assert states(uneven)["add"] == states(uneven)["total"] == "upstream_failed"
    with pytest.raises(RunFailedError, match=r"differ in length \(a: 2, b: 3\)"):
        uneven.raise_for_state()


def test_an_event_log_of_failures_is_readable_json(lab: Lab) -> None:
    lab.write(
        FAILING
        + """
@pipeline
def main() -> int:
    return broken(1)
"""
    )
    run = lab.run()
    sequences = [number for number, _ in lab.project().store.events(run.id)]
    assert all(a < b for a, b in pairwise(sequences))
    assert json.dumps(run.step("broken").failure.traceback).count("raise ValueError") == 1
    assert "penstock" not in run.step("broken").failure.traceback.splitlines()[1]
