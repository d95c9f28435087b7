"""What every run log keeps beside the events, who holds a run, and stores that open or will not."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.errors import FencedError, NotFoundError, StoreError, StoreTooNewError, StoreUnavailableError
from penstock.ports.artifacts import Blob
from penstock.ports.events import RunFinished, RunResumed, StepCached
from penstock.ports.records import CodePart, Observation, RunState
from penstock.stores.runlog import SqlStore, open_store
from penstock.stores.runlog.sqlite import SqliteDatabase

from .runs import AT, GRAPH, a_record, a_ref, a_run, assert_tables_say_what_the_events_say, failed, started, succeeded

# liveness -----------------------------------------------------------------------------------------------------------


def test_a_held_run_is_alive_until_it_is_released(store: SqlStore, clock, place) -> None:
    run_id = a_run(store)
    store.hold(run_id, 1)
    store.hold(run_id, 1)
    clock.turn(3600)
    assert store.alive(run_id)
    store.release(run_id)
    assert not store.alive(run_id)
    summary = store.find_run(run_id)
    assert summary is not None
    assert summary.state is RunState.INTERRUPTED
    locks = place.home / "locks"
    assert not locks.exists() or list(locks.iterdir()) == []


def test_a_run_that_was_created_but_not_held_yet_is_alive_for_a_lease(store: SqlStore, clock) -> None:
    run_id = a_run(store)
    assert store.alive(run_id)
    clock.turn(29)
    assert store.alive(run_id)
    clock.turn(2)
    assert not store.alive(run_id)
    assert not store.alive("nobody")


def test_a_run_on_another_host_lives_by_its_lease(store: SqlStore, clock) -> None:
    run_id = a_run(store, host="elsewhere")
    for _ in range(5):
        clock.turn(20)
        store.beat(run_id)
        assert store.alive(run_id)
    clock.turn(31)
    assert not store.alive(run_id)
    store.append(run_id, 2, [RunResumed(at=AT, epoch=2, host="third")])
    assert store.alive(run_id)
    store.append(run_id, 2, [RunFinished(at=AT, state=RunState.FAILED, error="no")])
    assert not store.alive(run_id)


def test_a_lease_counts_in_the_databases_time_when_no_clock_is_turned(shared_place) -> None:
    store = shared_place.open()
    run_id = a_run(store, host="elsewhere")
    assert store.alive(run_id)
    store.database.connection.execute("UPDATE runs SET lease_until = lease_until - 31000000")
    assert not store.alive(run_id)


def test_on_one_host_the_lock_decides_whatever_the_lease_says(shared_place, clock, tmp_path: Path) -> None:
    owner, other = shared_place.open(clock), shared_place.open(clock)
    run_id = a_run(owner)
    owner.hold(run_id, 1)
    clock.turn(3600)
    assert other.alive(run_id)
    elsewhere = shared_place.open(clock, home=tmp_path / "another-home")
    assert not elsewhere.alive(run_id)  # it cannot see the lock, and the lease is over
    with pytest.raises(FencedError, match="owned by another process"):
        other.hold(run_id, 1)
    owner.release(run_id)
    other.hold(run_id, 1)
    assert owner.alive(run_id)


def test_a_forked_child_does_not_keep_its_parents_run_alive(shared_place) -> None:
    store = shared_place.open()
    run_id = a_run(store)
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom penstock.stores.runlog import open_store\n"
        "store = open_store(sys.argv[1], home=Path(sys.argv[2]))\nstore.hold(sys.argv[3], 1)\n"
        "if os.fork() == 0: print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    arguments = [sys.executable, "-c", script, shared_place.url, str(shared_place.home), run_id]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert store.alive(run_id)
        process.kill()
        process.wait()
        assert not store.alive(run_id)
        summary = store.find_run(run_id)
        assert summary is not None
        assert summary.state is RunState.INTERRUPTED
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


# cache --------------------------------------------------------------------------------------------------------------


def test_a_success_with_a_key_becomes_an_entry_newest_first(store: SqlStore) -> None:
    key = digest_bytes(b"key")
    runs = [a_run(store, at=AT + day * 10**9) for day in range(2)]
    seen = (Observation("file", "a.csv", "v1"),)
    for number, run_id in enumerate(runs):
        event = succeeded(key=key, observations=seen, metrics={"auc": 0.5}, note="n", seconds=2.0)
        store.append(run_id, 1, [started(), msgspec.structs.replace(event, at=AT + number)])
        store.append(run_id, 1, [started("plain"), succeeded("plain")])
    newest, oldest = store.entries(key)
    assert (newest.run_id, oldest.run_id) == (runs[1], runs[0])
    assert (newest.outputs, newest.observations) == ({"output": a_ref("x")}, seen)
    assert (newest.step, newest.index, newest.metrics, newest.note) == ("fit", "", {"auc": 0.5}, "n")
    assert (newest.seconds, newest.at, newest.key) == (2.0, AT + 1, key)
    store.forget(key, runs[1])
    assert [entry.run_id for entry in store.entries(key)] == [runs[0]]
    assert store.entries("unknown") == []


def test_a_failed_attempt_and_a_hit_make_no_entry(store: SqlStore) -> None:
    run_id = a_run(store)
    hit = StepCached(at=AT, step="b", key="k", outputs={"output": a_ref("x")}, origin=("r", "b", ""))
    store.append(run_id, 1, [started(key="k"), failed(), hit])
    assert store.entries("k") == []


def test_a_key_is_leased_to_one_owner_until_it_expires_or_is_given_back(store: SqlStore, clock) -> None:
    assert store.lease("k", "ada", 30)
    assert store.lease("k", "ada", 30)
    assert not store.lease("k", "bob", 30)
    store.unlease("k", "bob")
    assert not store.lease("k", "bob", 30)
    clock.turn(30)
    assert store.lease("k", "bob", 30)
    assert not store.lease("k", "ada", 30)
    store.unlease("k", "bob")
    assert store.lease("k", "ada", 30)


def test_a_lease_that_ran_out_stays_with_an_owner_who_is_seen_to_live_where_that_is_asked_for(
    store: SqlStore, clock
) -> None:
    assert store.find_holder("k") is None
    assert store.lease("k", "ada", 30, while_alive=True)
    clock.turn(31)
    assert not store.lease("k", "bob", 30, while_alive=True)
    assert store.find_holder("k") == "ada"
    assert store.lease("k", "ada", 30, while_alive=True)
    clock.turn(31)
    assert store.lease("k", "bob", 30)
    assert store.find_holder("k") == "bob"
    store.unlease("k", "bob")
    assert store.lease("k", "ada", 30, while_alive=True)


# texts and code -------------------------------------------------------------------------------------------------------


def test_texts_come_back_in_the_order_written_by_step_index_attempt_and_point(store: SqlStore) -> None:
    run_id, other = a_run(store), a_run(store, at=AT + 10**9)
    written = [("fit", "0", 1, "a\n"), ("fit", "1", 1, "b"), ("fit", "0", 2, "c"), ("split", "", 1, "d")]
    for step, index, attempt, text in written:
        store.write_text(run_id, step, index, attempt, text)
        store.write_text(other, step, index, attempt, "other")
    rows = list(store.read_text(run_id))
    assert [row[1:] for row in rows] == written
    assert [row[4] for row in store.read_text(run_id, "fit", "0")] == ["a\n", "c"]
    assert [row[4] for row in store.read_text(run_id, attempt=1)] == ["a\n", "b", "d"]
    assert [row[4] for row in store.read_text(run_id, after=rows[1][0])] == ["c", "d"]
    with pytest.raises(NotFoundError):
        store.write_text("nobody", "fit", "", 1, "lost")


def test_text_may_be_written_by_another_thread_while_events_are_appended(store: SqlStore) -> None:
    run_id = a_run(store)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(100):
                store.write_text(run_id, "fit", "", 1, str(number))
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    for number in range(100):
        store.append(run_id, 1, [started(f"s{number}"), succeeded(f"s{number}")])
    thread.join()
    assert failures == []
    assert [row[4] for row in store.read_text(run_id)] == [str(number) for number in range(100)]
    assert_tables_say_what_the_events_say(store, run_id)


def test_several_threads_may_append_and_put_at_once(store: SqlStore) -> None:
    run_id = a_run(store)

    def work(name: str) -> None:
        for number in range(40):
            store.put_code(f"{name}{number}", [], {"x": "1"})
            store.append(run_id, 1, [started(f"{name}{number}"), succeeded(f"{name}{number}")])

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.step_runs(run_id)) == 80
    assert all(store.get_code(f"{name}{number}") for name in "ab" for number in range(40))
    assert_tables_say_what_the_events_say(store, run_id)


def test_code_comes_back_as_it_was_put(store: SqlStore) -> None:
    parts = [CodePart("a.py:f", digest_bytes(b"f"), "def f(): ..."), CodePart("a.py:g", digest_bytes(b"g"), "g = 1")]
    for _ in range(2):
        store.put_code("finger", parts, {"pandas": "2.2"})
    assert store.get_code("finger") == (parts, {"pandas": "2.2"})
    assert store.get_code("other") is None


def test_what_was_put_is_kept_by_the_next_append_or_by_closing(shared_place) -> None:
    writer, reader = shared_place.open(), shared_place.open()
    run_id = a_run(writer)
    writer.put_code("a", [], {"x": "1"})
    assert reader.get_code("a") is None
    writer.append(run_id, 1, [started()])
    assert reader.get_code("a") == ([], {"x": "1"})
    writer.put_code("f", [], {})
    writer.close()
    assert reader.get_code("f") == ([], {})


# retention ------------------------------------------------------------------------------------------------------------


def test_live_digests_name_every_blob_that_a_kept_run_refers_to(store: SqlStore) -> None:
    tree = a_ref("tree", inline=None, blobs=(Blob("a", "1" * 64, 1), Blob("b", "2" * 64, 1)))
    graph = b'{"nodes":[{"name":"a","payload":"%s"},{"name":"b"}]}' % (b"3" * 64)
    record = store.create(a_record(manifest=digest_bytes(graph)), graph, AT)
    store.append(record.id, 1, [started(), succeeded(outputs={"tree": tree, "plain": a_ref("p")}, key="k")])
    assert store.live_digests() == {
        tree.digest, "1" * 64, "2" * 64, "3" * 64, digest_bytes(graph)  # "p" lies in the run log itself
    }  # fmt: skip


def test_a_deleted_run_leaves_nothing_and_takes_nothing_from_others(store: SqlStore) -> None:
    shared, own = (a_ref(name, inline=None, blobs=(Blob("", name[0] * 64, 1),)) for name in ("shared", "own"))
    gone, kept = a_run(store, tags={"a": "b"}), a_run(store, at=AT + 10**9)
    for run_id, outputs in ((gone, {"s": shared, "o": own}), (kept, {"s": shared})):
        store.append(run_id, 1, [started(key="key-" + run_id), succeeded(outputs=outputs, key="both")])
        store.append(run_id, 1, [RunFinished(at=AT, state=RunState.SUCCEEDED)])
        store.write_text(run_id, "fit", "", 1, "hello")
    store.delete_runs([gone, "nobody"])
    assert store.find_run(gone) is None
    assert store.events(gone) == []
    assert store.step_runs(gone) == []
    assert list(store.read_text(gone)) == []
    assert [entry.run_id for entry in store.entries("both")] == [kept]
    assert store.live_digests() == {shared.digest, "s" * 64, digest_bytes(GRAPH)}
    assert_tables_say_what_the_events_say(store, kept)
    store.delete_runs([kept])
    tables = ("runs", "run_records", "run_tags", "manifests", "events", "step_runs", "uses", "artifacts",
              "cache_entries", "texts")  # fmt: skip
    left = {table for table in tables if store.database.connection.execute(f"SELECT 1 FROM {table}").fetchall()}
    assert left == set()


def test_a_run_that_is_running_is_not_deleted_and_nothing_else_is_either(store: SqlStore) -> None:
    finished, running = a_run(store), a_run(store, at=AT + 10**9)
    store.append(finished, 1, [RunFinished(at=AT, state=RunState.SUCCEEDED)])
    store.hold(running, 1)
    with pytest.raises(StoreError, match=f"'{running}' is running"):
        store.delete_runs([finished, running])
    assert store.find_run(finished) is not None
    store.release(running)
    store.delete_runs([running])
    assert store.find_run(running) is None


# opening --------------------------------------------------------------------------------------------------------------


def test_processes_that_open_a_fresh_store_at_once_all_succeed(shared_place) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom penstock.stores.runlog import open_store\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "store = open_store(sys.argv[1], home=Path(sys.argv[2]))\nprint(store.version(), flush=True)\nstore.close()\n"
    )
    arguments = [sys.executable, "-W", "error", "-c", script, shared_place.url, str(shared_place.home)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(arguments, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert results == [("2\n", "")] * 4
    assert shared_place.open().version() == 2


def test_what_was_written_is_there_when_the_store_is_opened_again(shared_place) -> None:
    first = shared_place.open()
    run_id = a_run(first)
    first.append(run_id, 1, [started(), succeeded()])
    first.close()
    first.close()
    with pytest.raises(StoreError, match="is closed"):
        first.append(run_id, 1, [started("late")])
    assert_tables_say_what_the_events_say(shared_place.open(), run_id)


def test_a_store_that_a_newer_penstock_shares_is_used_as_it_is(shared_place) -> None:
    store = shared_place.open()
    store.database.connection.execute("INSERT INTO schema VALUES (99, 1, 0)")
    store.close()
    newer = shared_place.open()
    assert newer.version() == 99
    a_run(newer)


def test_a_store_that_only_a_newer_penstock_may_write_is_refused_unharmed(shared_place) -> None:
    store = shared_place.open()
    store.database.connection.execute("INSERT INTO schema VALUES (99, 99, 0)")
    store.close()
    file = shared_place.home / "runs.db"
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(StoreTooNewError, match="its schema is 99 and takes writers from 99"):
        shared_place.open()
    assert (file.read_bytes() if file.exists() else None) == before


def test_a_file_that_is_no_sqlite_database_is_refused_unharmed(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    file.write_bytes(b"name,age\nada,36\n" * 100)
    with pytest.raises(StoreError, match=r"runs\.db is not a SQLite database"):
        open_store(str(file), home=tmp_path)
    assert file.read_bytes() == b"name,age\nada,36\n" * 100


def test_somebody_elses_sqlite_database_is_refused_unharmed(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    foreign = sqlite3.connect(file)
    foreign.execute("CREATE TABLE people (name TEXT)")
    foreign.close()
    before = file.read_bytes()
    with pytest.raises(StoreError, match="not a run log of penstock"):
        open_store(str(file), home=tmp_path)
    assert file.read_bytes() == before


def test_a_store_that_somebody_makes_while_it_is_opened_is_not_taken_for_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, file = SqliteDatabase._schema_row, str(tmp_path / "runs.db")
    looks: list[object] = []

    def slow(database: SqliteDatabase) -> object:
        found = look(database)
        looks.append(found)
        if len(looks) == 1:
            open_store(file, home=tmp_path).close()
        return found

    monkeypatch.setattr(SqliteDatabase, "_schema_row", slow)
    open_store(file, home=tmp_path).close()
    assert looks[0] is None


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="cannot be opened") as caught:
        open_store(f"sqlite:///{tmp_path}/file/runs.db", home=tmp_path)
    assert "folder" in str(caught.value.hint)
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        open_store(str(tmp_path), home=tmp_path)


def test_an_unknown_scheme_says_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'postgres1://'") as caught:
        open_store("postgres1://db/x", home=tmp_path)
    assert "did you mean 'postgres'" in str(caught.value.hint)


def test_a_locked_store_says_so_after_its_patience(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"), home=tmp_path)
    assert isinstance(store, SqlStore)
    store.database.connection.execute("PRAGMA busy_timeout=20")
    blocker = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="is locked: another process"):
        a_run(store)
    blocker.close()
    a_run(store)
    store.close()


def test_a_full_disk_says_so_and_harms_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"), home=tmp_path)
    assert isinstance(store, SqlStore)
    run_id = a_run(store)
    pages = store.database.connection.execute("PRAGMA page_count").fetchone()[0]
    store.database.connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreUnavailableError, match="the disk is full"):
        store.append(run_id, 1, [started(inputs={"x": ["y" * 100_000]})])
    store.database.connection.execute("PRAGMA max_page_count=1000000")
    store.append(run_id, 1, [started(inputs={"x": ["y" * 100_000]})])
    assert_tables_say_what_the_events_say(store, run_id)
    store.close()


def test_a_read_only_store_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"), home=tmp_path)
    assert isinstance(store, SqlStore)
    store.database.connection.execute("PRAGMA query_only=ON")  # what root, too, may not write
    with pytest.raises(StoreUnavailableError, match="is read-only"):
        a_run(store)
    store.close()


def test_full_durability_is_asked_of_sqlite(tmp_path: Path) -> None:
    for durability, level in (("normal", 1), ("full", 2)):
        store = open_store(str(tmp_path / "runs.db"), home=tmp_path, durability=durability)
        assert isinstance(store, SqlStore)
        assert store.database.connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert store.database.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        store.close()


# PostgreSQL -----------------------------------------------------------------------------------------------------------


def test_an_unreachable_postgres_is_named_without_its_password(postgres_url: str, tmp_path: Path) -> None:
    url = postgres_url.replace("penstock@", "penstock:hunter2@").rpartition("/")[0] + "/nosuchdb"
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached.*nosuchdb") as caught:
        open_store(url, home=tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("shared_place", ["postgres"], indirect=True)
def test_a_dropped_connection_is_made_again_for_reads_and_new_transactions(shared_place) -> None:
    store, other = shared_place.open(), shared_place.open()
    run_id = a_run(store)

    def drop() -> None:
        pid = store.database.connection.info.backend_pid
        other.database.connection.execute(f"SELECT pg_terminate_backend({pid}, 5000)")

    drop()
    assert store.find_run(run_id) is not None
    drop()
    store.append(run_id, 1, [started()])
    drop()
    store.write_text(run_id, "fit", "", 1, "x")
    assert_tables_say_what_the_events_say(store, run_id)


@pytest.mark.parametrize("shared_place", ["postgres"], indirect=True)
def test_a_connection_that_drops_inside_a_transaction_loses_the_transaction_only(shared_place) -> None:
    store, other = shared_place.open(), shared_place.open()
    run_id = a_run(store)

    def lose_the_connection_inside() -> None:
        with store.database.transaction():
            store.database.run("request_cancel", (1,))
            pid = store.database.connection.info.backend_pid
            other.database.connection.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
            store.database.run("request_cancel", (1,))

    with pytest.raises(StoreUnavailableError, match="went away"):
        lose_the_connection_inside()
    assert not store.beat(run_id)
    store.append(run_id, 1, [started()])
    assert_tables_say_what_the_events_say(store, run_id)


def test_a_resume_with_other_code_renews_the_record_and_another_one_leaves_it(store: SqlStore) -> None:
    run_id = a_run(store, code={"steps": {"a.py:f": "1"}}, environment={"python": "3.11.1"})
    code, seen = {"steps": {"a.py:f": "2"}}, {"python": "3.12.1"}
    store.append(run_id, 1, [RunResumed(at=AT, epoch=2, code=code, environment=seen, kept=("gen",))])
    store.append(run_id, 2, [RunResumed(at=AT, epoch=3, kept=("gen",))])
    found = store.find_run(run_id)
    assert found is not None
    assert (found.record.code, found.record.environment) == (code, seen)
    assert assert_tables_say_what_the_events_say(store, run_id).kept == ("gen",)


def test_what_a_fingerprint_cannot_see_is_kept_beside_it_and_the_newest_counts(shared_place) -> None:
    store = shared_place.open()
    store.put_code("f", [], {"pandas": "2.2"})
    assert store.get_unseen("f") == ()
    again = shared_place.open()
    again.put_code("f", [], {"pandas": "2.2"}, ("a.py:1: eval", "a.py:2: open"))
    assert again.get_unseen("f") == ("a.py:1: eval", "a.py:2: open")
    assert again.get_code("f") == ([], {"pandas": "2.2"})
    assert again.get_unseen("other") == ()
