"""What a case came to, held against a calm run: the laws, and that nothing is left behind."""

from __future__ import annotations

import os
from collections import Counter
from time import monotonic, sleep
from typing import NamedTuple

from penstock.engine.processtree import descendants, is_there, kill_below
from penstock.ports.events import StepSucceeded, fold
from penstock.ports.records import RunState
from penstock.stores.runlog import SqlStore

from .case import Broken, Case

_SETTLE_S = 15.0
Made = dict[tuple[str, str], tuple[str, dict[str, str]]]


class Outcome(NamedTuple):
    """What a run made: for each step run its state, and the digests of what it gave."""

    made: Made


def outcome(case: Case) -> Outcome:
    """Read as another process reads it, every byte checked. Raises Broken where a law does not hold."""
    project = case.project()
    store = project.store
    assert isinstance(store, SqlStore)
    try:
        (run,) = store.match_runs("")
        summary = store.find_run(run)
        assert summary is not None
        _law(summary.state is RunState.SUCCEEDED, f"the run is {summary.state}")
        steps = store.step_runs(run)
        numbered = store.events(run)
        events = [event for _, event in numbered]
        _law([seq for seq, _ in numbered] == list(range(1, len(events) + 1)), "events are missing from the log")
        stored = {(step.step, step.index): step for step in steps}
        _law(dict(fold(events).steps.items()) == stored, "the tables are not what the events say")
        for step in steps:
            for ref in step.outputs.values():
                project.artifacts.load(ref)
        ended = Counter((event.step, event.index) for event in events if isinstance(event, StepSucceeded))
        _law(max(ended.values()) == 1, f"a step succeeded twice: {ended}")
        by = {(event.step, event.index): event.attempt for event in events if isinstance(event, StepSucceeded)}
        _no_finished_step_ran_again(case.begins(), by)
        running = [each for each in store.attempts(run) if each.state == "running"]
        _law(not running, f"attempts are still running: {running}")
        if hasattr(store.database, "path"):
            (sound,) = store.database.connection.execute("PRAGMA integrity_check").fetchone()
            _law(sound == "ok", f"SQLite finds damage: {sound}")
        return Outcome(
            {
                (each.step, each.index): (each.state.value, {name: ref.digest for name, ref in each.outputs.items()})
                for each in steps
            }
        )
    finally:
        store.close()


def same(found: Outcome, calm: Outcome) -> None:
    """Raises Broken, naming the first difference."""
    for key in sorted(found.made.keys() | calm.made.keys()):
        one, other = found.made.get(key), calm.made.get(key)
        _law(one == other, f"step run {key} ended as {one}; in the calm run as {other}")


def nobody_left(spare: int | None) -> None:
    """Everything that a case started ends by itself, orphans too (they become ours; `spare` is the server)."""
    limit = monotonic() + _SETTLE_S
    while left := strays(spare):
        if monotonic() > limit:
            kill_below(os.getpid()) if spare is None else None
            raise Broken(f"these processes outlived their run: {left}")
        sleep(0.01)


def strays(spare: int | None) -> list[str]:
    server = {spare, *descendants(spare)} if spare is not None else set()
    left = []
    for pid in {*descendants(os.getpid())} - server:
        if is_there(pid):
            left.append(f"{pid} {_command(pid)}")
        else:
            try:
                os.waitpid(pid, os.WNOHANG)  # an orphan of a killed engine, which nobody else waits for
            except ChildProcessError:
                pass
    return left


def _no_finished_step_ran_again(begins: list[str], by: dict[tuple[str, str], int]) -> None:
    twice = [line for line, count in Counter(begins).items() if count > 1]
    _law(not twice, f"attempts ran twice: {twice}")
    for line in begins:
        step, index, attempt = line.split("|")
        last = by.get((step, index))
        _law(
            last is not None and int(attempt) <= last, f"{step}[{index}] finished as attempt {last}, but {attempt} ran"
        )
    ran = {tuple(line.split("|")) for line in begins}
    for (step, index), attempt in by.items():
        _law((step, index, str(attempt)) in ran, f"{step}[{index}] counts as attempt {attempt}, which never ran")


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "?"


def _law(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)
