"""What every validation library's answer becomes: rows that pass, rows that do not with their reasons, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ..core.errors import InvalidDataError
from ..graph import Quarantine
from ..ports.boundary import Checked

_SHOWN_CHECKS = 8
_SHOWN_ROWS = 3
_SHOWN_CHARACTERS = 60


class Fault(NamedTuple):
    """One row that broke one check. `row` counts from 0; `got` is None where one value cannot tell."""

    row: int
    column: str  # "" where the check looks at whole rows
    check: str
    got: str | None = None

    def __str__(self) -> str:
        text = f"{self.column}: {self.check}" if self.column else self.check
        return text if self.got is None else f"{text} (got {self.got})"


class Faults:
    """Everything found wrong with rows; a row and check count once."""

    def __init__(self) -> None:
        self._by_row: dict[int, dict[tuple[str, str], Fault]] = {}

    def add(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            checks = self._by_row.setdefault(fault.row, {})
            checks.setdefault((fault.column, fault.check), fault)

    def enrich(self, faults: Iterable[Fault]) -> None:
        """More reasons for rows that are bad already, except about cells that have one.

        Whole-row checks are left out: they would have looked at a cell that could not be read.
        """
        for fault in faults:
            known = self._by_row.get(fault.row)
            if known and fault.column and all(column != fault.column for column, _ in known):
                known[(fault.column, fault.check)] = fault

    @property
    def rows(self) -> list[int]:
        return sorted(self._by_row)

    def reasons(self) -> list[str]:
        """One text for each bad row, in the order of `rows`."""
        return ["; ".join(str(fault) for fault in self._by_row[row].values()) for row in self.rows]

    def summary(self) -> list[str]:
        """One line for each column and check, the most frequent first, with sample values and their rows."""
        groups: dict[tuple[str, str], list[Fault]] = {}
        for row in self.rows:
            for key, fault in self._by_row[row].items():
                groups.setdefault(key, []).append(fault)
        ranked = sorted(groups.values(), key=len, reverse=True)
        lines = [_group_line(group) for group in ranked[:_SHOWN_CHECKS]]
        if len(ranked) > _SHOWN_CHECKS:
            lines.append(f"… and {len(ranked) - _SHOWN_CHECKS} more checks")
        return lines


class Frame(NamedTuple):
    """A table library, as far as setting rows aside needs it."""

    length: Callable[[Any], int]
    take: Callable[[Any, Sequence[int]], Any]  # rows by position, in order
    label: Callable[[Any, Sequence[int], Sequence[str]], Any]  # those rows with their reasons


def settle(original: Any, value: Any, faults: Faults, *, frame: Frame, schema: str) -> Checked:
    """The good rows and the quarantine."""
    total = frame.length(original)
    bad = faults.rows
    if not bad:
        return Checked(value, None, total, 0, f"{_rows(total)} pass{'es' if total == 1 else ''} {schema}")
    quarantined = frame.label(original, bad, faults.reasons())
    told = "; ".join(faults.summary()[:3])
    return Checked(value, quarantined, total, len(bad), f"{len(bad)} of {_rows(total)} set aside: {told}")


def refuse_too_many(faults: Faults, total: int, *, where: str, schema: str, policy: Quarantine | None) -> None:
    """Raise InvalidDataError for more bad rows than the policy allows (none without one)."""
    bad = len(faults.rows)
    if not bad:
        return
    details = "".join(f"\n  {line}" for line in faults.summary())
    if policy is None:
        raise InvalidDataError(
            f"{where}: {bad} of {_rows(total)} break{'s' if bad == 1 else ''} {schema} (rows count from 0){details}",
            hint="fix the data, or set bad rows aside: @step(on_invalid=Quarantine(max_fraction=0.05))",
        )
    limit = _exceeded(bad, total, policy)
    if limit is not None:
        raise InvalidDataError(
            f"{where}: {bad} of {_rows(total)} break {schema}, more than the quarantine's {limit} (rows count from 0)"
            f"{details}",
            hint="look at the source before raising the limit",
        )


def refuse(problems: Sequence[str], *, where: str, schema: str, hint: str | None = None) -> InvalidDataError:
    """The table as a whole is not what the schema says; no row can be blamed."""
    return InvalidDataError(f"{where}: not {schema}" + "".join(f"\n  {each}" for each in problems), hint=hint)


def shown(value: Any) -> str:
    """A value short enough for a message.

    >>> shown("abc"), shown(-3.1), shown("x" * 100)[-5:]
    ("'abc'", '-3.1', 'xxxx…')
    """
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    text = repr(plain) if isinstance(plain, (str, bytes)) else str(plain)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _exceeded(bad: int, total: int, policy: Quarantine) -> str | None:
    if policy.max_rows is not None and bad > policy.max_rows:
        return f"max_rows={policy.max_rows}"
    if bad > policy.max_fraction * total:
        return f"max_fraction={policy.max_fraction:g}"
    return None


def _group_line(group: list[Fault]) -> str:
    first = group[0]
    title = f"{first.column}: {first.check}" if first.column else first.check
    samples = ", ".join(
        f"row {fault.row}" + (f" has {fault.got}" if fault.got is not None else "") for fault in group[:_SHOWN_ROWS]
    )
    return f"{title}: {_rows(len(group))} ({samples}{', …' if len(group) > _SHOWN_ROWS else ''})"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
