"""What a stored table looks like, column by column, so that two versions of it can be told apart in words."""

from __future__ import annotations

import msgspec


class ColumnStatistics(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column. Numbers have a mean and quantiles; everything else has its most frequent values."""

    name: str
    type: str
    nulls: int = 0
    mean: float | None = None
    std: float | None = None
    minimum: float | str | None = None
    maximum: float | str | None = None
    quantiles: tuple[float, ...] = ()  # at 5, 25, 50, 75 and 95 percent; approximate in a big table
    distinct: int | None = None  # None: more than were counted
    top: tuple[tuple[str, int], ...] = ()  # most frequent values with their counts


class TableStatistics(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table, an array or a list of numbers. `sampled`: rows that values were counted in, where not in all."""

    rows: int
    columns: tuple[ColumnStatistics, ...] = ()
    sampled: int | None = None
