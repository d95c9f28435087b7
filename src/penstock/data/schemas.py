"""pandera models at a step's boundary: `pandera.typing.DataFrame[Model]`, for pandas and polars."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args, get_origin

from ..core.errors import did_you_mean
from ..graph import Quarantine
from ..ports.boundary import Checked
from .annotations import alternatives
from .extras import need
from .pandas_rows import Wanted, frame_of_pandas, positional, read_as
from .polars_rows import cut_numbers, frame_of_polars
from .rows import Fault, Faults, Frame, refuse, refuse_too_many, settle, shown

# Reasons that no row can be blamed for and no removal of rows can cure.
_STRUCTURE = {
    "COLUMN_NOT_IN_DATAFRAME",
    "COLUMN_NOT_IN_SCHEMA",
    "COLUMN_NOT_ORDERED",
    "DUPLICATE_COLUMN_LABELS",
    "WRONG_FIELD_NAME",
    "ADD_MISSING_COLUMN_NO_DEFAULT",
    "INVALID_COLUMN_NAME",
    "INVALID_TYPE",
}


class _Round(NamedTuple):
    """One validation: the value if it passed, else what was wrong with rows and with the table as a whole."""

    value: Any
    faults: list[Fault]
    whole: list[str]
    structure: list[str]


class PanderaCheck:
    """Checks and coerces tables annotated with a pandera model; every bad row gets its reasons."""

    def handles(self, annotation: Any) -> bool:
        return _model_of(annotation) is not None

    def check(self, value: Any, annotation: Any, *, where: str, policy: Quarantine | None) -> Checked:
        found = _model_of(annotation)
        assert found is not None
        library, model = found
        name = model.__name__
        module = need(library, extra=library, purpose=f"validating {name}")
        if value is None and type(None) in alternatives(annotation):
            return Checked(value)
        if library == "polars" and isinstance(value, module.LazyFrame):
            value = value.collect()  # a lazy frame would have only its schema checked
        if not isinstance(value, module.DataFrame):
            raise refuse([f"expected a {library} DataFrame, got {type(value).__name__}"], where=where, schema=name)
        schema = _exacting(model.to_schema())
        if library == "pandas":
            return _check_pandas(value, schema, name, where, policy)
        faults = Faults()
        faults.add(cut_numbers(value, _coerced_integers(schema, value)))
        return _check_rounds(value, value, schema, faults, frame_of_polars(), _polars_faults, name, where, policy)


def _model_of(annotation: Any) -> tuple[str, Any] | None:
    """The table library and the model of a `pandera.typing` annotation. Looks at names only, imports nothing."""
    for each in alternatives(annotation):
        origin = get_origin(each)
        module = str(getattr(origin, "__module__", ""))
        if module.startswith("pandera.typing") and getattr(origin, "__name__", "") in ("DataFrame", "LazyFrame"):
            library = "polars" if module.endswith("polars") else "pandas"
            return library, get_args(each)[0]
    return None


def _exacting(schema: Any) -> Any:
    """A private copy that reports every bad row: pandera can drop rows without a word, or stop counting early."""
    schema = copy.deepcopy(schema)
    schema.drop_invalid_rows = False
    for part in (schema, *schema.columns.values()):
        part.drop_invalid_rows = False
        for check in part.checks:
            check.n_failure_cases = None
    return schema


def _check_pandas(value: Any, schema: Any, name: str, where: str, policy: Quarantine | None) -> Checked:
    faults = Faults()
    frame = frame_of_pandas()
    plain = value.index.nlevels == 1 and value.index.is_unique and not value.index.hasnans
    if schema.index is not None and not plain:
        raise refuse(
            ["its index repeats or misses labels, so bad rows could not be told apart"],
            where=where,
            schema=name,
            hint="make the index a column, or its labels unique, before this step's boundary",
        )
    columns = value if schema.index is not None else positional(value)
    prepared = columns
    for column, wanted in _declared(schema, columns):
        written = columns[column]
        read, found = read_as(written, wanted)
        faults.add(found)
        if read is not written:
            prepared = prepared.assign(**{column: read})
    checked = _check_rounds(value, prepared, schema, faults, frame, _pandas_faults, name, where, policy)
    if schema.index is None:
        bad = set(faults.rows)
        kept = [row for row in range(len(value)) if row not in bad]
        if list(checked.value.index) == kept:  # else a parser of the model made other rows
            checked.value.index = value.index[kept]
    return checked


def _declared(schema: Any, table: Any) -> Iterator[tuple[str, Wanted]]:
    """Columns that the model coerces to numbers or booleans."""
    types = need("pandas.api.types", extra="pandas", purpose="validating a table")
    if schema.parsers or not table.columns.is_unique:
        return  # the model's own parsers come first; doubled names are refused later
    for key, column in schema.columns.items():
        dtype = getattr(schema.dtype or column.dtype, "type", None)
        if dtype is None or column.parsers or not (schema.coerce or column.coerce):
            continue
        wanted: Wanted
        if types.is_bool_dtype(dtype):
            wanted = "boolean"
        elif types.is_integer_dtype(dtype):
            wanted = "integer"
        elif types.is_float_dtype(dtype):
            wanted = "number"
        else:
            continue
        if column.regex:
            yield from ((each, wanted) for each in table.columns if re.match(key, str(each)))
        elif key in table.columns:
            yield key, wanted


def _check_rounds(
    original: Any,
    prepared: Any,
    schema: Any,
    faults: Faults,
    frame: Frame,
    read_errors: Callable[[Any, Any, list[int]], _Round],
    name: str,
    where: str,
    policy: Quarantine | None,
) -> Checked:
    """Validate, set bad rows aside, and again, until what is left passes.

    More than one round, because a column with a value of the wrong type can be compared only without that row, and a
    check over the whole column (a mean, uniqueness) is meant for the rows that stay.
    """
    total = frame.length(original)
    if faults.rows:  # a row is set aside with all its reasons, not only with the first that was found
        faults.enrich(read_errors(schema, prepared, list(range(total))).faults)
    while True:
        bad = set(faults.rows)
        kept = [row for row in range(total) if row not in bad]
        outcome = read_errors(schema, frame.take(prepared, kept) if bad else prepared, kept)
        if outcome.structure:
            raise refuse(outcome.structure, where=where, schema=name)
        if outcome.faults:
            faults.add(outcome.faults)
            continue
        refuse_too_many(faults, total, where=where, schema=name, policy=policy)
        if outcome.whole:
            raise refuse(outcome.whole, where=where, schema=name, hint=_whole_hint(outcome.whole))
        return settle(original, outcome.value, faults, frame=frame, schema=name)


def _whole_hint(problems: list[str]) -> str | None:
    if any("coerce" in each for each in problems):
        return "with `class Config: coerce = True` in the model, values that do not fit become bad rows"
    return None


def _validated(schema: Any, table: Any) -> tuple[Any, list[Any]]:
    """The table as the schema gives it back, or pandera's errors."""
    errors = need("pandera.errors", extra="pandera", purpose="validating a table")
    try:
        return schema.validate(table, lazy=True), []
    except errors.SchemaErrors as error:
        return None, error.schema_errors
    except errors.SchemaError as error:
        return None, [error]


