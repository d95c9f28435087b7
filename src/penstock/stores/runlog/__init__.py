"""runlog: what happened, on SQLite, PostgreSQL or in memory. May know ports, graph and core.

    store = open_store("sqlite:///.penstock/runs.db", home=Path(".penstock"))

Statements are named blocks of sql/queries.sql; `database.py` is the one seam between the dialects, `schema.py` the one
migration path, `appending.py` turns events into rows. What an event means is never decided here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ...core.clock import Clock, SystemClock
from ...core.errors import StoreError, did_you_mean
from ...ports.runlog import Store
from .liveness import FileLocks, MemoryLocks
from .sqlite import SqliteDatabase
from .store import SqlStore

__all__ = ["SqlStore", "open_store"]

IN_MEMORY = ("memory:", ":memory:", "sqlite://", "sqlite:///:memory:")
_SCHEMES = ("sqlite", "postgresql", "postgres", "memory")


def open_store(
    url: str, *, home: Path, clock: Clock | None = None, durability: Literal["normal", "full"] = "normal"
) -> Store:
    """Open a run log, making or migrating it where needed.

    url:         sqlite:///relative or sqlite:////absolute, a plain path, postgresql://…, memory:
    home:        the local .penstock folder; the lock files of running runs lie in home/locks
    clock:       for tests; a turned clock also stands for the database's time
    durability:  SQLite only. "normal" survives kill -9, "full" a power cut too

    Raises StoreUnavailableError, StoreTooNewError, StoreInUseError, StoreError, MissingExtraError.
    """
    scheme, colon, rest = url.partition(":")
    ticking = clock or SystemClock()
    if url in IN_MEMORY:
        return SqlStore(SqliteDatabase(":memory:", clock=ticking), MemoryLocks(), ticking)
    locks = FileLocks(home / "locks")
    if scheme in ("postgresql", "postgres") and rest.startswith("//"):
        from .postgres import PostgresDatabase  # only loaded where it is asked for

        turned = None if isinstance(ticking, SystemClock) else ticking
        return SqlStore(PostgresDatabase(url, clock=turned), locks, ticking)
    if scheme == "sqlite" and rest.startswith("///"):
        path = rest[3:]
    elif colon and rest.startswith("//"):
        raise StoreError(
            f"'{scheme}://' is no run log that penstock knows",
            hint=did_you_mean(scheme, _SCHEMES) + " (sqlite:///path, a path, postgresql://user@host/database, memory:)",
        )
    else:
        path = url
    return SqlStore(SqliteDatabase(os.path.expanduser(path), clock=ticking, durability=durability), locks, ticking)
