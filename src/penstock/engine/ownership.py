"""Holding a run: a heartbeat, and the ways of asking it to stop (Ctrl-C, SIGTERM, `penstock cancel`)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ..core.errors import FencedError, StoreError
from ..ports.runlog import Liveness

_BEAT_S = 1.0
_AGAIN_S = 0.005
_RUN_LOG = os.path.join("penstock", "stores", "runlog")


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
        told: Callable[[bool], None],
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._epoch = epoch
        self._wake = wake
        self._now = now
        self._told = told
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="penstock-heartbeat")
        self._on_main = threading.current_thread() is threading.main_thread()
        self._main = threading.get_ident()
        self._pid = os.getpid()
        self._previous: Any = None
        self._takes_sigterm = False
        self._postponed = False
        self.stopping = False
        self.fenced: FencedError | None = None  # the run belongs to somebody else by now
        self.inline = False  # a step is running on the main thread: only an exception reaches it

    def __enter__(self) -> Ownership:
        self._store.hold(self._run_id, self._epoch)
        if self._on_main:
            self._previous = signal.signal(signal.SIGINT, self._interrupted)
            # a program with a SIGTERM of its own, such as a server, knows better
            self._takes_sigterm = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            if self._takes_sigterm:
                signal.signal(signal.SIGTERM, self._terminated)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        if self._on_main:
            # None: it had been set by something that is not Python, which cannot be put back from here
            signal.signal(signal.SIGINT, signal.default_int_handler if self._previous is None else self._previous)
            if self._takes_sigterm:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._store.release(self._run_id)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        """A container or systemd wants this process to end: stop as after Ctrl-C, so that resume goes on."""
        if os.getpid() == self._pid:
            self._interrupted(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)  # a step forked this process, which owns no run
        os.kill(os.getpid(), number)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._postponed:
            self._postponed = False
        elif self.stopping:  # the second time means now
            self._told(True)
            self._now()
            os._exit(130)
        else:
            self.stopping = True
            self._told(False)
            self._wake()
        if not self.inline:
            return
        if _in_run_log(frame):  # an exception there could leave a transaction, or its lock, behind
            self._postponed = True
            threading.Timer(_AGAIN_S, signal.pthread_kill, (self._main, signal.SIGINT)).start()
            return
        self.inline = False
        raise KeyboardInterrupt("stopped")

    def _beat(self) -> None:
        while not self._done.wait(_BEAT_S):
            try:
                asked = self._store.beat(self._run_id)
            except FencedError as error:
                self.fenced = error
                asked = True
            except StoreError:
                continue  # a store that cannot be reached for a moment; the lease has slack for several beats
            if asked and not self.stopping:
                if self._on_main:
                    # A real signal: `_thread.interrupt_main` would not end a blocking call such as time.sleep.
                    signal.pthread_kill(self._main, signal.SIGINT)
                else:
                    self.stopping = True
                    self._wake()
            if self.fenced is not None:
                return


def _in_run_log(frame: FrameType | None) -> bool:
    while frame is not None:
        if _RUN_LOG in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
