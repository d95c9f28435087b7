"""A store of the first version is brought up with all that its events say, and never under a run in progress."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.clock import SystemClock
from penstock.core.errors import StoreInUseError
from penstock.ports.artifacts import ArtifactRef, Blob
from penstock.ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    MapExpanded,
    RunCancelRequested,
    RunFinished,
    RunResumed,
    RunStarted,
    StepBlocked,
    StepCached,
    StepCancelled,
    StepReopened,
    StepSkipped,
    StepSucceeded,
    attempts_of,
    fold,
)
from penstock.ports.records import Failure, FailureClass, RunState
from penstock.ports.runlog import Claim
from penstock.stores.runlog.database import SQL_FOLDER, packed
from penstock.stores.runlog.liveness import FileLocks
from penstock.stores.runlog.sqlite import SqliteDatabase

from .conftest import Place, TurnedClock

AT = 1_795_414_725_000_000
KEY, PART_KEY, LEFT_KEY = (digest_bytes(name) for name in (b"key", b"part", b"left"))
MODEL = ArtifactRef("e" * 64, "npy", 5, blobs=(Blob("", "e" * 64, 5),))
SMALL = ArtifactRef("d" * 64, "json", 2, inline="42")


def start(step: str, attempt: int = 1, index: str = "", key: str | None = None, **inputs: list[str]) -> AttemptStarted:
    return AttemptStarted(at=AT, step=step, index=index, attempt=attempt, key=key, inputs=inputs)


def end(
    step: str, attempt: int = 1, index: str = "", key: str | None = None, output: ArtifactRef = SMALL
) -> StepSucceeded:
    return StepSucceeded(
        at=AT, step=step, index=index, attempt=attempt, outputs={"output": output}, key=key, seconds=2.5
    )


def lost(step: str, attempt: int = 1, index: str = "", retry_at: int | None = None) -> AttemptFailed:
    failure = Failure(FailureClass.ERROR, "no")
    return AttemptFailed(at=AT, step=step, index=index, attempt=attempt, failure=failure, retry_at=retry_at)


def done(state: RunState) -> RunFinished:
    return RunFinished(at=AT, state=state)


RUNS: dict[str, tuple[str, list[Event]]] = {
    "mapped": (
        "succeeded",
        [
            RunStarted(at=AT),
            start("rows", key=KEY),
            end("rows", key=KEY, output=MODEL),
            MapExpanded(at=AT, scope="fit", size=3),
            *(start("fit", index=str(number), key=PART_KEY, x=["e" * 64]) for number in range(3)),
            end("fit", index="1", key=PART_KEY),
            lost("fit", index="0", retry_at=AT + 1),
            end("fit", index="2", key=PART_KEY),
            start("fit", 2, index="0", key=PART_KEY, x=["e" * 64]),
            end("fit", 2, index="0", key=PART_KEY),
            MapExpanded(at=AT, scope="none", size=0),
            StepSkipped(at=AT, step="told", because="'passed' is false"),
            done(RunState.SUCCEEDED),
        ],
    ),
    "failed": (
        "failed",
        [
            RunStarted(at=AT),
            StepCached(at=AT, step="rows", key=KEY, origin=("mapped", "rows", ""), outputs={"output": MODEL}),
            start("fit", x=["e" * 64]),
            lost("fit", retry_at=AT + 1),
            start("fit", 2, x=["e" * 64]),
            lost("fit", 2),
            StepBlocked(at=AT, step="total", because="'fit' failed"),
            done(RunState.FAILED),
        ],
    ),
    "cancelled": (
        "cancelled",
        [
            RunStarted(at=AT),
            start("rows"),
            RunCancelRequested(at=AT, by="ada"),
            StepCancelled(at=AT, step="rows"),
            StepCancelled(at=AT, step="fit", because="the run was cancelled"),
            done(RunState.CANCELLED),
        ],
    ),
    "resumed": (
        "succeeded",
        [
            RunStarted(at=AT),
            start("rows", key=KEY),
            end("rows", key=KEY, output=MODEL),
            start("fit"),
            lost("fit"),
            StepBlocked(at=AT, step="total", because="'fit' failed"),
            done(RunState.FAILED),
            RunResumed(at=AT, epoch=2),
            StepReopened(at=AT, step="rows", because="its output is gone"),
            start("rows", 2, key=KEY),
            end("rows", 2, key=KEY, output=MODEL),
            start("fit", 2),
            end("fit", 2),
            start("total"),
            end("total"),
            done(RunState.SUCCEEDED),
        ],
    ),
    "interrupted": (
        "running",
        [RunStarted(at=AT), start("rows"), end("rows"), start("fit", key=LEFT_KEY), start("other")],
    ),
}


class FirstStore:
    """The first version's tables, filled as it filled them; its projections are not read, so they stay empty here."""

    def __init__(self, place: Place) -> None:
        if place.kind == "sqlite":
            self.database: Any = SqliteDatabase(place.url.removeprefix("sqlite:///"), clock=SystemClock())
            self.database.prepare_fresh()
        else:
            from penstock.stores.runlog.postgres import PostgresDatabase

            self.database = PostgresDatabase(place.url, clock=None)
        self._mark = "?" if place.kind == "sqlite" else "%s"
        with open(os.path.join(SQL_FOLDER, "0001_first.sql"), encoding="utf-8") as file, self.database.transaction():
            self.database.script(file.read())
            self.database.run("insert_schema", (1, 1, AT))

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return self.database.connection.execute(statement.replace("?", self._mark), values)

    def add(self, run_id: str, state: str, events: list[Event], host: str = "h", lease: int | None = None) -> None:
        epoch = 1 + sum(isinstance(event, RunResumed) for event in events)
        manifest = packed(digest_bytes(b"{}"))
        values = (run_id, manifest, host, epoch, state, AT, lease, len(events))
        number = self.execute(
            "INSERT INTO runs (id, pipeline, manifest, host, pid, epoch, state, started_at, lease_until, last_seq) "
            "VALUES (?, 'p', ?, ?, 4711, ?, ?, ?, ?, ?) RETURNING no",
            values,
        ).fetchone()[0]
        self.execute(
            "INSERT INTO run_records "
            "VALUES (?, 'shop', NULL, '{}', '', NULL, 'manual', NULL, ?, '{}', '{}', '{}', 0, '{}')",
            (number, AT),
        )
        for seq, event in enumerate(events, start=1):
            body = msgspec.json.encode(event).decode()
            self.execute("INSERT INTO events (run_no, seq, body) VALUES (?, ?, ?)", (number, seq, body))

    def count(self) -> int:
        return int(self.execute("SELECT count(*) FROM events").fetchone()[0])


