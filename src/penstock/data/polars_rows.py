"""polars at the boundary: rows by position, and the quarantine table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .extras import need
from .rows import Fault, Frame, shown


def frame_of_polars() -> Frame:
    return Frame(length=len, take=lambda table, rows: table[list(rows)], label=_label)


def cut_numbers(table: Any, columns: Sequence[str]) -> list[Fault]:
    """Numbers with a fraction in columns that are to be integers: a cast would cut it off without a word."""
    faults = []
    for name in columns:
        column = table.get_column(name)
        if column.dtype.is_float():
            cut = ((column % 1) != 0).fill_null(False).arg_true()
            faults += [Fault(int(row), name, "not a whole number", shown(column[int(row)])) for row in cut]
    return faults


def _label(table: Any, rows: Sequence[int], reasons: Sequence[str]) -> Any:
    """Bad rows as they were read, with `row` (their position, from 0) and `reasons`."""
    polars = need("polars", extra="polars", purpose="validating a table")
    taken = table[list(rows)]
    added = {"row": list(rows), "reasons": list(reasons)}
    for name, values in added.items():
        while name in taken.columns:
            name += "_"
        taken = taken.with_columns(polars.Series(name, values))
    return taken
