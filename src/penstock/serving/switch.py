"""Which version answers now, and how another takes over: loaded, warmed and checked before one assignment.

The old version goes on answering while the new one is loaded; requests that hold it finish on it. If the new one
cannot be loaded, or needs what today's callers do not send, or the registry is away, the old one stays and says so.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, NamedTuple

from ..core.clock import Clock, SystemClock
from ..core.errors import PenstockError, ServingError
from .source import Live, ModelSource, broken_callers, load_live

_log = logging.getLogger("penstock.serving")
_TRY_AGAIN_S = 30.0


class Refused(NamedTuple):
    """A version that could not take over, and when it is tried again (monotonic seconds)."""

    version: str
    problem: str
    again_at: float


class Switch:
    """Holds the live version and follows the source's reference; loads the first version at once."""

    def __init__(
        self, source: ModelSource, *, poll_s: float = 1.0, max_rows: int = 10_000, clock: Clock | None = None
    ) -> None:
        self._source = source
        self._poll_s = poll_s
        self._max_rows = max_rows
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.reference = source.reference
        self.registry_problem: str | None = None
        self.refused: Refused | None = None
        # Replaced as a whole, never changed: a reader needs no lock.
        self.live: Live = load_live(source, source.current(), max_rows=max_rows, clock=self._clock)
        _log.info("serving %s version %s", self.reference, self.live.version.version)

    def check(self) -> None:
        """Look once where the reference points, and switch if it moved."""
        try:
            wanted = self._source.current()
        except PenstockError as error:
            self._keep("the registry does not say what to serve: " + error.problem)
            return
        self._keep(None)
        if wanted.version == self.live.version.version:
            self.refused = None
            return
        refused = self.refused
        if refused and refused.version == wanted.version and self._clock.monotonic() < refused.again_at:
            return
        try:
            fresh = self._ready(wanted)
        except Exception as error:  # noqa: BLE001 - whatever a stored model raises, the one that serves must go on
            problem = error.problem if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
            self.refused = Refused(wanted.version, problem, self._clock.monotonic() + _TRY_AGAIN_S)
            _log.error(
                "%s version %s cannot take over, version %s keeps serving: %s",
                wanted.name,
                wanted.version,
                self.live.version.version,
                problem,
            )
            return
        was, self.live, self.refused = self.live.version.version, fresh, None
        _log.info("serving %s version %s (was %s)", self.reference, wanted.version, was)

    def _ready(self, wanted: Any) -> Live:
        fresh = load_live(self._source, wanted, max_rows=self._max_rows, clock=self._clock)
        if problems := broken_callers(self.live.signature, fresh.signature):
            raise ServingError(
                f"it does not accept what callers of version {self.live.version.version} send: " + "; ".join(problems),
                hint="restart the server once its callers send the new columns",
            )
        return fresh

    def _keep(self, problem: str | None) -> None:
        if problem != self.registry_problem:
            if problem:
                _log.warning("version %s keeps serving: %s", self.live.version.version, problem)
            else:
                _log.info("the registry answers again")
        self.registry_problem = problem

    def start(self) -> None:
        """Follow the reference from a thread of its own; a version number cannot move and is not followed."""
        if self._thread is None and self.reference.is_alias:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._follow, name="penstock-alias", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def _follow(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                self.check()
            except Exception:  # noqa: BLE001 - a thread that died quietly would never switch again
                _log.exception("looking for a new version failed; version %s keeps serving", self.live.version.version)
