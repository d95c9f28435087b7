"""Cron as Kubeflow counts it: seconds first, Sunday only as 0, and in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def six_fields(expression: str) -> str:
    """The same times with seconds before them.

    >>> six_fields("0 3 * * 1"), six_fields("0 3 * * 5-7"), six_fields("0 3 * * 1-7/3,7")
    ('0 0 3 * * 1', '0 0 3 * * 5-6,0', '0 0 3 * * 1,4,0')
    """
    *others, days = expression.split()
    parts = dict.fromkeys(each for part in days.split(",") for each in _without_seven(part))
    return " ".join(["0", *others, ",".join(parts)])


def _without_seven(part: str) -> Iterator[str]:
    """One element of the field for days of the week, where Kubeflow knows no 7: that is Sunday, which it has as 0."""
    span, _, step = part.partition("/")
    first, _, last = span.partition("-")
    if "7" not in (first, last):
        yield part
    elif first == "7":
        yield "0"
    elif step:
        yield from (str(day % 7) for day in range(_number(first), 8, int(step)))
    elif _number(first) == 0:
        yield "0-6"
    else:
        yield from (f"{first}-6", "0")


def _number(day: str) -> int:
    return _DAYS.index(day.lower()) if day.lower() in _DAYS else int(day)


def instant(text: str) -> str:
    """A day or time as RFC 3339 has it. A bare one is meant in the schedule's time zone, which is UTC here.

    >>> instant("2026-01-01"), instant("2026-01-01T03:00:00+02:00")
    ('2026-01-01T00:00:00Z', '2026-01-01T01:00:00Z')
    """
    moment = datetime.fromisoformat(text)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")
