"""The whole store, put together from its parts."""

from __future__ import annotations

import os

from ...core.clock import Clock
from .cache import CachePart
from .database import Database
from .liveness import Locks
from .retention import RetentionPart
from .schema import prepare
from .texts import CodeTextPart, LogTextPart


class SqlStore(RetentionPart, CachePart, LogTextPart, CodeTextPart):
    """Every protocol of ports.runlog on one database. Threads may share it; processes open their own."""

    def __init__(self, database: Database, locks: Locks, clock: Clock) -> None:
        self.database = database
        self._locks = locks
        self._clock = clock
        self._host = os.uname().nodename
        self._epochs = {}
        self._renewed = {}
        self._known = {}
        self._waiting = []
        self._put = set()
        self._inline = set()
        self._closed = False
        try:
            prepare(database, clock.now_us(), self._owner_alive)
        except BaseException:
            database.close()
            raise
