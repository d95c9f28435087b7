"""What has been computed already. An entry points at the StepSucceeded that made it; nothing is stored twice."""

from __future__ import annotations

from ...ports.events import StepSucceeded
from ...ports.runlog import CacheEntry
from .database import Database, packed
from .rows import decoded_event


class CachePart:
    """The CacheIndex of ports.runlog. Leases count in the database's time."""

    database: Database

    def entries(self, key: str) -> list[CacheEntry]:
        result = []
        for run_id, body in self.database.rows("cache_entries", (packed(key),)):
            event = decoded_event(body)
            if isinstance(event, StepSucceeded):
                result.append(_entry(key, run_id, event))
        return result

    def forget(self, key: str, run_id: str) -> None:
        self.database.run("forget_cache_entry", (packed(key), run_id))

    def lease(self, key: str, owner: str, seconds: float) -> bool:
        now = self.database.now_us()
        return self.database.run("take_cache_lease", (packed(key), owner, now + int(seconds * 1_000_000), now)) == 1

    def unlease(self, key: str, owner: str) -> None:
        self.database.run("drop_cache_lease", (packed(key), owner))


def _entry(key: str, run_id: str, event: StepSucceeded) -> CacheEntry:
    return CacheEntry(
        key=key,
        run_id=run_id,
        step=event.step,
        index=event.index,
        outputs=event.outputs,
        observations=event.observations,
        metrics=event.metrics,
        note=event.note,
        seconds=event.seconds,
        at=event.at,
    )
