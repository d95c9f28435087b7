"""A clock that a test turns."""

from __future__ import annotations

from datetime import UTC, datetime

from ..core.clock import instant
from ..core.units import Duration, duration


class TurnedClock:
    """Time passes when a test says so, and while a run has nothing to do but wait: then the wait is over at once.

    >>> clock = TurnedClock("2026-11-23T08:00:00")
    >>> clock.advance("1h30m")
    >>> clock.now().isoformat()
    '2026-11-23T09:30:00+00:00'
    """

    def __init__(self, start: datetime | str = "2026-01-01T00:00:00") -> None:
        begin = datetime.fromisoformat(start) if isinstance(start, str) else start
        if begin.tzinfo is None:
            begin = begin.replace(tzinfo=UTC)
        self._began_us = round(begin.timestamp() * 1_000_000)
        self._passed_us = 0

    def advance(self, by: Duration) -> None:
        """Let time pass: "10m", 3 (seconds) or a timedelta."""
        self._passed_us += round(duration(by).total_seconds() * 1_000_000)

    def step_back(self, by: Duration) -> None:
        """Let the time of day be corrected, as by NTP. No less time has passed for that."""
        self._began_us -= round(duration(by).total_seconds() * 1_000_000)

    def now(self) -> datetime:
        return instant(self.now_us())

    def now_us(self) -> int:
        return self._began_us + self._passed_us

    def monotonic(self) -> float:
        return self._passed_us / 1_000_000

    def pause(self, seconds: float) -> float:
        self._passed_us += -int(-seconds * 1_000_000 // 1)  # rounded up: a wait is never left a microsecond short
        return 0.0