@pytest.fixture
def first(shared_place: Place) -> Iterator[FirstStore]:
    store = FirstStore(shared_place)
    yield store
    store.database.close()


def test_a_store_of_the_first_version_is_brought_up_with_all_that_its_events_say(
    shared_place: Place, first: FirstStore
) -> None:
    for run_id, (state, events) in RUNS.items():
        first.add(run_id, state, events)
    store = shared_place.open()
    assert store.version() == 2
    for run_id, (state, events) in RUNS.items():
        assert [event for _, event in store.events(run_id)] == events
        steps = list(fold(events).steps.values())
        assert store.step_runs(run_id) == steps
        assert store.attempts(run_id) == attempts_of(events)
        summary = store.find_run(run_id)
        assert summary is not None
        assert summary.state == (RunState.INTERRUPTED if state == "running" else state)
        states = [step.state.value for step in steps]
        assert summary.counts == {each: states.count(each) for each in states}
    assert [entry.outputs["output"] for entry in store.entries(KEY)] == [MODEL] * 3
    assert len(store.entries(PART_KEY)) == 3
    assert store.live_digests() >= {"e" * 64}


def test_an_interrupted_run_of_the_first_version_is_resumed_and_holds_no_key(
    shared_place: Place, first: FirstStore
) -> None:
    state, events = RUNS["interrupted"]
    first.add("interrupted", state, events)
    store = shared_place.open()
    more = [RunResumed(at=AT, epoch=2), start("fit", 2, key=LEFT_KEY), end("fit", 2, key=LEFT_KEY)]
    assert store.append("interrupted", 2, more, {("fit", ""): Claim(0)}) == {}
    found = store.step_runs("interrupted")
    assert {(run.step, run.index): run for run in found} == dict(fold(events + more).steps.items())
    assert len(store.entries(LEFT_KEY)) == 1


