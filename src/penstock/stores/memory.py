"""A run log in memory: the same code and the same semantics as on disk, gone with its process. For users' tests."""

from __future__ import annotations

from pathlib import Path

from ..core.clock import Clock
from ..ports.runlog import Store
from .runlog import open_store


def memory_store(clock: Clock | None = None) -> Store:
    """A fresh, empty run log.

    >>> memory_store().version()
    1
    """
    return open_store("memory:", home=Path(), clock=clock)
