"""pandas at the boundary: rows by position, texts read as the types a schema declares, the quarantine table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from .extras import need
from .rows import Fault, Frame, shown

Wanted = Literal["integer", "number", "boolean"]

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
_NAMES: dict[str, str] = {"integer": "not a whole number", "number": "not a number", "boolean": "not true or false"}


def frame_of_pandas() -> Frame:
    return Frame(length=len, take=lambda table, rows: table.iloc[list(rows)], label=_label)


def positional(table: Any) -> Any:
    """The same rows, labelled 0, 1, 2, …: a label that is not unique could not say which row is meant."""
    return table.reset_index(drop=True)


def read_as(column: Any, wanted: Wanted) -> tuple[Any, list[Fault]]:
    """The column with its texts read as numbers or booleans, and a fault for each value that is none.

    One dirty value makes pandas read a whole CSV column as text; a cast would then fail for all of it, turn "False"
    into True, or cut 1.5 to 1. A column that needs nothing comes back as it is.
    """
    types = need("pandas.api.types", extra="pandas", purpose="validating a table")
    if isinstance(column.dtype, need("pandas", extra="pandas", purpose="validating a table").CategoricalDtype):
        return column, []
    if types.is_bool_dtype(column.dtype) and column.dtype != object:
        return column, []
    if types.is_numeric_dtype(column.dtype):
        return column, _numeric_faults(column, wanted)
    if not (types.is_string_dtype(column.dtype) or types.is_object_dtype(column.dtype)):
        return column, []
    parse = _PARSE[wanted]
    values: list[Any] = []
    faults: list[Fault] = []
    for row, (value, absent) in enumerate(zip(column, column.isna(), strict=True)):
        if absent:
            values.append(None)
            continue
        try:
            values.append(parse(value))
        except (TypeError, ValueError, OverflowError):
            values.append(None)
            faults.append(Fault(row, str(column.name), _NAMES[wanted], shown(value)))
    pandas = need("pandas", extra="pandas", purpose="validating a table")
    return pandas.Series(values, index=column.index, name=column.name, dtype=object), faults


def _numeric_faults(column: Any, wanted: Wanted) -> list[Fault]:
    types = need("pandas.api.types", extra="pandas", purpose="validating a table")
    if wanted == "number" or (wanted == "integer" and types.is_integer_dtype(column.dtype)):
        return []
    values = column.to_numpy(dtype=float, na_value=float("nan"))
    wrong = (values % 1 != 0) if wanted == "integer" else ((values != 0) & (values != 1))
    rows = (wrong & (values == values)).nonzero()[0]
    return [Fault(int(row), str(column.name), _NAMES[wanted], shown(column.iloc[int(row)])) for row in rows]


def _integer(value: Any) -> int:
    text = _text(value)
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise ValueError(text) from None
        return int(number)


def _number(value: Any) -> float | int:
    text = _text(value)
    try:
        return int(text)
    except ValueError:
        return float(text)


def _boolean(value: Any) -> bool:
    return _BOOLEANS[text] if (text := _text(value).lower()) in _BOOLEANS else _refuse(text)


def _refuse(text: str) -> bool:
    raise ValueError(text)


def _text(value: Any) -> str:
    """The value as digits are written; Python's 1_000 is no number in a data file."""
    if isinstance(value, bytes):
        raise TypeError("bytes are not text")
    text = str(value).strip()
    if "_" in text:
        raise ValueError(text)
    return "1" if text == "True" else "0" if text == "False" else text


_PARSE: dict[Wanted, Callable[[Any], Any]] = {"integer": _integer, "number": _number, "boolean": _boolean}


def _label(table: Any, rows: Sequence[int], reasons: Sequence[str]) -> Any:
    """Bad rows as they were read, under their own labels, with a column `reasons`.

    Cells that share a column with other types, which no columnar file can hold, are kept as text.
    """
    pandas = need("pandas", extra="pandas", purpose="validating a table")
    taken = table.iloc[list(rows)].copy()
    for at, dtype in enumerate(taken.dtypes):
        kind = pandas.api.types.infer_dtype(taken.iloc[:, at], skipna=True) if str(dtype) == "object" else ""
        if kind.startswith("mixed"):
            texts = [cell if cell is None or isinstance(cell, str) else shown(cell) for cell in taken.iloc[:, at]]
            taken.isetitem(at, pandas.Series(texts, index=taken.index, dtype=object))
    name = "reasons"
    while name in taken.columns:
        name += "_"
    taken[name] = list(reasons)
    return taken
