"""Holding a run: a heartbeat, and the two ways of asking it to stop (Ctrl-C here, `penstock cancel` elsewhere)."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ..core.errors import StoreError
from ..ports.runlog import Liveness

_BEAT_S = 1.0


class Ownership:
    """While entered, this process owns the run. `stopping` says that it was asked to end."""

    def __init__(
        self,
        store: Liveness,
        run_id: str,
        epoch: int,
        *,
        wake: Callable[[], None],
        now: Callable[[], None],
        renew: Callable[[], None],
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._epoch = epoch
        self._wake = wake
        self._now = now
        self._renew = renew
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="penstock-heartbeat")
        self._on_main = threading.current_thread() is threading.main_thread()
        self._previous: Any = None
        self.stopping = False
        self.inline = False  # a step is running on the main thread: only an exception reaches it

    def __enter__(self) -> Ownership:
        self._store.hold(self._run_id, self._epoch)
        if self._on_main:
            self._previous = signal.signal(signal.SIGINT, self._interrupted)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        if self._on_main:
            signal.signal(signal.SIGINT, self._previous)
        self._store.release(self._run_id)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:  # the second time means now
            self._now()
            os._exit(130)
        self.stopping = True
        self._wake()
        if self.inline:
            raise KeyboardInterrupt

    def _beat(self) -> None:
        while not self._done.wait(_BEAT_S):
            try:
                asked = self._store.beat(self._run_id)
                self._renew()
            except StoreError:
                continue  # a store that cannot be reached for a moment; the lease has slack for several beats
            if asked and not self.stopping:
                if self._on_main:
                    _thread.interrupt_main()
                else:
                    self.stopping = True
                    self._wake()
                return
