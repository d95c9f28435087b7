"""The dialect seam: what SQLite and PostgreSQL must answer so that everything above them is written once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

from ...core.errors import StoreError

SQL_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sql")
Row = tuple[Any, ...]
Batch = tuple[str, Sequence[Sequence[Any]]]


class ConflictError(StoreError):
    """A unique constraint was broken; the caller knows what that means."""


class Database(Protocol):
    """One connection, used by one thread at a time. Statements are named blocks of queries.sql."""

    name: str  # for messages; holds no password
    connection: Any
    lock: Any  # a reentrant lock; held by every operation, and by a transaction for all of its time

    def transaction(self) -> Transaction:
        """A writing transaction: all or none, other writers of the same run wait."""
        ...

    def rows(self, name: str, values: Sequence[Any] = ()) -> list[Row]: ...

    def rows_where(self, name: str, tail: str, values: Sequence[Any]) -> list[Row]:
        """As `rows`, with conditions put together by the caller behind the named statement."""
        ...

    def one(self, name: str, values: Sequence[Any] = ()) -> Row | None: ...

    def head(self, run_id: str) -> tuple[int, int, str, int] | None:
        """Inside a transaction: hold the run against other writers. -> number, epoch, state, newest event's number."""
        ...

    def run(self, name: str, values: Sequence[Any] = ()) -> int:
        """Execute one statement, on its own or in the open transaction; the number of rows it changed."""
        ...

    def write(self, batches: Sequence[Batch]) -> None:
        """Execute statements in order, each for all of its rows."""
        ...

    def script(self, text: str) -> None:
        """Execute the statements of a migration, in the open transaction."""
        ...

    def found_version(self) -> tuple[int, int] | None:
        """(version, min_writer) of the store, None where it is fresh. Writes nothing; refuses a foreign database."""
        ...

    def prepare_fresh(self) -> None:
        """What has to happen once, before the first migration's transaction."""
        ...

    def lock_schema(self) -> None:
        """Inside a transaction: wait until no other process migrates."""
        ...

    def lock_runs(self) -> None:
        """Inside a transaction: no run is started or changed by anybody else until it is over."""
        ...

    def keep_copy(self, version: int) -> None:
        """Inside a migration's transaction, before it changes anything: keep what is there, if that is easy."""
        ...

    def lock_key(self, key: bytes) -> None:
        """Inside a transaction: nobody else claims this cache key until it is over."""
        ...

    def ready(self) -> None:
        """Settings of the connection, once the store is known to be ours."""
        ...

    def now_us(self) -> int:
        """The database's time, for leases."""
        ...

    def close(self) -> None: ...


class Connected(Protocol):
    """What a transaction needs of its database."""

    lock: Any

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


class Transaction:
    """Holds the connection's lock and commits at the end of the block, or rolls everything back."""

    __slots__ = ("_database",)

    def __init__(self, database: Connected) -> None:
        self._database = database

    def __enter__(self) -> None:
        database = self._database
        database.lock.acquire()
        try:
            database.begin()
        except BaseException:
            database.lock.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        database = self._database
        try:
            if kind is not None:
                self._rollback()
                return
            try:
                database.commit()
            except BaseException:
                self._rollback()
                raise
        finally:
            database.lock.release()

    def _rollback(self) -> None:
        try:
            self._database.rollback()
        except StoreError:
            pass  # the connection is gone, and the transaction with it; the first error is the one to tell


def place_of(run_no: int, seq: int) -> int:
    """Where an event stands: the key of `events`, and what other tables name it by."""
    return run_no << 32 | seq


def queries(dialect: dict[str, str]) -> dict[str, str]:
    """The named statements of queries.sql in a dialect."""
    with open(os.path.join(SQL_FOLDER, "queries.sql"), encoding="utf-8") as file:
        text = translated(file.read(), dialect)
    named: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        name, _, statement = block.partition("\n")
        named[name.strip()] = statement.partition("\n--")[0].strip()
    return named


def translated(text: str, dialect: dict[str, str]) -> str:
    for word, meaning in dialect.items():
        text = text.replace(word, meaning)
    return text


def statements(script: str) -> list[str]:
    """The statements of a migration; sqlite3's own executescript would commit the transaction around it."""
    bare = "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("--"))
    return [part.strip() for part in bare.split(";\n") if part.strip()]


def packed(digest: str) -> bytes:
    """A digest as 32 bytes; any other text as itself behind a mark (two, where one would make it 32 bytes long)."""
    if len(digest) == 64:
        try:
            raw = bytes.fromhex(digest)
        except ValueError:
            raw = b""
        if raw.hex() == digest:
            return raw
    text = digest.encode("utf-8", "surrogatepass")
    return b"\x01" + text if len(text) != 31 else b"\x01\x01" + text


def unpacked(raw: bytes) -> str:
    """
    >>> [unpacked(packed(text)) for text in ("ab" * 32, "k", "x" * 31)] == ["ab" * 32, "k", "x" * 31]
    True
    """
    if len(raw) == 32:
        return raw.hex()
    return raw.lstrip(b"\x01").decode("utf-8", "surrogatepass")
