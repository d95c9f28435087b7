"""A run log in memory: the same code and the same semantics as on disk, gone with its process. For users' tests."""

from __future__ import annotations

from pathlib import Path

from ..core.clock import Clock
from ..ports.runlog import Store
from .runlog import SqlStore, open_store
from .runlog.liveness import MemoryLocks


def memory_store(clock: Clock | None = None) -> Store:
    """A fresh, empty run log.

    >>> memory_store().match_runs("")
    []
    """
    return open_store("memory:", home=Path(), clock=clock)


def next_process(store: Store) -> Store:
    """The same rows, as the next process finds them: what only the last one remembered is gone.

    >>> first = memory_store()
    >>> next_process(first).version() == first.version()
    True
    """
    if not isinstance(store, SqlStore):
        return store
    is_in_memory = isinstance(store._locks, MemoryLocks)  # whose locks are dropped by nobody when a "process" dies
    return SqlStore(store.database, MemoryLocks() if is_in_memory else store._locks, store._clock)
