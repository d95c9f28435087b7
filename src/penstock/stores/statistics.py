"""Statistics of a stored table, read memory-mapped and a column at a time: a big table costs time, not memory.

Means and quantiles are of every row (the quantiles of more than a million by a digest of constant size); values are
counted in the first million rows, and no further than there are a hundred thousand of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.errors import PenstockError
from ..ports.artifacts import ArtifactRef
from ..ports.statistics import ColumnStatistics, TableStatistics
from .artifacts import ArtifactStore
from .codecs.arrow_file import arrow, read_table

_TABLES = ("pandas", "polars", "arrow")
_COUNTED_ROWS = 1_000_000
_SLICE = 1 << 16
_MOST_DISTINCT = 100_000
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SHOWN_TOP = 3
_SHOWN_CHARACTERS = 40


def statistics(artifacts: ArtifactStore, ref: ArtifactRef) -> TableStatistics | None:
    """Of a table, or an array with one or two dimensions; None for anything else, and where the bytes are gone."""
    if ref.codec not in (*_TABLES, "npy") or len(ref.blobs) != 1:
        return None
    try:
        arrow("statistics of a table", "pandas")
        path = artifacts.blobs.open_local(ref.blobs[0].digest, ref.blobs[0].size_bytes)
        return of_table(read_table(path)) if ref.codec in _TABLES else _of_array(path)
    except PenstockError:
        return None  # what is gone, or cannot be read here, has no statistics


def of_table(table: Any) -> TableStatistics:
    """Statistics of an Arrow table. The index that pandas keeps beside the columns is left out."""
    names = [name for name in table.column_names if not str(name).startswith("__index_level_")]
    columns = tuple(_column(str(name), table.column(table.column_names.index(name))) for name in names)
    sampled = _COUNTED_ROWS if table.num_rows > _COUNTED_ROWS else None
    return TableStatistics(table.num_rows, columns, sampled)


def _of_array(path: Path) -> TableStatistics | None:
    import numpy as np
    import pyarrow as pa

    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        return None
    columns = array[:, None] if array.ndim == 1 else array
    if columns.shape[1] > 64:
        return TableStatistics(len(array))
    named = [(f"[{at}]" if array.ndim == 2 else "value", columns[:, at]) for at in range(columns.shape[1])]
    return TableStatistics(
        len(array),
        tuple(_column(name, pa.chunked_array([np.ascontiguousarray(column)])) for name, column in named),
    )


def _column(name: str, column: Any) -> ColumnStatistics:
    import pyarrow as pa

    kind, nulls = str(column.type), int(column.null_count)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return _numbers(name, kind, nulls, column)
    minimum, maximum = _bounds(column)
    distinct, top = _counted(column)
    return ColumnStatistics(name, kind, nulls, minimum=minimum, maximum=maximum, distinct=distinct, top=top)


def _numbers(name: str, kind: str, nulls: int, column: Any) -> ColumnStatistics:
    """Slice by slice: sums that are merged, and a digest that does not grow."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        missing = sum(pc.sum(pc.is_nan(chunk)).as_py() or 0 for chunk in _slices(column))
        nulls += int(missing)
    count, mean, squares = 0, 0.0, 0.0
    low, high = math.inf, -math.inf
    for piece in _slices(column):
        if pa.types.is_floating(column.type):
            piece = piece.filter(pc.is_finite(piece))
        piece = piece.drop_null()
        if not len(piece):
            continue
        here, own = len(piece), float(pc.mean(piece).as_py())
        spread = float(pc.variance(piece.cast(pa.float64())).as_py()) * here
        apart = own - mean
        squares += spread + apart * apart * count * here / (count + here)
        mean += apart * here / (count + here)
        count += here
        bounds = pc.min_max(piece).as_py()
        low, high = min(low, bounds["min"]), max(high, bounds["max"])
    if not count:
        return ColumnStatistics(name, kind, nulls)
    few = len(column) <= _COUNTED_ROWS
    cut = pc.quantile(column, q=list(_QUANTILES)) if few else pc.tdigest(column, q=list(_QUANTILES))
    quantiles = [_finite(each) for each in cut.to_pylist()]
    return ColumnStatistics(
        name,
        kind,
        nulls,
        mean=mean,
        std=math.sqrt(squares / (count - 1)) if count > 1 else 0.0,
        minimum=float(low),
        maximum=float(high),
        quantiles=tuple(each for each in quantiles if each is not None),
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _slices(column: Any) -> Any:
    return (chunk for start in range(0, len(column), _SLICE) for chunk in column.slice(start, _SLICE).chunks)


def _bounds(column: Any) -> tuple[str | None, str | None]:
    """The first and last of what has an order that people know: instants and dates."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return None, None
    found = pc.min_max(column).as_py()
    return (None, None) if found["min"] is None else (str(found["min"]), str(found["max"]))


def _counted(column: Any) -> tuple[int | None, tuple[tuple[str, int], ...]]:
    """(distinct values, the most frequent ones); (None, ()) where there are too many or they cannot be counted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counts: dict[Any, int] = {}
    for piece in _slices(column.slice(0, _COUNTED_ROWS)):
        try:
            for pair in pc.value_counts(piece).to_pylist():
                counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
        except (pa.ArrowNotImplementedError, TypeError):
            return None, ()
        if len(counts) > _MOST_DISTINCT:
            return None, ()
    counts.pop(None, None)
    top = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:_SHOWN_TOP]
    return len(counts), tuple((str(value)[:_SHOWN_CHARACTERS], count) for value, count in top)
