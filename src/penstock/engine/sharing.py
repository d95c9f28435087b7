"""Places that runs share: so many of a pool, so many active runs of a pipeline. Each is a lease in the run log.

A lease ends with its holder's process, at once on its host and within LEASE_S elsewhere, so a killed holder's place is
free again. Who finds every place taken stands in line: the first in line holds a lease too ("next"), and the one behind
it the door; a run that gives a place back and wants another one finds the door taken, and stands behind.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress

from ..core.errors import StoreError
from ..ports.runlog import CacheIndex

LEASE_S = 30.0
TOLD_S = 0.3  # who waits longer says so


def pause_after(waited_s: float) -> float:
    """Seconds until places that were all taken are looked at again: a twentieth of what was waited already.

    >>> pause_after(0.0), pause_after(2.0), pause_after(3600.0)
    (0.02, 0.1, 1.0)
    """
    return min(max(waited_s / 20, 0.02), 1.0)


class SharedPlaces:
    """The places of one kind that one run takes and gives back. Threads of its own renew what it holds.

    sizes:  how many places each name has; one where nobody has said (a bench, which shares with nobody).
    """

    def __init__(self, store: CacheIndex, run_id: str, kind: str, sizes: Mapping[str, int]) -> None:
        self._store = store
        self._kind = kind
        self._sizes = sizes
        self._me = f"{run_id}/{os.urandom(6).hex()}"  # nobody else's, not of the same run in another process either
        self._count = 0
        self._held: dict[str, str] = {}  # lease -> under which name it is held
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, name: str, *, in_line: bool = True) -> str | None:
        """A place, or None while all are taken or others stand before us; ask again. Without `in_line`, none is taken
        before others, and none is waited for."""
        if in_line and not self._is_next(name):
            return None
        for place in self._places(name):
            if place not in self._held and self._lease(place):
                self.leave_line(name)
                return place
        return None

    def give_back(self, place: str) -> None:
        with self._lock:
            owner = self._held.pop(place, None)
            if owner is not None:
                with suppress(StoreError):  # away for a moment: nobody renews it any more
                    self._store.unlease(place, owner)

    def leave_line(self, name: str) -> None:
        for lease in self._line(name):
            self.give_back(lease)

    def holders(self, name: str) -> list[str]:
        """The runs that have its places, each once."""
        owners = [self._store.find_holder(place) for place in self._places(name)]
        return list(dict.fromkeys(owner.partition("/")[0] for owner in owners if owner is not None))

    def close(self) -> None:
        """Give everything back."""
        self._done.set()
        for lease in list(self._held):
            self.give_back(lease)
        if self._thread is not None:
            self._thread.join()

    def _places(self, name: str) -> list[str]:
        return [f"{self._kind}:{name}:{number}" for number in range(self._sizes.get(name, 1))]

    def _line(self, name: str) -> tuple[str, str]:
        return f"{self._kind}:{name}:next", f"{self._kind}:{name}:door"

    def _is_next(self, name: str) -> bool:
        first, door = self._line(name)
        if first in self._held:
            return True
        if not ((door in self._held or self._lease(door)) and self._lease(first)):
            return False
        self.give_back(door)
        return True

    def _lease(self, lease: str) -> bool:
        with self._lock:
            self._count += 1
            owner = self._held[lease] = f"{self._me}.{self._count}"  # first: what is interrupted here is given back too
            if not self._store.lease(lease, owner, LEASE_S, while_alive=True):
                del self._held[lease]
                return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew, daemon=True, name="penstock-places")
            self._thread.start()
        return True

    def _renew(self) -> None:
        while not self._done.wait(LEASE_S / 3):
            for lease in list(self._held):
                with self._lock, suppress(StoreError):  # it has slack for two more tries
                    owner = self._held.get(lease)
                    if owner is not None and not self._store.lease(lease, owner, LEASE_S, while_alive=True):
                        del self._held[lease]  # another host has it by now, which could not know that we live
