"""Rows that explain or prepare something and may wait for the next append: they cost no transaction of their own."""

from __future__ import annotations

from .database import Batch, Database


class WaitingPart:
    """What waits is written in the next append's transaction, before a read that could want it, or on closing."""

    database: Database
    _waiting: list[Batch]

    def flush(self) -> None:
        """Write what waits."""
        with self.database.lock:
            waiting = list(self._waiting)
            if waiting:
                with self.database.transaction():
                    self.database.write(waiting)
                self._written(waiting)

    def _written(self, waiting: list[Batch]) -> None:
        """Called under the same hold of the lock as the writing; another thread may have put more behind these."""
        del self._waiting[: len(waiting)]