def _pandas_faults(schema: Any, table: Any, kept: list[int]) -> _Round:
    at = dict(zip(table.index, kept, strict=True))
    value, found = _validated(schema, table)
    if not found:
        return _Round(value, [], [], [])

    def rows_of(error: Any) -> list[Fault] | None:
        cases = error.failure_cases
        if not hasattr(cases, "columns") or "index" not in cases.columns or cases["index"].isna().any():
            return None
        column = str(error.schema.name) if "column" not in cases.columns and error.schema.name is not None else ""
        check = _check_text(error)
        if not all(label in at for label in cases["index"]):
            return None  # a coerced index no longer has the labels that the rows came with
        return [
            Fault(at[label], column, check, shown(case) if column and check != "missing" else None)
            for label, case in zip(cases["index"], cases["failure_case"], strict=True)
        ]

    return _sorted_out(found, table.columns, rows_of, lambda column: _type_of_pandas(table[column]))


def _type_of_pandas(column: Any) -> str:
    """The column's type; for text, with the first value that keeps it from being numbers."""
    name = str(column.dtype)
    if name not in ("str", "string", "object"):
        return name
    faults = read_as(column, "number")[1]
    if not faults or len(faults) == len(column):
        return name
    return f"{name} (row {faults[0].row} has {faults[0].got})"


def _polars_faults(schema: Any, table: Any, kept: list[int]) -> _Round:
    value, found = _validated(schema, table)
    if not found:
        return _Round(value, [], [], [])

    def rows_of(error: Any) -> list[Fault] | None:
        output = error.check_output
        if output is None or not hasattr(output, "get_column") or output.height != table.height:
            return None
        wrong = [row for row, passed in enumerate(output.get_column("check_output")) if passed is False]
        cases = error.failure_cases
        columns = [each for each in getattr(cases, "columns", ()) if each in table.columns]
        check = _check_text(error)
        if _reason(error) == "DATATYPE_COERCION":
            return [
                Fault(kept[row], column, f"not {schema.columns[column].dtype}", shown(table[row, column]))
                for column in columns
                for row in wrong
                if table[row, column] is not None and _uncastable(table[row, column], schema.columns[column])
            ]
        column = columns[0] if len(columns) == 1 else ""
        tells = bool(column) and check != "missing"
        return [Fault(kept[row], column, check, shown(table[row, column]) if tells else None) for row in wrong]

    return _sorted_out(found, table.columns, rows_of, lambda column: str(table.schema[column]))


