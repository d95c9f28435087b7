"""Where steps run: side by side, alone on the main thread, in a process, in a thread, on the shared loop."""

from __future__ import annotations

import os
import selectors
import threading
from typing import Any

import pytest

from .engine_lab import Lab, states


def test_two_branches_run_at_the_same_time_in_two_processes(lab: Lab) -> None:
    lab.write("""
@step
def left() -> int:
    arrive("left"); await_file("right")
    return os.getpid()

@step
def right() -> int:
    arrive("right"); await_file("left")
    return os.getpid()

@pipeline
def main() -> list[int]:
    return [left(), right()]
""")
    pids = lab.run().output
    assert len(set(pids)) == 2
    assert os.getpid() not in pids


def test_a_lone_step_runs_on_the_main_thread_of_this_process(lab: Lab) -> None:
    lab.write("""
@step
def alone() -> tuple[int, bool]:
    return os.getpid(), threading.current_thread() is threading.main_thread()

@pipeline
def main() -> tuple[int, bool]:
    return alone()
""")
    assert lab.run().output == (os.getpid(), True)


def test_isolation_is_given_where_it_is_asked_for(lab: Lab) -> None:
    lab.write("""
@step(isolation="process")
def apart() -> int:
    return os.getpid()

@step(isolation="thread")
def beside() -> tuple[int, bool]:
    return os.getpid(), threading.current_thread() is threading.main_thread()

@pipeline
def main() -> dict:
    return {"apart": apart(), "beside": beside()}
""")
    output = lab.run().output
    assert output["apart"] != os.getpid()
    assert output["beside"] == (os.getpid(), False)


def test_async_steps_share_one_loop_and_overlap(lab: Lab) -> None:
    lab.write("""
EVENTS = {}

@step(cache=False)
async def meet(me: str, other: str) -> tuple[int, str]:
    EVENTS.setdefault(me, asyncio.Event()).set()
    await asyncio.wait_for(EVENTS.setdefault(other, asyncio.Event()).wait(), 30)
    return id(asyncio.get_running_loop()), threading.current_thread().name

@pipeline
def main() -> list:
    return [meet("a", "b"), meet("b", "a")]
""")
    first, second = lab.run().output
    assert first == second


def test_a_run_works_in_a_thread_that_is_not_the_main_one(lab: Lab) -> None:
    lab.write("""
@step
def one(x: int) -> int:
    print("said", x)
    return x

@pipeline
def main() -> list[int]:
    return [one(1), one(2), one(3)]
""")
    lab.load()
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(lab.run()))
    thread.start()
    thread.join(60)
    run = found[0]
    assert run.output == [1, 2, 3]
    assert lab.text(run.id, "one") == "said 1\n"


def test_two_runs_in_two_threads_keep_their_prints_apart_and_give_stdout_back(lab: Lab) -> None:
    import sys

    lab.write("""
@step(isolation="thread", cache=False)
def say(word: str, other: str) -> None:
    arrive(word); await_file(other)
    print(word)

@pipeline
def main(word: str, other: str) -> None:
    say(word, other)
""")
    lab.load()
    before = sys.stdout
    runs: dict[str, str] = {}
    threads = [
        threading.Thread(
            target=lambda me=me, you=you: runs.update({me: lab.run(parameters={"word": me, "other": you}).id})
        )
        for me, you in (("ping", "pong"), ("pong", "ping"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sys.stdout is before
    assert {word: lab.text(run, "say") for word, run in runs.items()} == {"ping": "ping\n", "pong": "pong\n"}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The timeout of every look that a selector of this process takes."""
    taken: list[float | None] = []
    select = selectors.DefaultSelector.select

    def counted(self: selectors.DefaultSelector, timeout: float | None = None) -> Any:
        taken.append(timeout)
        return select(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", counted)
    return taken


def test_the_engine_sleeps_while_it_waits(lab: Lab, looks: list[float | None]) -> None:
    """Also where twins wait for one key, and where more steps are ready than there is room for."""
    lab.write("""
@step(isolation="process")
def wait_a_second(n: int, me: int) -> int:
    threading.Event().wait(1.0)
    return n

@pipeline
def main(ns: list[int], mes: list[int]) -> list[int]:
    return wait_a_second.map(n=ns, me=mes)
""")
    lab.load()
    looks.clear()
    run = lab.run(parameters={"ns": [1] * 6, "mes": [0, 0, 0, 0, 1, 1]})
    assert run.output == [1] * 6
    assert len(looks) < 150  # a loop that looks every 2 ms would look 500 times a second
    assert sorted(states(run).values()) == ["cached"] * 4 + ["succeeded"] * 2


def test_the_engine_sleeps_while_step_processes_are_full(lab: Lab, looks: list[float | None]) -> None:
    lab.write("""
@step
def wait_a_second(n: int) -> int:
    threading.Event().wait(1.0)
    return n

@pipeline
def main() -> list[int]:
    return [wait_a_second(1), wait_a_second(2), wait_a_second(3)]
""")
    lab.load()
    looks.clear()
    run = lab.run(one_process_per_step=True, workers=1)
    assert run.output == [1, 2, 3]
    assert len(looks) < 150  # a loop that looks every 2 ms would look 500 times a second


def test_workers_below_one_are_refused(lab: Lab) -> None:
    lab.write("""
@step
def one() -> int:
    return 1

@pipeline
def main() -> int:
    return one()
""")
    with pytest.raises(Exception, match="workers is -1"):
        lab.run(workers=-1)
