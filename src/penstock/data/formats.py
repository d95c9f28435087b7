"""Files as tables: which format a name means, and one loader per format and table library."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import SourceError, did_you_mean
from .delimited import broken_gzip, check_encoding, check_rows, check_text, open_bytes
from .extras import need

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
}
FORMATS = ("csv", "tsv", "parquet", "json", "jsonl", "arrow", "feather")
LIBRARIES = ("pandas", "polars", "pyarrow")
_SEPARATORS = {"csv": ",", "tsv": "\t"}


def format_of(name: str, given: str | None, shown: str) -> str:
    """The format that the caller named, or that the suffix means.

    >>> format_of("raw/orders.csv.gz", None, "raw/orders.csv.gz")
    'csv'
    """
    if given is not None:
        if given not in FORMATS:
            raise SourceError(f"unknown format '{given}' for '{shown}'", hint=did_you_mean(given, FORMATS))
        return "arrow" if given == "feather" else given
    suffix = os.path.splitext(name.lower().removesuffix(".gz"))[1]
    if suffix not in _SUFFIXES:
        told = f"its suffix '{suffix}' says nothing" if suffix else "it has no suffix"
        raise SourceError(
            f"cannot tell the format of '{shown}': {told}", hint=f"add format=, one of {', '.join(FORMATS)}"
        )
    return _SUFFIXES[suffix]


def library_of(as_: Any) -> str:
    """Which library's table was asked for; pandas unless said otherwise."""
    if as_ is None:
        return "pandas"
    library = str(getattr(as_, "__module__", "")).partition(".")[0]
    if library in LIBRARIES and getattr(as_, "__name__", "") in ("DataFrame", "Table"):
        return library
    raise SourceError(
        f"as_={getattr(as_, '__name__', as_)!s} is not a table type",
        hint="use pandas.DataFrame, polars.DataFrame or pyarrow.Table",
    )


def load_table(path: Path, format: str, library: str, shown: str, options: dict[str, Any]) -> Any:
    """The file as a table of that library; `options` go to the library's own reader.

    Raises:  SourceError where the file is not what its format says.
    """
    module = need(library, extra="pandas" if library == "pyarrow" else library, purpose=f"reading '{shown}'")
    if format in _SEPARATORS:
        return _delimited(path, module, library, shown, options, _SEPARATORS[format])
    if format in ("json", "jsonl") and not options:
        return from_rows(module, library, *_json(path, format, shown))
    wrong: tuple[type[Exception], ...] = (ValueError, TypeError, OSError, *_arrow_errors(shown))
    if library == "polars":
        wrong = (*wrong, module.exceptions.PolarsError)
    try:
        return _BINARY[format](path, module, library, options)
    except wrong as error:
        if isinstance(error, TypeError) and "keyword" not in str(error):
            raise
        raise SourceError(
            f"'{shown}' cannot be read as {format}: {_first_line(error).replace(str(path), shown)}",
            hint="check the options" if options else 'is that its format? name the real one with format="…"',
        ) from error


