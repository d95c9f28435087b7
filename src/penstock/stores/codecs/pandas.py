"""pandas frames, series and indexes as Arrow IPC, with what Arrow does not know kept beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core import jsonvalue
from ...core.errors import CodecError
from .arrow_file import arrow, read_table, table_meta, write_table
from .family import family, library

_NOTES = b"penstock.pandas"
_INDEXES = ("Index", "RangeIndex", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex", "CategoricalIndex", "MultiIndex")


class PandasCodec:
    """A DataFrame, Series or Index, exactly: dtypes, index, names, frequency. Decoded private and writable.

    What Arrow would change (a column of mixed objects, a sparse dtype) is refused: the value is read back and compared
    before it counts, unless all of it is plain numbers, booleans and instants.
    """

    name = "pandas"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        if family(value) == "pandas":
            return type(value).__name__ in ("DataFrame", "Series", *_INDEXES)
        # pandera's typed frame is a DataFrame with a name for the type checker
        return type(value).__module__ == "pandera.typing.pandas" and type(value).__name__ in ("DataFrame", "Series")

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        import pandas as pd

        pa = arrow("storing a pandas value", "pandas")
        kind, frame, notes = _as_frame(value)
        notes |= _notes(frame)
        try:
            table = pa.Table.from_pandas(frame, nthreads=1)
        except (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError) as error:
            raise CodecError(f"a pandas {kind} has no exact Arrow form: {error}") from error
        metadata = dict(table.schema.metadata) | {_NOTES: json.dumps(notes, sort_keys=True).encode()}
        table = table.replace_schema_metadata(metadata)
        write_table(table, to)
        if not _is_plain(frame, pd) and not _same(frame, _read(to, notes)):
            raise CodecError(f"a pandas {kind} would come back from Arrow changed")
        shown = table.select(range(min(table.num_columns, len(frame.columns))))
        return table_meta(kind, shown if kind != "Index" else table, len(frame))

    def decode(self, source: Path, annotation: Any) -> Any:
        library("pandas", extra="pandas", why="a stored pandas value")
        arrow("a stored pandas value", "pandas")
        notes = json.loads(read_table(source).schema.metadata[_NOTES])
        frame = _read(source, notes)
        if notes["kind"] == "Index":
            return frame.index
        if notes["kind"] == "Series":
            series = frame.iloc[:, 0].copy()
            series.name = jsonvalue.loads(notes["name"])
            return series
        return frame


def _as_frame(value: Any) -> tuple[str, Any, dict[str, Any]]:
    import pandas as pd

    if isinstance(value, pd.Index):
        return "Index", pd.DataFrame(index=value), {"kind": "Index"}
    if isinstance(value, pd.Series):
        return "Series", value.to_frame("value"), {"kind": "Series", "name": jsonvalue.dumps(value.name)}
    return "DataFrame", value if type(value) is pd.DataFrame else pd.DataFrame(value), {"kind": "DataFrame"}


def _notes(frame: Any) -> dict[str, Any]:
    """What a round trip through Arrow loses: object columns, the missing value they use, an index's frequency."""
    notes: dict[str, Any] = {}
    objects: dict[int, str] = {}
    for place, dtype in enumerate(frame.dtypes):
        if _is_object(dtype):
            column = frame.iloc[:, place]
            absent = list(column[column.isna()])
            objects[place] = "nan" if absent and all(isinstance(each, float) for each in absent) else "none"
    if objects:
        notes["objects"] = objects
    if _is_object(frame.columns.dtype):
        notes["columns"] = "object"
    elif type(frame.columns).__name__ == "RangeIndex":
        notes["columns"] = [frame.columns.start, frame.columns.stop, frame.columns.step]
    if not len(frame.columns) and type(frame.index).__name__ == "RangeIndex":  # no column to count the rows by
        notes["range"] = [frame.index.start, frame.index.stop, frame.index.step]
    if frame.index.nlevels == 1 and _is_object(frame.index.dtype):
        notes["index"] = "object"
    if getattr(frame.index, "freq", None) is not None and frame.index.dtype.kind in "mM":
        notes["freq"] = frame.index.freqstr
    return notes


def _is_object(dtype: Any) -> bool:
    return getattr(dtype, "char", None) == "O"  # only numpy dtypes have one


def _read(source: Path, notes: dict[str, Any]) -> Any:
    import pandas as pd

    table = read_table(source)
    frame = table.to_pandas()
    for place, absent in notes.get("objects", {}).items():
        _restore_objects(frame, table, int(place), absent)
    if notes.get("columns") == "object":
        frame.columns = frame.columns.astype(object)
    elif "columns" in notes:
        frame.columns = _range(notes["columns"], frame.columns.name)
    if notes.get("index"):
        frame.index = frame.index.astype(object)
    if notes.get("range"):
        frame = pd.DataFrame(index=_range(notes["range"], frame.index.name), columns=frame.columns)
    if notes.get("freq"):
        frame.index.freq = notes["freq"]
    return _writable(frame, table)


