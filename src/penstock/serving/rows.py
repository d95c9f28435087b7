"""Requests as typed rows: parsed by a schema made from the model's signature, or refused with row and column named."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ..core.errors import ServingError, did_you_mean
from ..ports.models import Column

_INT32, _INT64 = 2**31, 2**63
_FLOAT32_MAX = 3.4028235e38
_ANNOTATIONS: dict[str, Any] = {
    "boolean": bool,
    "integer": Annotated[int, msgspec.Meta(ge=-_INT32, le=_INT32 - 1)],
    "long": Annotated[int, msgspec.Meta(ge=-_INT64, le=_INT64 - 1)],
    "float": Annotated[float, msgspec.Meta(ge=-_FLOAT32_MAX, le=_FLOAT32_MAX)],
    "double": float,
    "string": str,
    "datetime": datetime,
    "any": Any,
}
_WORDS = {
    "boolean": "true or false",
    "integer": "a whole number of 32 bits",
    "long": "a whole number of 64 bits",
    "float": "a number of 32 bits",
    "double": "a number",
    "string": "text",
    "datetime": "an ISO 8601 date and time as text",
}
_DTYPES = {"boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64"}
_SHOWN_PROBLEMS = 10


class RequestError(ServingError):
    """A request that is refused: `status` for HTTP, `kind` for programs, and every row and column at fault."""

    def __init__(
        self,
        problem: str,
        *,
        status: int,
        kind: str,
        hint: str | None = None,
        details: tuple[dict[str, Any], ...] = (),
    ) -> None:
        super().__init__(problem, hint=hint)
        self.status = status
        self.kind = kind
        self.details = details

    def as_body(self) -> dict[str, Any]:
        """What the client reads."""
        body: dict[str, Any] = {"code": self.kind, "problem": self.problem, "hint": self.hint}
        return {"error": body | ({"details": list(self.details)} if self.details else {})}


class RowReader:
    """Turns a request's bytes into a table with exactly the model's columns, in the model's order."""

    def __init__(self, columns: tuple[Column, ...], *, max_rows: int = 10_000) -> None:
        self.columns = columns
        self.max_rows = max_rows
        fields: list[Any] = []
        for place, column in enumerate(columns):
            annotation = _ANNOTATIONS[column.type]
            fields.append((f"c{place}", annotation | None, None) if column.optional else (f"c{place}", annotation))
        renames = {f"c{place}": column.name for place, column in enumerate(columns)}
        # Columns that the model does not read are dropped: callers may send whole records.
        row = msgspec.defstruct("Row", fields, rename=renames, kw_only=True)
        self._rows = list[row]  # type: ignore[valid-type]
        request = msgspec.defstruct("Request", [("rows", self._rows)], kw_only=True)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(request)

    def read(self, body: bytes) -> Any:
        """A pandas table. Raises RequestError."""
        try:
            rows = self._decoder.decode(body).rows
        except (msgspec.ValidationError, msgspec.DecodeError, RecursionError):
            rows = self._read_slowly(body)
        if len(rows) > self.max_rows:
            raise self._too_many(len(rows))
        return self._table(rows)

    def _read_slowly(self, body: bytes) -> list[Any]:
        """The table form, or a complete account of what is wrong: only ever after the fast way said no."""
        found = _rows_in(_json(body))
        if len(found) > self.max_rows:
            raise self._too_many(len(found))
        if problems := self._problems(found):
            raise _refusal(problems)
        try:
            rows: list[Any] = msgspec.convert(found, self._rows)
        except msgspec.ValidationError as error:
            raise RequestError(f"the rows do not fit the model: {error}", status=422, kind="bad_rows") from error
        return rows

    def _problems(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        problems: list[dict[str, Any]] = []
        for number, row in enumerate(rows):
            for column in self.columns:
                said = self._problem(row, column)
                if said is not None:
                    problems.append({"row": number, "column": column.name} | said)
            if len(problems) >= _SHOWN_PROBLEMS:
                break
        return problems

    def _problem(self, row: dict[str, Any], column: Column) -> dict[str, Any] | None:
        if column.name not in row:
            if column.optional:
                return None
            known = {each.name for each in self.columns}
            near = did_you_mean(column.name, [each for each in row if each not in known])
            return {"problem": "missing", "hint": near if near.startswith("did you mean") else None}
        value = row[column.name]
        if value is None and not column.optional:
            return {"problem": "null, but the model was fitted without missing values here"}
        annotation = _ANNOTATIONS[column.type]
        try:
            msgspec.convert(value, annotation | None if column.optional else annotation)
        except msgspec.ValidationError:
            return {"problem": f"expected {_WORDS[column.type]}, got {_described(value)}"}
        return None

    def _table(self, rows: list[Any]) -> Any:
        import numpy
        import pandas

        names = [column.name for column in self.columns]
        tuples = [msgspec.structs.astuple(row) for row in rows]
        if all(column.type == "double" for column in self.columns):
            # One array for the whole table: a tenth of what a table costs column by column.
            values = numpy.array(tuples, dtype="float64").reshape(len(tuples), len(names))
            return pandas.DataFrame(values, columns=names)
        by_column = zip(*tuples, strict=True) if tuples else (() for _ in names)
        series = {
            column.name: _series(list(values), column) for column, values in zip(self.columns, by_column, strict=True)
        }
        return pandas.DataFrame(series, columns=names)

    def _too_many(self, count: int) -> RequestError:
        return RequestError(
            f"{count} rows in one request; {self.max_rows} are allowed",
            status=413,
            kind="too_many_rows",
            hint="send them in several requests, or score them in a batch",
        )


def _series(values: list[Any], column: Column) -> Any:
    import pandas

    dtype = _DTYPES.get(column.type)
    if dtype and any(each is None for each in values):
        # Whole numbers and booleans have no missing value of their own.
        dtype = "object" if column.type == "boolean" else "float64" if "int" in dtype else dtype
    if column.type == "datetime":
        return pandas.to_datetime(pandas.Series(values))
    return pandas.Series(values, dtype=dtype) if dtype else pandas.Series(values)


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        nan = " JSON has no NaN or Infinity: send null." if b"NaN" in body or b"Infinity" in body else ""
        raise RequestError(
            f"the request is not JSON: {error}",
            status=400,
            kind="bad_json",
            hint='send {"rows": [{"column": value, …}]}.' + nan,
        ) from error


def _rows_in(request: Any) -> list[dict[str, Any]]:
    """The rows of either form, as dictionaries."""
    shape = 'send {"rows": [{…}]} or {"columns": […], "data": [[…]]}'
    if not isinstance(request, dict):
        raise RequestError(f"the request is {_described(request)}", status=422, kind="bad_request", hint=shape)
    if "rows" in request:
        rows = request["rows"]
        if not isinstance(rows, list):
            raise RequestError(f"'rows' is {_described(rows)}, not a list", status=422, kind="bad_request", hint=shape)
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise RequestError(
                    f"row {number} is {_described(row)}, not an object", status=422, kind="bad_rows", hint=shape
                )
        return rows
    if "data" not in request or "columns" not in request:
        near = did_you_mean("rows", [str(each) for each in request])
        hint = f"{shape}; {near}" if near.startswith("did you mean") else shape
        raise RequestError("the request has no 'rows'", status=422, kind="bad_request", hint=hint)
    try:
        table = msgspec.convert(request, _Request)
    except msgspec.ValidationError as error:
        raise RequestError(f"the request's table: {error}", status=422, kind="bad_request", hint=shape) from error
    if len(set(table.columns)) < len(table.columns):
        raise RequestError("a column is named twice", status=422, kind="bad_request")
    for number, row in enumerate(table.data):
        if len(row) != len(table.columns):
            raise RequestError(
                f"row {number} has {len(row)} values for {len(table.columns)} columns", status=422, kind="bad_rows"
            )
    return [dict(zip(table.columns, row, strict=True)) for row in table.data]


class _Request(msgspec.Struct):
    columns: list[str]
    data: list[list[Any]]


def _refusal(problems: list[dict[str, Any]]) -> RequestError:
    missing = list(dict.fromkeys(each["column"] for each in problems if each["problem"] == "missing"))
    if missing:
        first = next(each for each in problems if each["problem"] == "missing")
        return RequestError(
            f"row {first['row']} has no column " + ", ".join(f"'{each}'" for each in missing),
            status=422,
            kind="missing_columns",
            hint=first["hint"] or "GET /model lists the columns",
            details=tuple(problems[:_SHOWN_PROBLEMS]),
        )
    first = problems[0]
    return RequestError(
        f"row {first['row']}, column '{first['column']}': {first['problem']}",
        status=422,
        kind="bad_values",
        hint="GET /model lists the columns and their types",
        details=tuple(problems[:_SHOWN_PROBLEMS]),
    )


def _described(value: Any) -> str:
    """The JSON value in words, cut short.

    >>> _described("abc"), _described(None), _described([1])
    ("the text 'abc'", 'null', 'a list')
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {value[:40]!r}"
        case int() | float():
            return f"the number {value}" if math.isfinite(value) else "a number that is too large"
        case list():
            return "a list"
    return "an object"