def from_rows(module: Any, library: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """A table from rows of plain Python values, with types found from all of them."""
    if library == "pandas":
        return module.DataFrame.from_records(list(rows), columns=list(columns))
    if library == "polars":
        return module.DataFrame(list(rows), schema=list(columns), orient="row", infer_schema_length=None)
    return module.table({name: [row[at] for row in rows] for at, name in enumerate(columns)})


def _delimited(path: Path, module: Any, library: str, shown: str, options: dict[str, Any], separator: str) -> Any:
    check_text(path, shown, options)
    separator = str(options.get("sep", options.get("separator", separator)))
    wrong: tuple[type[Exception], ...] = (UnicodeDecodeError, ValueError, EOFError, OSError, zlib.error)
    if library != "pyarrow":
        wrong += (module.errors.ParserError,) if library == "pandas" else (module.exceptions.PolarsError,)
    try:
        table = _CSV[library](path, module, dict(options), separator)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise broken_gzip(shown, error) from error
    except TypeError as error:
        if "keyword" not in str(error):
            raise
        raise SourceError(f"'{shown}': {library} has no such option: {error}", hint="see its read_csv") from error
    except wrong as error:
        check_encoding(path, shown, options)
        check_rows(path, shown, options, separator)
        raise SourceError(
            f"'{shown}' cannot be read as CSV: {_first_line(error).replace(str(path), shown)}",
            hint="check the options" if options else "open it in an editor at that place",
        ) from error
    if library == "pyarrow" and any(str(each) == "binary" for each in table.schema.types):
        check_encoding(path, shown, options)
    if _suspicious(table, library):
        check_rows(path, shown, options, separator)
    return table


def _csv_pandas(path: Path, pandas: Any, options: dict[str, Any], separator: str) -> Any:
    options.pop("separator", None)
    # low_memory would type a column chunk by chunk, and mix numbers with text where one value is dirty.
    return pandas.read_csv(path, **({"sep": separator, "low_memory": False} | options))


def _csv_polars(path: Path, polars: Any, options: dict[str, Any], separator: str) -> Any:
    options.pop("sep", None)
    return polars.read_csv(path, **({"separator": separator, "infer_schema_length": None} | options))


def _csv_pyarrow(path: Path, pyarrow: Any, options: dict[str, Any], separator: str) -> Any:
    reader = need("pyarrow.csv", extra="pandas", purpose="reading CSV")
    if encoding := options.pop("encoding", None):
        options.setdefault("read_options", reader.ReadOptions(encoding=encoding))
    for name in ("sep", "separator"):
        options.pop(name, None)
    options.setdefault("parse_options", reader.ParseOptions(delimiter=separator, newlines_in_values=True))
    return reader.read_csv(str(path), **options)


def _suspicious(table: Any, library: str) -> bool:
    """Whether rows may have been shorter or longer than the header: parsers fill up, or shift, without a word."""
    if library == "pyarrow":
        return False  # strict by itself
    if library == "polars":
        return bool(table.width) and bool(table[:, -1].null_count())
    shifted = type(table.index).__name__ != "RangeIndex"
    return shifted or (bool(len(table.columns)) and bool(table.iloc[:, -1].isna().any()))


def _json(path: Path, format: str, shown: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Records as they were written: no text becomes a number or a date on the way."""
    try:
        with open_bytes(path) as file:
            if format == "jsonl":
                records = _json_lines(file.read(), shown)
            else:
                records = msgspec.json.decode(file.read())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise broken_gzip(shown, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(
            f"'{shown}' is not JSON: {_first_line(error)}", hint='one object per line? then format="jsonl"'
        ) from error
    if isinstance(records, dict) and all(isinstance(column, list) for column in records.values()):
        if len({len(column) for column in records.values()}) > 1:
            raise SourceError(f"'{shown}' is not a table: its columns differ in length", hint="fix the file")
        return list(records), list(zip(*records.values(), strict=True))
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise SourceError(
            f"'{shown}' is not a table: expected a list of objects, or one object of lists",
            hint="read it with json.loads and build the table yourself",
        )
    columns = list(dict.fromkeys(name for record in records for name in record))
    return columns, [tuple(record.get(name) for name in columns) for record in records]


def _json_lines(content: bytes, shown: str) -> list[Any]:
    records = []
    decoder = msgspec.json.Decoder()
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            try:
                records.append(decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SourceError(
                    f"'{shown}' is not JSON lines: line {number}: {_first_line(error)}",
                    hint='one document over many lines? then format="json"',
                ) from error
    return records


def _json_options(path: Path, module: Any, library: str, options: dict[str, Any]) -> Any:
    if library == "pyarrow":
        return need("pyarrow.json", extra="pandas", purpose="reading JSON").read_json(str(path), **options)
    return module.read_json(path, **options)


def _json_lines_options(path: Path, module: Any, library: str, options: dict[str, Any]) -> Any:
    if library == "pandas":
        return module.read_json(path, **({"lines": True} | options))
    if library == "polars":
        return module.read_ndjson(path, **options)
    return _json_options(path, module, library, options)


def _parquet(path: Path, module: Any, library: str, options: dict[str, Any]) -> Any:
    """One file's own columns: a folder named year=2026 adds none."""
    if library == "pyarrow":
        parquet = need("pyarrow.parquet", extra="pandas", purpose="reading Parquet")
        return parquet.read_table(str(path), **({"partitioning": None} | options))
    if library == "pandas":
        return module.read_parquet(path, **({"partitioning": None} | options))
    return module.read_parquet(path, **({"hive_partitioning": False} | options))


def _arrow(path: Path, module: Any, library: str, options: dict[str, Any]) -> Any:
    """Arrow's file form (also called Feather), or its stream form. Read whole: a mapped file could change later."""
    ipc = need("pyarrow.ipc", extra="pandas", purpose="reading Arrow")
    with path.open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        table = (ipc.open_file(file) if is_file else ipc.open_stream(file)).read_all(**options)
    if library == "pandas":
        return table.to_pandas()
    return module.from_arrow(table) if library == "polars" else table


def _arrow_errors(shown: str) -> tuple[type[Exception], ...]:
    lib = need("pyarrow.lib", extra="pandas", purpose=f"reading '{shown}'")
    return (lib.ArrowException,)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


_CSV: dict[str, Callable[[Path, Any, dict[str, Any], str], Any]] = {
    "pandas": _csv_pandas,
    "polars": _csv_polars,
    "pyarrow": _csv_pyarrow,
}
_BINARY: dict[str, Callable[[Path, Any, str, dict[str, Any]], Any]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "json": _json_options,
    "jsonl": _json_lines_options,
}
