"""SQLite, by the standard library: WAL, one writer at a time, readers never wait."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from ...core.clock import Clock
from ...core.errors import StoreError, StoreUnavailableError
from .database import Batch, ConflictError, Row, Transaction, queries, statements, translated

BUSY_SECONDS = 15.0
_DIALECT = {
    "{serial}": "INTEGER PRIMARY KEY AUTOINCREMENT",  # a deleted run's number is never given again
    "{counter}": "INTEGER PRIMARY KEY",
    "{integer}": "INTEGER",
    "{real}": "REAL",
    "{blob}": "BLOB",
    "{without_rowid}": "WITHOUT ROWID",
    "{lock}": "",  # the transaction is the only writer already
    "{body_as_bytes}": "CAST(body AS BLOB)",
}
_SYNCHRONOUS = {"normal": "PRAGMA synchronous=NORMAL", "full": "PRAGMA synchronous=FULL"}
# Pages of log before they are moved to their places. NORMAL: 16 MB, for a page that every append rewrites is moved once
# for all of them. FULL: 1.6 MB, which is soon written over and over; an fsync of a file that grows costs half as much
# again.
_CHECKPOINT_PAGES = {"normal": 4000, "full": 400}


class SqliteDatabase:
    """One file, or ":memory:". NORMAL survives `kill -9`, FULL a power cut too (and costs an fsync per append)."""

    def __init__(self, path: str, *, clock: Clock, durability: str = "normal", busy_seconds: float = BUSY_SECONDS):
        self.name = f"run log {path}" if path != ":memory:" else "the run log in memory"
        self.path = path
        self.lock = threading.RLock()
        self._clock = clock
        self._durability = durability
        self._busy_seconds = busy_seconds
        self._sql = queries(_DIALECT)
        self._transaction = Transaction(self)
        try:
            if path != ":memory:":
                os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            self.connection: sqlite3.Connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.name} cannot be opened: {error.strerror}",
                hint="check that its folder exists and that you may write there",
            ) from error

    def transaction(self) -> Transaction:
        return self._transaction

    def begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._execute("COMMIT")

    def rollback(self) -> None:
        try:
            if self.connection.in_transaction:  # SQLite has rolled back by itself after some errors
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def rows(self, name: str, values: Sequence[Any] = ()) -> list[Row]:
        with self.lock:
            try:
                return self.connection.execute(self._sql[name], values).fetchall()
            except sqlite3.Error as error:
                raise self._explained(error) from error

    def rows_where(self, name: str, tail: str, values: Sequence[Any]) -> list[Row]:
        with self.lock:
            try:
                return self.connection.execute(f"{self._sql[name]} {tail}", values).fetchall()
            except sqlite3.Error as error:
                raise self._explained(error) from error

    def one(self, name: str, values: Sequence[Any] = ()) -> Row | None:
        with self.lock:
            try:
                row: Row | None = self.connection.execute(self._sql[name], values).fetchone()
            except sqlite3.Error as error:
                raise self._explained(error) from error
            return row

    def head(self, run_id: str) -> tuple[int, int, str, int] | None:
        """One statement: BEGIN IMMEDIATE holds the run already."""
        return self.one("head", (run_id,))

    def run(self, name: str, values: Sequence[Any] = ()) -> int:
        with self.lock:
            return self._execute(self._sql[name], values).rowcount

    def write(self, batches: Sequence[Batch]) -> None:
        connection, sql = self.connection, self._sql
        try:
            for name, rows in batches:
                if len(rows) == 1:
                    connection.execute(sql[name], rows[0])
                else:
                    connection.executemany(sql[name], rows)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def script(self, text: str) -> None:
        for statement in statements(translated(text, _DIALECT)):
            self._execute(statement)

    def found_version(self) -> tuple[int, int] | None:
        row = self._schema_row()
        if row is None and self._execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
            return None
        # Between the two looks another process may have made it: all of it at once, so the table is there now.
        if row is None and (row := self._schema_row()) is None:
            raise self._foreign()
        return row[0], row[1]

    def _schema_row(self) -> Row | None:
        try:
            row: Row | None = self.connection.execute(self._sql["schema"]).fetchone()
        except sqlite3.OperationalError as error:
            if not str(error).startswith("no such"):
                raise self._explained(error) from error
            return None
        except sqlite3.Error as error:
            raise self._explained(error) from error
        return row

    def prepare_fresh(self) -> None:
        """Switch to WAL. SQLite's busy timeout does not cover this switch, so two fresh openers need a loop."""
        if self.path == ":memory:":
            return
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise self._explained(error) from error
                time.sleep(0.002)

    def lock_schema(self) -> None:
        """BEGIN IMMEDIATE has done it."""

    def lock_runs(self) -> None:
        """BEGIN IMMEDIATE has done it."""

    def keep_copy(self, version: int) -> None:
        """Copy the file to FILE.v1. By a connection of its own, which sees what was there before this transaction; the
        transaction keeps others from writing. The name is given to a whole copy only."""
        if self.path == ":memory:":
            return
        copy, part = f"{self.path}.v{version}", f"{self.path}.v{version}.part"
        try:
            with suppress(FileNotFoundError):
                os.unlink(part)
            with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(part)) as target:
                source.backup(target)
            os.replace(part, copy)
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.name} cannot be copied to {copy} before it is brought up to date: {error.strerror}",
                hint="check that you may write in its folder, and that there is room for a copy",
            ) from error

    def lock_key(self, key: bytes) -> None:
        """BEGIN IMMEDIATE has done it."""

    def ready(self) -> None:
        self._execute(_SYNCHRONOUS[self._durability])
        self._execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES[self._durability]}")

    def now_us(self) -> int:
        return self._clock.now_us()

    def close(self) -> None:
        with self.lock:
            self.connection.close()

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self.connection.execute(statement, values)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _foreign(self) -> StoreError:
        return StoreError(
            f"{self.path} is a SQLite database, but not a run log of penstock",
            hint="give `runs` another path; penstock makes the file itself",
        )

    def _explained(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith("SQLITE_CONSTRAINT"):
            return ConflictError(f"{self.name}: {error}")
        for prefix, kind, problem, hint in _EXPLAINED:
            if code.startswith(prefix):
                return kind(f"{self.name} {problem.format(seconds=self._busy_seconds)}", hint=hint)
        if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
            return StoreError(f"{self.name} is closed")
        return StoreError(f"{self.name} failed: {error}")


_EXPLAINED: tuple[tuple[str, type[StoreError], str, str], ...] = (
    (
        "SQLITE_BUSY",
        StoreUnavailableError,
        "is locked: another process has been writing to it for more than {seconds:g} s",
        "wait for it to finish; for many writers at once use a postgresql:// run log",
    ),
    (
        "SQLITE_LOCKED",
        StoreUnavailableError,
        "is locked by another statement",
        "wait for it to finish",
    ),
    (
        "SQLITE_READONLY",
        StoreUnavailableError,
        "is read-only",
        "check that you may write the file and its folder",
    ),
    (
        "SQLITE_CANTOPEN",
        StoreUnavailableError,
        "cannot be opened",
        "check that its folder exists, that it is a file, and that you may write there",
    ),
    ("SQLITE_FULL", StoreUnavailableError, "cannot grow: the disk is full", "make room; nothing stored was harmed"),
    (
        "SQLITE_IOERR",
        StoreUnavailableError,
        "cannot be read or written: the disk reports an error",
        "check the disk and its free space; SQLite needs a local file system",
    ),
    (
        "SQLITE_NOTADB",
        StoreError,
        "is not a SQLite database",
        "give `runs` another path, or move the file away",
    ),
    (
        "SQLITE_CORRUPT",
        StoreError,
        "is damaged",
        "keep a copy, then try: sqlite3 OLD '.recover' | sqlite3 NEW",
    ),
)