def _coerced_integers(schema: Any, table: Any) -> list[str]:
    return [
        name
        for name, column in schema.columns.items()
        if name in table.columns
        and (schema.coerce or column.coerce)
        and column.dtype is not None
        and getattr(column.dtype.type, "is_integer", bool)()
    ]


def _uncastable(value: Any, column: Any) -> bool:
    polars = need("polars", extra="polars", purpose="validating a table")
    cast = polars.Series([value]).cast(column.dtype.type, strict=False)
    return bool(cast.is_null()[0])


def _sorted_out(
    found: list[Any],
    columns: Any,
    rows_of: Callable[[Any], list[Fault] | None],
    type_of: Callable[[str], str],
) -> _Round:
    """pandera's errors as faults of rows, faults of the whole, and faults of structure.

    A column that could not be coerced still holds the old values: whatever else is said about it, or about whole rows,
    has to wait for the next round.
    """
    uncoerced = {_column(error) for error in found if _reason(error) == "DATATYPE_COERCION"}
    mistyped = {_column(error) for error in found if _reason(error) == "WRONG_DATATYPE"} - uncoerced
    faults: list[Fault] = []
    whole: list[str] = []
    structure: list[str] = []
    for error in found:
        reason = _reason(error)
        waits = bool(uncoerced) and (_column(error) in uncoerced or _column(error) == "")
        if reason in _STRUCTURE:
            structure.append(_structure_text(error, reason, columns))
        elif waits and reason not in ("DATATYPE_COERCION", "SERIES_CONTAINS_NULLS"):
            continue
        elif reason == "WRONG_DATATYPE" and not uncoerced:
            name = _column(error)
            wanted = str(error.check).removeprefix("dtype('").removesuffix("')")
            whole.append(f"column '{name}' is {type_of(name)}, expected {wanted}, and the model does not coerce it")
        elif _column(error) in mistyped:
            continue
        elif (rows := rows_of(error)) is not None and (rows or reason == "DATATYPE_COERCION"):
            faults += rows
        else:
            whole.append(_whole_text(error))
    if uncoerced and not faults and not whole:
        whole = [_whole_text(error) for error in found if _reason(error) == "DATATYPE_COERCION"]
    missing = {(fault.row, fault.column) for fault in faults if fault.check == "missing"}
    faults = [fault for fault in faults if fault.check == "missing" or (fault.row, fault.column) not in missing]
    return _Round(None, faults, whole, structure)


def _reason(error: Any) -> str:
    return error.reason_code.name if error.reason_code is not None else ""


def _column(error: Any) -> str:
    """The column an error is about, or "" for the frame."""
    return "" if type(error.schema).__name__ == "DataFrameSchema" else str(error.schema.name)


def _check_text(error: Any) -> str:
    reason = _reason(error)
    if reason == "SERIES_CONTAINS_NULLS":
        return "missing"
    if reason in ("SERIES_CONTAINS_DUPLICATES", "DUPLICATES"):
        fields = getattr(error.schema, "unique", None)
        return f"not unique ({', '.join(fields)})" if isinstance(fields, list) else "not unique"
    if reason == "DATATYPE_COERCION":
        return str(error.check).replace("coerce_dtype('", "not ").removesuffix("')")
    check = error.check
    return check if isinstance(check, str) else str(check.error or check.name or "a check of the model")


def _structure_text(error: Any, reason: str, columns: Any) -> str:
    case = error.failure_cases
    names = [str(each) for each in columns]
    if reason == "COLUMN_NOT_IN_DATAFRAME":
        name = str(_only(case))
        return f"column '{name}' is missing; {did_you_mean(name, names)}"
    if reason == "COLUMN_NOT_IN_SCHEMA":
        name = str(_only(case))
        expected = [str(each) for each in error.schema.columns]
        return f"column '{name}' is not in the model; {did_you_mean(name, expected)}"
    return str(error).splitlines()[0]


def _only(case: Any) -> Any:
    if hasattr(case, "columns"):
        return case["failure_case"][0]
    return case


def _whole_text(error: Any) -> str:
    column = _column(error)
    where = f"column '{column}': " if column else ""
    case = error.failure_cases
    text = case.splitlines()[0] if isinstance(case, str) and case else ""
    return f"{where}{_check_text(error)} failed" + (f": {text}" if text else "")
