"""A run log whose writer dies: whatever the moment, an append is there as a whole or not at all."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.errors import FencedError
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunFinished,
    RunResumed,
    StepCached,
    StepSucceeded,
    fold,
)
from penstock.ports.records import Failure, FailureClass, RunRecord, RunState
from penstock.stores.runlog import SqlStore, open_store

AT = 1_795_414_725_000_000
HERE = os.uname().nodename
REF = ArtifactRef(digest_bytes(b"1"), "json", 1, inline="1")


class Crash(BaseException):
    """The process is gone; nothing it would still do happens."""


class CrashingConnection:
    """A connection whose process dies right before or right after its n-th statement. Dead, it does nothing more."""

    def __init__(self, real: sqlite3.Connection, at: int, *, after: bool) -> None:
        self._real = real
        self._at = at
        self._after = after
        self._count = 0
        self.dead = False

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        return self._do(self._real.execute, arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        return self._do(self._real.executemany, arguments)

    def _do(self, action: Any, arguments: tuple[Any, ...]) -> sqlite3.Cursor:
        self._count += 1
        if self.dead or (self._count == self._at and not self._after):
            self.dead = True
            raise Crash
        try:
            result: sqlite3.Cursor = action(*arguments)
        finally:
            if self._count == self._at:
                self.dead = True
                raise Crash
        return result


def opened(path: Path) -> SqlStore:
    store = open_store(f"sqlite:///{path}/runs.db", home=path)
    assert isinstance(store, SqlStore)
    return store


def a_record() -> RunRecord:
    return RunRecord(
        id="churn-1", pipeline="churn", project="shop", manifest=digest_bytes(b"{}"), parameters={}, created_at=AT,
        host=HERE, tags={"team": "growth"},
    )  # fmt: skip


def assert_consistent(store: SqlStore, run_id: str) -> list[Event]:
    events = [event for _, event in store.events(run_id)]
    view = fold(events)
    assert [seq for seq, _ in store.events(run_id)] == list(range(1, len(events) + 1))
    assert {(run.step, run.index): run for run in store.step_runs(run_id)} == dict(view.steps.items())
    summary = store.find_run(run_id)
    assert summary is not None
    assert sum(summary.counts.values()) == len(view.steps)
    assert summary.record.epoch == view.epoch
    assert len(store.attempts(run_id)) == sum(isinstance(event, AttemptStarted) for event in events)
    assert store.database.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return events


APPENDS: dict[str, tuple[int, list[Event]]] = {
    "finish one step and start the next": (
        1,
        [
            StepSucceeded(at=AT, step="a", attempt=1, outputs={"output": REF}, key="k"),
            AttemptStarted(at=AT, step="b", attempt=1, inputs={"x": [REF.digest]}),
        ],
    ),
    "retry": (
        1,
        [
            AttemptFailed(at=AT, step="a", attempt=1, failure=Failure(FailureClass.ERROR, "no"), retry_at=AT),
            AttemptStarted(at=AT, step="a", attempt=2),
        ],
    ),
    "many at once": (
        1,
        [StepCached(at=AT, step="m", index=str(n), key="k", outputs={"o": REF}, origin=("r", "m", "0")) for n in "012"],
    ),
    "finish the run": (1, [RunFinished(at=AT, state=RunState.FAILED, error="no")]),
    "take the run over": (2, [RunResumed(at=AT, epoch=2, host=HERE), AttemptStarted(at=AT, step="a", attempt=2)]),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", APPENDS)
def test_a_crash_beside_any_statement_of_an_append_keeps_all_of_it_or_nothing(
    tmp_path: Path, name: str, after: bool
) -> None:
    epoch, events = APPENDS[name]
    seen = set()
    for k in range(1, 100):
        folder = tmp_path / str(k)
        store = opened(folder)
        run_id = store.create(a_record(), b"{}", AT).id
        store.append(run_id, 1, [AttemptStarted(at=AT, step="a", attempt=1, key="k")])
        before = [event for _, event in store.events(run_id)]
        store.put_code("k", [], {"x": "1"})
        real = store.database.connection
        store.database.connection = dying = CrashingConnection(real, k, after=after)
        try:
            store.append(run_id, epoch, events)
        except Crash:
            pass
        real.close()  # what the kernel does for the dead; SQLite undoes what was not committed
        again = opened(folder)
        found = assert_consistent(again, run_id)
        assert found in (before, before + events)
        seen.add(len(found))
        if found == before:  # nothing of it stands in the way of doing it again
            again.append(run_id, epoch, events)
            assert assert_consistent(again, run_id) == before + events
        again.close()
        if not dying.dead:
            assert k > 5
            break
    assert seen == {len(before), len(before) + len(events)}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_beside_any_statement_of_a_create_keeps_a_whole_run_or_none(tmp_path: Path, after: bool) -> None:
    for k in range(1, 100):
        folder = tmp_path / str(k)
        store = opened(folder)
        real = store.database.connection
        store.database.connection = dying = CrashingConnection(real, k, after=after)
        try:
            store.create(a_record(), b"{}", AT)
        except Crash:
            pass
        real.close()
        again = opened(folder)
        if again.find_run("churn-1") is None:
            assert again.events("churn-1") == []
            again.create(a_record(), b"{}", AT)
        assert len(assert_consistent(again, "churn-1")) == 1
        assert again.manifest(digest_bytes(b"{}")) == b"{}"
        again.close()
        if not dying.dead:
            assert k > 5
            break


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_beside_any_statement_of_the_migration_leaves_a_store_that_opens(
    tmp_path: Path, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    for k in range(1, 100):
        dying: list[CrashingConnection] = []
        real: list[sqlite3.Connection] = []

        def crashing(
            *arguments: Any, k: int = k, dying: list[Any] = dying, real: list[Any] = real, **named: Any
        ) -> Any:
            real.append(connect(*arguments, **named))
            dying.append(CrashingConnection(real[0], k, after=after))
            dying[0].close = real[0].close  # type: ignore[attr-defined]
            return dying[0]

        monkeypatch.setattr(sqlite3, "connect", crashing)
        try:
            opened(tmp_path / str(k))
        except Crash:
            pass
        real[0].close()
        monkeypatch.setattr(sqlite3, "connect", connect)
        again = opened(tmp_path / str(k))
        run_id = again.create(a_record(), b"{}", AT).id
        assert len(assert_consistent(again, run_id)) == 1
        again.close()
        if not dying[0].dead:
            assert k > 20
            break


WRITER = """
import os, sys
from pathlib import Path
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import AttemptStarted, StepSucceeded
from penstock.ports.records import RunRecord
from penstock.stores.runlog import open_store

