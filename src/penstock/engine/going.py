"""What reaches a single step from outside while it runs: SIGTERM, a request to cancel, an engine that takes over."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from ..core.errors import FencedError, StoreError
from ..ports.records import FailureClass
from ..ports.runlog import Liveness
from .endings import ending
from .failure import failure_of
from .tasks import StepOutcome

_BEAT_S = 1.0


class Going:
    """SIGTERM while a step runs: its container or machine goes. The attempt ends, and is recorded as preempted.

    Neither that nor Ctrl-C comes between an outcome and its record: what was computed is not computed again.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self._pid = os.getpid()
        self._asked = False
        self._over = False
        self._insisted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Going:
        if threading.current_thread() is threading.main_thread():
            for number, usual, ours in (
                (signal.SIGTERM, signal.SIG_DFL, self._told_to_go),
                (signal.SIGINT, signal.default_int_handler, self._told_to_stop),
            ):
                if (before := signal.getsignal(number)) == usual:
                    self._before[number] = before
                    signal.signal(number, ours)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def told(self, outcome: StepOutcome) -> StepOutcome:
        """The outcome, with the reason why the step was stopped. From here on nothing keeps it from being recorded."""
        self._over = True
        if self._asked and outcome.failure is not None and outcome.failure.kind is FailureClass.CANCELLED:
            outcome.failure = failure_of(ending(self._step, -signal.SIGTERM, for_memory=None))
        return outcome

    def _told_to_go(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a process that the step forked ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self._asked and not self._over:  # once: the step's own `finally` blocks are not interrupted again
            self._asked = True
            raise KeyboardInterrupt

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid or not self._over or self._insisted:
            raise KeyboardInterrupt
        self._insisted = True  # the record may hang on a store that is away: whoever asks twice is obeyed


class Watch:
    """Renews the run's lease while a step of it runs, and stops that step when the run is cancelled or taken over.

    Nobody owns the run of another engine; its steps keep it alive between them.
    """

    def __init__(self, store: Liveness, run_id: str, epoch: int) -> None:
        self._store = store
        self._run_id = run_id
        self._epoch = epoch
        self._main = threading.get_ident()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._inside = True
        self._thread = threading.Thread(target=self._beat, daemon=True, name="penstock-watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        try:
            with self._lock:
                self._inside = False
        except KeyboardInterrupt:  # it came when the step was over already
            self._inside = False

    def _beat(self) -> None:
        while not self._done.wait(_BEAT_S):
            try:
                asked = self._store.beat(self._run_id, self._epoch)
            except FencedError:
                asked = True
            except StoreError:
                continue  # away for a moment
            if asked:
                with self._lock:
                    if self._inside:  # a real signal: only that ends a blocking call such as time.sleep
                        signal.pthread_kill(self._main, signal.SIGINT)
                return
