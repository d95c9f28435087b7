"""Time comes from a clock that tests can turn. Instants: integer microseconds UTC inside, aware datetimes outside."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where every instant and every wait comes from."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def pause(self, seconds: float) -> float:
        """How long to really wait for so many seconds to pass. A turned clock lets them pass at once, and says 0."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> float:
        return seconds


def instant(us: int) -> datetime:
    """Microseconds UTC as an aware datetime.

    >>> instant(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(us / 1_000_000, UTC)
