"""The fence of an attempt on the run log: a lease on what it changes outside, and a look at who owns the attempt now.

What it can promise ends at the outside: between the last look and the receiver's own act there is a moment in which a
process may be stopped. Receivers that know a repeat by its key close it; docs/lifecycle.md says what each one does.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from ..core.canonical import digest_json
from ..core.clock import Clock
from ..core.errors import FencedError, StoreError
from ..ports.effects import Acting
from ..ports.runlog import CacheIndex, Fencing

LEASE_S = 15.0  # how long another one waits for a process that died while it acted
_AGAIN_S = 0.05


class Log(Fencing, CacheIndex, Protocol):
    """The two parts of the store that a fence asks."""


class StoreFence:
    """Fence of one attempt; one thing is held at a time by one attempt of any run that shares the store."""

    def __init__(self, store: Log, acting: Acting, clock: Clock) -> None:
        self._store = store
        self._acting = acting
        self._clock = clock
        self._owner = f"{acting.run_id}/{acting.step}/{acting.index}#{acting.epoch}.{acting.attempt}"
        self._held: dict[str, threading.Event] = {}

    def take(self, thing: str) -> None:
        while not self._lease(thing):
            self._must_own()
            time.sleep(self._clock.pause(_AGAIN_S))
        done = self._held[thing] = threading.Event()
        threading.Thread(target=self._renew, args=(thing, done), daemon=True, name="penstock-effect").start()

    def check(self, thing: str | None = None) -> None:
        self._must_own()
        if thing is not None and not self._lease(thing):
            raise FencedError(
                f"{self._shown()} was held up for so long that another one has taken its place at what it changes",
                hint="nothing was done outside; another attempt may do it",
            )

    def drop(self, thing: str) -> None:
        if (done := self._held.pop(thing, None)) is not None:
            done.set()
            self._store.unlease(_key(thing), self._owner)

    def _lease(self, thing: str) -> bool:
        return self._store.lease(_key(thing), self._owner, LEASE_S)

    def _must_own(self) -> None:
        now = self._acting
        if not self._store.owns_attempt(now.run_id, now.epoch, now.step, now.index, now.attempt):
            raise FencedError(
                f"{self._shown()} may not act any more: the run has been taken over, or the step has ended without it",
                hint=f"what it was about to do outside was not done; see: penstock show {now.run_id} {now.step}",
            )

    def _shown(self) -> str:
        now = self._acting
        return f"attempt {now.attempt} of step '{now.step}{f'[{now.index}]' if now.index else ''}' in run {now.run_id}"

    def _renew(self, thing: str, done: threading.Event) -> None:
        while not done.wait(LEASE_S / 3):
            try:
                self._lease(thing)
            except StoreError:
                continue  # it has slack for another try


def _key(thing: str) -> str:
    return digest_json(["effect", thing])
