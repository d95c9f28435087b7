"""Times as Kubeflow's cron has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.kubeflow.cron import instant, six_fields

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def number(day: str) -> int:
    return DAYS.index(day) if day in DAYS else int(day)


def days(field: str, highest: int) -> set[int]:
    """The days of a field, by the rule book of cron; Sunday is 0. Raises ValueError where one is too high."""
    found = set[int]()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = ("0", "-", str(highest)) if span == "*" else span.partition("-")
        if not last:
            last = str(highest) if step else first
        if max(number(first), number(last)) > highest:
            raise ValueError(part)
        found |= {day % 7 for day in range(number(first), number(last) + 1, int(step or 1))}
    return found


@st.composite
def parts(draw: st.DrawFn) -> str:
    first = draw(st.integers(0, 7))
    names = draw(st.booleans())

    def shown(day: int) -> str:
        return DAYS[day] if names and day < 7 else str(day)

    if draw(st.booleans()):
        return shown(first)
    step = draw(st.sampled_from(["", "/1", "/2", "/3", "/7"]))
    return f"{shown(first)}-{shown(draw(st.integers(first, 7)))}{step}"


@given(st.lists(parts(), min_size=1, max_size=4))
def test_the_days_are_the_same_without_a_seven(drawn: list[str]) -> None:
    field = ",".join(drawn)
    translated = six_fields(f"0 3 * * {field}").split()
    assert translated[:5] == ["0", "0", "3", "*", "*"]
    assert days(translated[5], 6) == days(field, 7)


@pytest.mark.parametrize("field", ["*", "*/2", "1", "mon-fri", "1-5/2", "0"])
def test_what_has_no_seven_stays_as_it_is(field: str) -> None:
    assert six_fields(f"*/7 7 7 7 {field}") == f"0 */7 7 7 7 {field}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01", "2026-01-01T00:00:00Z"),
        ("2026-01-01T03:30", "2026-01-01T03:30:00Z"),
        ("2026-01-01T03:30:00.5+02:00", "2026-01-01T01:30:00.500000Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    ],
)
def test_a_start_is_an_instant_in_utc(text: str, expected: str) -> None:
    assert instant(text) == expected
