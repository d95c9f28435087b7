"""What reaches a single step from outside while it runs: SIGTERM, a request to cancel, an engine that takes over."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from ..core.errors import FencedError, StoreError
from ..ports.records import FailureClass
from ..ports.runlog import Liveness
from .endings import ending
from .failure import failure_of
from .tasks import StepOutcome

_BEAT_S = 1.0


class Going:
    """SIGTERM while a step runs: its container or machine goes. The attempt ends, and is recorded as preempted."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._pid = os.getpid()
        self._asked = False
        self._takes = False

    def __enter__(self) -> Going:
        on_main = threading.current_thread() is threading.main_thread()
        self._takes = on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._takes:
            signal.signal(signal.SIGTERM, self._told_to_go)
        return self

    def __exit__(self, *error: object) -> None:
        if self._takes:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def told(self, outcome: StepOutcome) -> StepOutcome:
        """The outcome, with the reason why the step was stopped."""
        if self._asked and outcome.failure is not None and outcome.failure.kind is FailureClass.CANCELLED:
            outcome.failure = failure_of(ending(self._step, -signal.SIGTERM, for_memory=None))
        return outcome

    def _told_to_go(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a process that the step forked ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self._asked:  # once: the step's own `finally` blocks are not interrupted again
            self._asked = True
            raise KeyboardInterrupt


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
