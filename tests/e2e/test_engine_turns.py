"""How many at once, with real processes: bounds of a step, pools that runs share, and active runs of a pipeline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import ConfigError, UsageError
from penstock.engine.processes import StepExit
from penstock.engine.sharing import SharedPlaces

from .engine_lab import Lab, finish, last_json, states, wait_for
from .test_engine_commands import Engine

BOUNDED = """
@contextmanager
def inside(name):
    with open(HERE / "marks.txt", "a") as file:
        file.write(f"+{name}\\\\n")
    yield
    with open(HERE / "marks.txt", "a") as file:
        file.write(f"-{name}\\\\n")
"""

MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "inline": ("", {"workers": 1}),
    "workers": ("", {"workers": 4}),
    "threads": ('isolation="thread", ', {"workers": 2}),
    "async": ("", {"workers": 2}),
    "apart": ("", {"workers": 4, "one_process_per_step": True}),
}
LONG_LEASE = "import penstock.engine.sharing as sharing; sharing.LEASE_S = 36000.0\n"


def most_at_once(lab: Lab) -> Counter[str]:
    """How many of each name were inside at the same time, at most."""
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for mark in (lab.root / "marks.txt").read_text().split():
        now[mark[1:]] += 1 if mark[0] == "+" else -1
        most[mark[1:]] = max(most[mark[1:]], now[mark[1:]])
    assert not any(now.values())
    return most


def pools(lab: Lab, **sizes: int) -> None:
    lines = "".join(f"{name} = {size}\n" for name, size in sizes.items())
    (lab.root / "penstock.toml").write_text(f"[pools]\n{lines}")


@pytest.mark.parametrize("mode", MODES)
def test_a_bound_of_a_step_is_reached_and_never_exceeded_and_everything_finishes(lab: Lab, mode: str) -> None:
    option, how = MODES[mode]
    together = mode != "inline"
    lab.write(f"""
from contextlib import contextmanager
{BOUNDED.replace(chr(92) * 2, chr(92))}
def work(x):
    with inside("two"):
        arrive(f"in-{{x}}")
        if {together}:
            await_file(f"in-{{x ^ 1}}")  # it would never come if only one could be inside
    return x

@step({option}max_parallel=2, cache=False, retry=Retry(3, base=0.01, on=OSError))
{"async " if mode == "async" else ""}def two(x: int) -> int:
    {"return await asyncio.to_thread(work, x)" if mode == "async" else "return work(x)"}

@step({option}max_parallel=1)
def one(x: int) -> int:
    with inside("one"):
        pass
    if x == 3 and context().attempt == 1:
        raise OSError("once more")
    return x

@step
def free(x: int) -> int:
    return x

@step
def total(xs: list[int], ys: list[int], zs: list[int]) -> int:
    return sum(xs) + sum(ys) + sum(zs)

@pipeline
def main() -> int:
    xs = list(range(8))
    again = one.with_options(retry=Retry(2, base=0.01))
    return total(two.map(x=xs), again.map(x=xs), free.map(x=xs))
""")
    run = lab.run(**how)
    assert run.output == 3 * 28
    assert most_at_once(lab) == {"two": 2 if together else 1, "one": 1}
    assert run.step("one", "3").attempts == 2


def test_a_line_longer_than_a_map_opens_at_once_is_worked_off(lab: Lab) -> None:
    lab.write("""
@step(max_parallel=2, cache=False)
def one(x: int) -> int:
    return x

@step
def total(xs: list[int]) -> int:
    return sum(xs)

@pipeline
def main() -> int:
    return total(one.map(x=list(range(2000))))
""")
    assert lab.run(workers=2).output == sum(range(2000))


SHARING = """
@step(pool="gpu", cache=False)
def fit(who: str, x: int) -> int:
    place = os.open(HERE / "busy", os.O_CREAT | os.O_EXCL)  # FileExistsError where two are inside at once
    mark(who)
    threading.Event().wait(0.02)
    os.close(place)
    os.unlink(HERE / "busy")
    return x