@pytest.mark.parametrize("told_by", ["a lock on this host", "a lease of another host"])
def test_a_first_store_with_a_run_in_progress_is_refused_unharmed(
    shared_place: Place, first: FirstStore, told_by: str
) -> None:
    clock, locks = TurnedClock(), FileLocks(shared_place.home / "locks")
    state, events = RUNS["interrupted"]
    first.add("dead", state, events)
    if told_by == "a lock on this host":
        assert locks.take("living")
        first.add("living", state, events, host=os.uname().nodename)
    else:
        first.add("living", state, events, host="elsewhere", lease=clock.us + 30_000_000)
    before = first.count()
    for _ in range(2):
        with pytest.raises(
            StoreInUseError, match=r"from version 1 to 2, but run 'living' \(process 4711 on "
        ) as raised:
            shared_place.open(clock)
    assert "penstock cancel living" in str(raised.value.hint)
    assert (first.database.found_version(), first.count()) == ((1, 1), before)
    assert not list(shared_place.home.glob("runs.db.v1*"))
    first.add("goes on", "succeeded", RUNS["resumed"][1])
    locks.drop("living")
    clock.turn(31)
    store = shared_place.open(clock)
    assert store.version() == 2
    assert [event for _, event in store.events("goes on")] == RUNS["resumed"][1]


def test_a_run_that_begins_while_its_store_is_looked_at_is_seen(postgres_url: str, tmp_path: Path) -> None:
    """On SQLite a migration's transaction begins as the only writer; PostgreSQL has to wait for the others."""
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS penstock CASCADE")
        place = Place("postgres", postgres_url, tmp_path)
        first = FirstStore(place)
        raised: list[BaseException] = []

        def look() -> None:
            try:
                place.open()
            except StoreInUseError as error:
                raised.append(error)

        looking = threading.Thread(target=look)
        with first.database.transaction():
            lease = first.database.now_us() + 30_000_000
            first.add("begun", "running", RUNS["interrupted"][1], host="elsewhere", lease=lease)
            looking.start()
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            while looking.is_alive() and not connection.execute(waiting).fetchall():
                pass
        looking.join()
        first.database.close()
        place.close()
    assert "run 'begun'" in str(raised)


OPENER = """
import sys
from pathlib import Path
from penstock.stores.runlog import open_store
print("ready", flush=True)
sys.stdin.readline()
store = open_store(sys.argv[1], home=Path(sys.argv[2]))
print(store.version(), sum(len(store.events(run)) for run in sys.argv[3:]))
store.close()
"""


def test_four_processes_that_open_a_first_store_at_once_all_find_it_brought_up(
    shared_place: Place, first: FirstStore
) -> None:
    for run_id, (state, events) in RUNS.items():
        first.add(run_id, state, events)
    expected = f"2 {first.count()}\n"
    command = [sys.executable, "-c", OPENER, shared_place.url, str(shared_place.home), *RUNS]
    openers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.flush()
    assert [opener.communicate() for opener in openers] == [(expected, "")] * 4


def test_sqlite_keeps_the_file_as_it_was_before_something_is_removed_from_it(tmp_path: Path) -> None:
    place = Place("sqlite", f"sqlite:///{tmp_path}/runs.db", tmp_path)
    first = FirstStore(place)
    for run_id, (state, events) in RUNS.items():
        first.add(run_id, state, events)
    tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
    before = [first.execute(query).fetchall() for query in (tables, "SELECT * FROM events", "SELECT * FROM runs")]
    place.open()
    assert sorted(path.name for path in tmp_path.glob("*.v1*")) == ["runs.db.v1"]
    copy = SqliteDatabase(f"{tmp_path}/runs.db.v1", clock=SystemClock())
    assert copy.found_version() == (1, 1)
    found = [
        copy.connection.execute(query).fetchall() for query in (tables, "SELECT * FROM events", "SELECT * FROM runs")
    ]
    assert found == before
    for database in (copy, first.database):
        database.close()
    place.close()
