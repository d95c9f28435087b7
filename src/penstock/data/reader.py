"""`read`: one reader for files, object stores and databases, which records what it read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import unquote

from ..core.errors import MissingExtraError, SourceError
from ..core.location import caller_location
from ..ports.context import context
from ..ports.observers import Observer
from .extras import need
from .files import FileObserver, FolderObserver, GoneError, find_file, read_file
from .formats import format_of, from_rows, library_of, load_table
from .redaction import redacted
from .sql import Params, SqlObserver, read_sql
from .urls import UrlObserver, read_url

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")

_DATABASES = {
    "sqlite",
    "postgresql",
    "postgres",
    "mysql",
    "mariadb",
    "mssql",
    "oracle",
    "duckdb",
    "snowflake",
    "redshift",
    "clickhouse",
    "trino",
    "bigquery",
}


@overload
def read(
    source: str | os.PathLike[str],
    *,
    format: str | None = ...,
    as_: None = ...,
    query: str | None = ...,
    params: Params = ...,
    storage_options: Mapping[str, Any] | None = ...,
    **options: Any,
) -> pandas.DataFrame: ...
@overload
def read(
    source: str | os.PathLike[str],
    *,
    format: str | None = ...,
    as_: type[T],
    query: str | None = ...,
    params: Params = ...,
    storage_options: Mapping[str, Any] | None = ...,
    **options: Any,
) -> T: ...
def read(
    source: str | os.PathLike[str],
    *,
    format: str | None = None,
    as_: type[Any] | None = None,
    query: str | None = None,
    params: Params = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Read a table from outside, and record the version of exactly what was read.

    `source` is a local path (relative to the current directory), `file://`, `s3://` or any other fsspec URL
    (`storage_options` go to it), or a database URL with `query` and `params` (in that database's own parameter style).
    The format comes from the suffix (.csv, .tsv, .json, .jsonl, each also .gz; .parquet, .arrow, .feather) or `format`.
    The table is a pandas DataFrame unless `as_` names polars.DataFrame or pyarrow.Table; `options` go to that library's
    reader. Inside a step the version is part of the step's cache key: see docs/caching.md.

    Raises:  SourceError where the source is not there, cannot be reached, changed under the read or is not a table;
             MissingExtraError where a library is missing. A query's parameters are recorded: pass no secrets in them.
    """
    text = os.fspath(source)
    try:
        library = library_of(as_)
        scheme = text.partition("://")[0].partition("+")[0] if "://" in text else ""
        if query is not None or scheme in _DATABASES:
            return _read_query(text, query, params, library, options)
        if params is not None:
            raise SourceError(f"params= without query= for '{redacted(text)}'", hint="params belong to an SQL query")
        if scheme in ("", "file", "local"):
            return _read_path(text, format, library, options)
        return _read_url(text, format, library, storage_options or {}, options)
    except GoneError as error:
        raise SourceError(error.problem, hint=error.hint, where=caller_location()) from error.__cause__
    except (SourceError, MissingExtraError) as error:
        error.where = error.where or caller_location()
        raise


def observers(memo: Path | None = None) -> dict[str, Observer]:
    """Who looks again at what `read` recorded; `memo` is a folder that remembers digests of unchanged local files."""
    files = FileObserver(memo)
    return {"file": files, "folder": FolderObserver(files), "url": UrlObserver(), "sql": SqlObserver()}


def _read_path(text: str, format: str | None, library: str, options: dict[str, Any]) -> Any:
    name = unquote(text.partition("://")[2].removeprefix("localhost")) if "://" in text else text
    path = find_file(Path(name).expanduser().absolute(), name)
    value, version = read_file(path, name, _loader(name, format, library, name, options))
    context().observe("file", name, version)
    return value


def _read_url(
    url: str, format: str | None, library: str, storage_options: Mapping[str, Any], options: dict[str, Any]
) -> Any:
    shown = redacted(url)
    path = url.partition("?")[0].partition("#")[0] if url.startswith(("http://", "https://")) else url
    value, name, version = read_url(url, storage_options, _loader(path, format, library, shown, options))
    context().observe("url", name, version)
    return value


def _read_query(url: str, query: str | None, params: Params, library: str, options: dict[str, Any]) -> Any:
    shown = redacted(url)
    if query is None:
        raise SourceError(f"'{shown}' is a database: which rows?", hint='add query="SELECT …"')
    if "://" not in url:
        raise SourceError(f"query= needs a database URL, not '{shown}'", hint=f"write sqlite:///{shown}")
    if options:
        raise SourceError(f"a query takes no option '{next(iter(options))}'", hint="say it in the query itself")
    module = need(library, extra="pandas" if library == "pyarrow" else library, purpose=f"reading '{shown}'")
    result, name = read_sql(url, query, params)
    table = from_rows(module, library, result.columns, result.rows)
    context().observe("sql", name, result.version())
    return table


def _loader(name: str, format: str | None, library: str, shown: str, options: dict[str, Any]) -> Callable[[Path], Any]:
    """How the fetched file becomes a table; the format is settled before anything is fetched."""
    known = format_of(name, format, shown)
    return lambda path: load_table(path, known, library, shown, options)