@step
def total(xs: list[int]) -> int:
    return sum(xs)

@pipeline
def main(who: str) -> int:
    return total(fit.partial(who).map(x=list(range(6))))
"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("workers=2", "workers=1"),
        ("workers=2", "workers=2, one_process_per_step=True"),
        ("workers=1", "workers=1, one_process_per_step=True"),
    ],
)
def test_two_runs_that_share_a_pool_of_one_never_overlap_and_both_finish(lab: Lab, one: str, other: str) -> None:
    pools(lab, gpu=1)
    lab.write(SHARING)
    started = [
        lab.start(f"print(json.dumps(lab.main.using({options}, echo=False).run(who={who!r}).output))")
        for who, options in (("a", one), ("b", other))
    ]
    for process in started:
        status, out, err = finish(process)
        assert status == 0, err
        assert last_json(out) == 15
    assert Counter(lab.ran()) == {"a": 6, "b": 6}
    assert not list((lab.root / ".penstock" / "locks").glob("*"))


HELD = """
@step(pool="gpu", cache=False)
def fit(who: str) -> int:
    mark(f"{who}-in")
    arrive(f"{who}-in")
    await_file(f"{who}-go", 600)
    return 1

@step(cache=False)
def beside(who: str) -> int:
    arrive(f"{who}-beside")
    return 2

@step
def total(x: int, y: int) -> int:
    return x + y

@pipeline
def main(who: str) -> int:
    return total(fit(who), beside(who))
"""


def holding(lab: Lab, options: str = "workers=2", who: str = "a") -> subprocess.Popen[str]:
    """A run whose step has the only place, with a lease that does not run out in this test."""
    process = lab.start(LONG_LEASE + f"print(lab.main.using({options}, echo=False).run(who={who!r}).output)")
    wait_for((lab.root / f"{who}-in").exists, "the holder never began")
    return process


@pytest.fixture
def held(lab: Lab) -> Lab:
    pools(lab, gpu=1)
    return lab.write(HELD)


@pytest.mark.parametrize("options", ["workers=1", "workers=2", "workers=2, one_process_per_step=True"])
def test_the_place_of_a_killed_holder_is_free_at_once_for_others_and_for_its_own_resume(
    held: Lab, options: str
) -> None:
    holder = holding(held, options)
    killed = held.last_run()
    waiter = held.start("print(lab.main.using(workers=2, echo=False).run(who='b').output)")
    wait_for((held.root / "b-beside").exists, "the waiting one kept others from running")
    assert not (held.root / "b-in").exists()
    holder.kill()
    holder.communicate()
    (held.root / "b-go").touch()
    status, out, err = finish(waiter)
    assert (status, out) == (0, "3\n"), err
    (held.root / "a-go").touch()
    assert held.resume(killed).output == 3


