"""What has been computed already. An entry points at the StepSucceeded that made it; nothing is stored twice."""

from __future__ import annotations

from ...ports.events import StepSucceeded
from ...ports.runlog import CacheEntry
from .database import packed
from .liveness import LivenessPart
from .rows import decoded_event


class CachePart(LivenessPart):
    """The CacheIndex of ports.runlog.

    A lease counts in the database's time. On its holder's host it ends with its holder: whoever holds one, holds a lock
    too, a run its own and any other owner one in its name, and the kernel drops that with the process.
    """

    def entries(self, key: str) -> list[CacheEntry]:
        result = []
        for run_id, body in self.database.rows("cache_entries", (packed(key),)):
            event = decoded_event(body)
            if isinstance(event, StepSucceeded):
                result.append(_entry(key, run_id, event))
        return result

    def forget(self, key: str, run_id: str) -> None:
        self.database.run("forget_cache_entry", (packed(key), run_id))

    def lease(self, key: str, owner: str, seconds: float, *, while_alive: bool = False) -> bool:
        holder = self.find_holder(key) if while_alive else None
        if holder == owner:
            holder = None
        if holder is not None and self._locks.held(self._voucher(holder)):
            return False  # it lives, whatever the clock says of its lease
        vouched = self._vouch(owner)
        taken = self._take(key, owner, seconds)
        if vouched and not taken:
            self._locks.drop(self._voucher(owner))
        if taken and holder is not None:
            self._locks.remove(self._voucher(holder))
        return taken

    def find_holder(self, key: str) -> str | None:
        held = self.database.one("cache_lease", (packed(key),))
        return None if held is None else str(held[0])

    def _take(self, key: str, owner: str, seconds: float) -> bool:
        now = self.database.now_us()
        until = now + int(seconds * 1_000_000)
        if self.database.run("take_cache_lease", (packed(key), owner, until, now)) == 1:
            return True
        held = self.database.one("cache_lease", (packed(key),))
        if held is None or not self._is_gone(held[0]):
            return False
        # The whole row is compared: a holder that came back and renewed its lease meanwhile has another one.
        return self.database.run("inherit_cache_lease", (owner, until, packed(key), *held)) == 1

    def unlease(self, key: str, owner: str) -> None:
        try:
            self.database.run("drop_cache_lease", (packed(key), owner))
        finally:  # though the row could not be reached: nobody vouches for its holder any more
            self._locks.drop(self._voucher(owner))

    def _vouch(self, owner: str) -> bool:
        """Show others on this host that this owner is there, before any row names it; whether that was news."""
        voucher = self._voucher(owner)
        return owner not in self._epochs and not self._locks.held(voucher) and self._locks.take(voucher)

    def _is_gone(self, owner: str) -> bool:
        """Whether an owner is known to be dead. Where nothing is known of it here, its lease has to run out."""
        run = self.database.one("owner", (owner,))
        if run is not None:
            return not self._owner_alive(owner, *run)
        return self._locks.held(self._voucher(owner)) is False

    def _voucher(self, owner: str) -> str:
        return f"{owner}@{self._host}"  # a lock file on a shared folder says nothing of a process on another host


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