home = Path(sys.argv[1])
store = open_store(f"sqlite:///{home}/runs.db", home=home)
record = RunRecord(id="churn-1", pipeline="churn", project="p", manifest="m", parameters={}, created_at=1,
                   host=os.uname().nodename, pid=os.getpid())
run = store.create(record, b"{}", 1).id
store.hold(run, 1)
store.append(run, 1, [AttemptStarted(at=1, step="s0", attempt=1)])
ref = ArtifactRef("ab" * 32, "json", 1, inline="1")
for n in range(1_000_000):
    store.write_text(run, f"s{n}", "", 1, f"line {n}")
    done = StepSucceeded(at=n, step=f"s{n}", attempt=1, outputs={"output": ref}, key=f"k{n}")
    store.append(run, 1, [done, AttemptStarted(at=n, step=f"s{n + 1}", attempt=1, inputs={"x": [ref.digest]})])
    os.write(1, b"%d\\n" % n)
"""


@pytest.mark.parametrize("seed", range(12))
def test_a_writer_killed_at_any_moment_leaves_what_it_acknowledged_and_no_more_than_one_append(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    watcher = None
    acknowledged = -1
    for _ in range(chance.randrange(1, 400)):
        acknowledged = int(process.stdout.readline())
        watcher = watcher or opened(tmp_path)
    assert watcher is not None
    assert watcher.alive("churn-1")
    for _ in range(chance.randrange(5_000)):  # somewhere inside the next appends
        pass
    process.kill()
    process.wait()
    acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
    process.stdout.close()

    assert not watcher.alive("churn-1")
    watcher.close()
    store = opened(tmp_path)
    events = assert_consistent(store, "churn-1")
    finished = sum(isinstance(event, StepSucceeded) for event in events)
    assert finished in (acknowledged + 1, acknowledged + 2)
    assert isinstance(events[-1], AttemptStarted)
    assert len(store.entries(f"k{acknowledged}")) == 1
    texts = [row[4] for row in store.read_text("churn-1")]
    assert texts == [f"line {n}" for n in range(len(texts))]
    assert len(texts) in (finished, finished + 1)
    summary = store.find_run("churn-1")
    assert summary is not None
    assert summary.state is RunState.INTERRUPTED
    assert summary.counts == {"succeeded": finished, "running": 1}

    store.append("churn-1", 2, [RunResumed(at=AT, epoch=2, host=HERE, pid=os.getpid())])
    store.hold("churn-1", 2)
    assert store.alive("churn-1")
    with pytest.raises(FencedError):
        store.append("churn-1", 1, [RunFinished(at=AT, state=RunState.SUCCEEDED)])
    assert_consistent(store, "churn-1")
    store.close()
    assert list((tmp_path / "locks").iterdir()) == []