@pytest.mark.parametrize("how", [[], ["--workers", "2", "--one-process-per-step"]])
def test_a_step_that_waits_for_a_place_is_told_once_keeps_nobody_and_ends_with_a_cancel(
    held: Lab, how: list[str]
) -> None:
    holder = holding(held)
    other = held.last_run()
    words = [sys.executable, "-m", "penstock", "run", str(held.file), "--who", "b", "--json", *how]
    waiter = subprocess.Popen(
        words, cwd=held.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for((held.root / "b-beside").exists, "the waiting one kept others from running")
    assert waiter.stdout is not None
    told = []
    for line in waiter.stdout:
        told.append(json.loads(line))
        if told[-1]["type"] == "waiting":
            break
    assert told[-1] == {"type": "waiting", "step": "fit", "index": "", "for": other, "pool": "gpu"}
    run_id = told[0]["run"]
    subprocess.run([sys.executable, "-m", "penstock", "cancel", run_id], cwd=held.root, check=True, capture_output=True)
    out, err = waiter.communicate(timeout=60)
    assert waiter.returncode == 130, err
    assert '"waiting"' not in out
    ended = {row.step: row.state.value for row in held.project().store.step_runs(run_id)}
    assert ended["fit"] == "cancelled"
    (held.root / "a-go").touch()
    assert finish(holder)[:2] == (0, "3\n")
    assert held.ran() == ["a-in"]


def test_a_hit_needs_no_place(held: Lab) -> None:
    held.file.write_text(held.file.read_text().replace('@step(pool="gpu", cache=False)', '@step(pool="gpu")'))
    (held.root / "a-go").touch()
    assert held.run(parameters={"who": "a"}).output == 3
    (held.root / "a-in").unlink()
    places = SharedPlaces(held.project().store, "somebody", "pool", {"gpu": 1})
    assert places.take("gpu")
    for how in ({"workers": 1}, {"workers": 2}, {"one_process_per_step": True}):
        run = held.run(parameters={"who": "a"}, **how)
        assert states(run)["fit"] == "cached"
    places.close()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_step_of_an_engine_waits_for_a_place_that_a_run_here_has_and_holds_it_until_it_ends(
    held: Lab, is_killed: bool
) -> None:
    held.file.write_text(held.file.read_text().replace("def main(who: str)", 'def main(who: str = "b")'))
    engine = Engine(held)
    holder = holding(held)
    step = engine.start("fit")
    assert step.stdout is not None
    assert "fit waits for a place of pool 'gpu'" in step.stdout.readline()
    assert engine.step("beside") is StepExit.DONE
    assert not (held.root / "b-in").exists()
    (held.root / "a-go").touch()
    assert finish(holder)[:2] == (0, "3\n")
    wait_for((held.root / "b-in").exists, "the place was never handed over")
    here = SharedPlaces(held.project().store, "here", "pool", {"gpu": 1})
    assert here.take("gpu", in_line=False) is None
    if is_killed:
        step.kill()
    else:
        (held.root / "b-go").touch()
    step.communicate(timeout=60)
    assert step.returncode == (-signal.SIGKILL if is_killed else StepExit.DONE)
    assert here.take("gpu", in_line=False) is not None
    here.close()


def test_a_step_of_an_engine_that_waits_for_a_place_ends_with_a_cancel(held: Lab) -> None:
    held.file.write_text(held.file.read_text().replace("def main(who: str)", 'def main(who: str = "b")'))
    engine = Engine(held)
    places = SharedPlaces(held.project().store, "somebody", "pool", {"gpu": 1})
    assert places.take("gpu")
    step = engine.start("fit")
    assert step.stdout is not None
    assert "fit waits for a place of pool 'gpu': somebody has it" in step.stdout.readline()
    run_id = held.last_run()
    subprocess.run(
        [sys.executable, "-m", "penstock", "cancel", run_id], cwd=held.root, check=False, capture_output=True
    )
    step.communicate(timeout=60)
    assert step.returncode == StepExit.FAILED
    assert engine.states()["fit"] == "cancelled"
    places.close()
    assert not (held.root / "b-in").exists()


def test_a_pool_that_no_setting_knows_is_an_error_before_the_run_begins(lab: Lab) -> None:
    lab.write(HELD)
    with pytest.raises(ConfigError, match=r"step 'fit' needs a place of pool 'gpu'[\s\S]*\[pools\] gpu = 1"):
        lab.run(parameters={"who": "a"})
    assert lab.project().store.match_runs("") == []
    done = penstock(lab, "run", str(lab.file), "--who", "a")
    assert done.returncode == 2
    assert "PENSTOCK_POOLS=gpu=1" in done.stderr
    (lab.root / "a-go").touch()
    done = penstock(lab, "run", str(lab.file), "--who", "a", PENSTOCK_POOLS="gpu=1")
    assert done.returncode == 0, done.stderr


# -- active runs -------------------------------------------------------------------------------------------------------

ACTIVE = """
@step(cache=False)
def hold(who: str) -> str:
    mark(f"{who}-in")
    arrive(f"{who}-in")
    await_file(f"{who}-go", 600)
    mark(f"{who}-out")
    return who

@pipeline(max_active_runs=1)
def main(who: str) -> str:
    return hold(who)
"""


def penstock(lab: Lab, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penstock", *words],
        cwd=lab.root, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_run_that_would_be_one_too_many_is_refused_by_name_and_leaves_nothing_behind(lab: Lab) -> None:
    lab.write(ACTIVE)
    active = holding(lab)
    run_id = lab.last_run()
    done = penstock(lab, "run", str(lab.file), "--who", "b", "--idempotency-key", "k")
    assert done.returncode == 2
    assert f"main may have 1 active run and has: {run_id}" in done.stderr
    assert "--wait" in done.stderr
    assert lab.project().store.match_runs("") == [run_id]
    (lab.root / "a-go").touch()
    assert finish(active)[:2] == (0, "a\n")
    (lab.root / "b-go").touch()
    for _ in range(2):  # the key was not used up; and who has it already needs no place
        assert penstock(lab, "run", str(lab.file), "--who", "b", "--idempotency-key", "k").returncode == 0
    assert lab.ran() == ["a-in", "a-out", "b-in", "b-out"]


def test_with_wait_it_begins_when_the_active_one_has_ended(lab: Lab) -> None:
    lab.write(ACTIVE)
    active = holding(lab)
    run_id = lab.last_run()
    words = [sys.executable, "-m", "penstock", "run", str(lab.file), "--who", "b", "--wait"]
    waiter = subprocess.Popen(words, cwd=lab.root, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert waiter.stderr is not None
    assert waiter.stderr.readline() == f"waiting for {run_id} to end: so many runs of main may be active\n"
    assert lab.project().store.match_runs("") == [run_id]
    (lab.root / "b-go").touch()
    (lab.root / "a-go").touch()
    assert finish(active)[0] == 0
    waiter.communicate(timeout=60)
    assert waiter.returncode == 0
    assert lab.ran() == ["a-in", "a-out", "b-in", "b-out"]


def test_a_killed_run_is_active_no_more_and_its_resume_is_again(lab: Lab) -> None:
    lab.write(ACTIVE)
    active = holding(lab)
    killed = lab.last_run()
    active.kill()
    active.communicate()
    second = holding(lab, who="b")
    with pytest.raises(UsageError, match="may have 1 active run"):
        lab.resume(killed)
    (lab.root / "b-go").touch()
    assert finish(second)[:2] == (0, "b\n")
    (lab.root / "a-go").touch()
    assert lab.resume(killed).output == "a"


def test_of_several_that_start_at_once_only_so_many_begin(lab: Lab) -> None:
    lab.write(ACTIVE.replace("max_active_runs=1", "max_active_runs=2"))
    code = (
        "from penstock import PenstockError\n"
        "await_ = lab.await_file('start', 60)\n"
        "try:\n    lab.main.using(echo=False).run(who=sys.argv[1])\n    print('ran')\n"
        "except PenstockError as error:\n    print(error.code); lab.arrive(f'refused-{os.getpid()}')\n"
    )
    starters = [lab.start(code.replace("sys.argv[1]", repr(str(n)))) for n in range(5)]
    (lab.root / "start").touch()
    wait_for(lambda: len(list(lab.root.glob("refused-*"))) == 3, "three should have been refused")
    wait_for(lambda: len(list(lab.root.glob("*-in"))) == 2)
    for n in range(5):
        (lab.root / f"{n}-go").touch()
    said = Counter(finish(process)[1].strip() for process in starters)
    assert said == {"ran": 2, "usage": 3}
    assert len([each for each in lab.ran() if each.endswith("-out")]) == 2


def test_a_run_on_an_engine_counts_here(lab: Lab, tmp_path: Path) -> None:
    lab.write(ACTIVE.replace("def main(who: str)", 'def main(who: str = "a")'))
    engine = Engine(lab)
    engine.session()
    with pytest.raises(UsageError, match="may have 1 active run"):
        lab.run()
    (lab.root / "a-go").touch()
    assert engine.step("hold") is StepExit.DONE
    engine.end()
    assert lab.run().output == "a"