def _range(bounds: list[int], name: Any) -> Any:
    import pandas as pd

    start, stop, step = bounds
    return pd.RangeIndex(start, stop, step, name=name)


def _restore_objects(frame: Any, table: Any, place: int, absent: str) -> None:
    import numpy as np
    import pandas as pd

    column = table.column(place).to_pylist()
    if absent == "nan":
        column = [float("nan") if each is None else each for each in column]
    values = np.empty(len(column), dtype=object)
    values[:] = column
    frame.isetitem(place, pd.Series(values, index=frame.index, dtype=object))


def _writable(frame: Any, table: Any) -> Any:
    """A frame whose columns lie in memory of their own: Arrow hands out read-only views of the file where it can.

    What it had to put together itself, such as several columns as one block, is private already: no second copy.
    """
    import numpy as np

    spans = [(each.address, each.address + each.size) for each in _buffers(table)]
    for place in range(frame.shape[1]):
        values = frame.iloc[:, place].array
        inner = getattr(values, "_ndarray", None)
        if isinstance(inner, np.ndarray) and (not _is_writable(inner) or _lies_in(inner, spans)):
            return frame.copy(deep=True)
    return frame


def _buffers(table: Any) -> Iterator[Any]:
    for column in table.columns:
        for chunk in column.chunks:
            yield from (each for each in chunk.buffers() if each is not None)


def _is_writable(array: Any) -> bool:
    while hasattr(array.base, "flags"):
        array = array.base
    return bool(array.flags.writeable)


def _lies_in(array: Any, spans: list[tuple[int, int]]) -> bool:
    at = array.__array_interface__["data"][0]
    return any(start <= at < end for start, end in spans)


def _is_plain(frame: Any, pd: Any) -> bool:
    """Whether Arrow is known to keep every part: numpy numbers, booleans and instants under text column names."""
    import numpy as np

    index = frame.index
    dtypes = [*frame.dtypes, index.dtype] if index.nlevels == 1 else [object]
    simple = all(isinstance(dtype, np.dtype) and dtype.kind in "iufbMm" for dtype in dtypes)
    names = all(type(each) is str for each in (*frame.columns, *(name for name in index.names if name is not None)))
    return (
        simple
        and names
        and type(frame.columns) is pd.Index
        and frame.columns.name is None
        and getattr(index, "freq", None) is None
        and not frame.attrs
    )


def _same(left: Any, right: Any) -> bool:
    """Equal in every respect that a step could see; stricter than pandas' own `equals`."""
    if left.shape != right.shape or left.attrs != right.attrs or left.flags != right.flags:
        return False
    if not _same_index(left.columns, right.columns) or not _same_index(left.index, right.index):
        return False
    return all(
        _same_column(left.iloc[:, place].reset_index(drop=True), right.iloc[:, place].reset_index(drop=True))
        for place in range(left.shape[1])
    )


def _same_index(left: Any, right: Any) -> bool:
    if type(left) is not type(right) or list(left.names) != list(right.names) or left.nlevels != right.nlevels:
        return False
    if left.nlevels > 1:
        if not all(_same_index(one, other) for one, other in zip(left.levels, right.levels, strict=True)):
            return False
        return all((one == other).all() for one, other in zip(left.codes, right.codes, strict=True))
    if getattr(left, "freq", None) != getattr(right, "freq", None):
        return False
    return _same_column(left.to_series().reset_index(drop=True), right.to_series().reset_index(drop=True))


def _same_column(left: Any, right: Any) -> bool:
    if not _same_dtype(left.dtype, right.dtype):
        return False
    if _is_object(left.dtype):
        return all(_same_cell(one, other) for one, other in zip(left.tolist(), right.tolist(), strict=True))
    return bool(left.equals(right))


def _same_dtype(left: Any, right: Any) -> bool:
    if left != right or type(left) is not type(right):
        return False
    if hasattr(left, "categories"):
        same = _same_index(left.categories, right.categories) if left.categories is not None else True
        return same and left.ordered == right.ordered
    storage = getattr(left, "storage", None) == getattr(right, "storage", None)
    return storage and type(getattr(left, "na_value", None)) is type(getattr(right, "na_value", None))


def _same_cell(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, (str, bytes, int, float, bool, type(None))):
        return bool(left == right or (left != left and right != right))
    module = type(left).__module__
    return module in ("datetime", "decimal") and bool(left == right)
