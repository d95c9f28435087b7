"""Query results: SQLite by the standard library, PostgreSQL by psycopg, anything else by SQLAlchemy. Read only.

A result's version is the digest of its column names and rows, in order, so looking again means running the query again,
and a query without ORDER BY may count as changed when the database returns its rows in another order.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from blake3 import blake3

from ..core.canonical import canonical_json, digest_bytes
from ..core.errors import SourceError, SourceUnavailableError, did_you_mean
from .extras import need
from .files import GoneError, find_file
from .redaction import MASK, has_secret, redacted, scrubbed

CONNECT_S = 5
_PARAMETERS = " -- params "
Params = Mapping[str, Any] | Sequence[Any] | None
# What this process knows of a name beyond the name: passwords, and parameters that JSON cannot hold.
_asked: dict[str, tuple[str, str, Params]] = {}


class Result(NamedTuple):
    columns: list[str]
    rows: list[tuple[Any, ...]]

    def version(self) -> str:
        """blake3 of the names and rows."""
        # repr tells 1 from 1.0 from "1", and keeps floats, decimals and instants exact.
        hasher = blake3(repr(self.columns).encode())
        for row in self.rows:
            hasher.update(repr(tuple(_plain(value) for value in row)).encode("utf-8", "surrogatepass"))
            hasher.update(b"\n")
        return f"blake3:{hasher.hexdigest()}"


def read_sql(url: str, query: str, params: Params) -> tuple[Result, str]:
    """The query's result, and the name under which an observer can ask again."""
    name = _name(url, query, params)
    _asked[name] = (url, query, params)
    return _run(url, query, params), name


class SqlObserver:
    """Runs queries again.

    Where the name had a password, another process tries without it: PGPASSWORD, ~/.pgpass and peer authentication
    still work. If the database will not let it in, the result counts as gone and the step runs again.
    """

    is_far = True

    def version(self, name: str) -> str | None:
        asked = _asked.get(name)
        if asked is not None:
            return self._look(*asked)
        url, _, rest = name.partition(" ")
        query, marked, parameters = rest.rpartition(_PARAMETERS)
        if not marked:
            query, parameters = rest, "null"
        try:
            params = msgspec.json.decode(parameters)
        except msgspec.DecodeError:
            return None  # parameters that only the process that asked can know
        if MASK not in url:
            return self._look(url, query, params)
        if url.partition("://")[0].partition("+")[0] not in ("postgresql", "postgres"):
            return None
        try:
            return self._look(url.replace(f":{MASK}@", "@"), query, params)
        except SourceError:
            return None

    @staticmethod
    def _look(url: str, query: str, params: Params) -> str | None:
        try:
            return _run(url, query, params).version()
        except GoneError:
            return None


def _name(url: str, query: str, params: Params) -> str:
    text = f"{redacted(url).replace(' ', '%20')} {query}"
    if params is None and _PARAMETERS not in query:
        return text
    plain: Any = params if params is None or isinstance(params, Mapping) else list(params)
    try:
        content = canonical_json(plain)
        exact = msgspec.json.decode(content) == plain
    except (TypeError, ValueError):
        content, exact = repr(plain).encode(), False
    return f"{text}{_PARAMETERS}{content.decode() if exact else digest_bytes(content)}"


def _run(url: str, query: str, params: Params) -> Result:
    dialect = url.partition("://")[0].partition("+")[0]
    if dialect == "sqlite":
        result = _sqlite(url, query, params)
    elif dialect in ("postgresql", "postgres"):
        result = _postgres(url, query, params)
    else:
        result = _sqlalchemy(url, query, params)
    twice = sorted({name for name in result.columns if result.columns.count(name) > 1})
    if twice:
        raise SourceError(
            f"the query on '{redacted(url)}' returns two columns named '{twice[0]}'", hint="rename one with AS"
        )
    return result


def _sqlite(url: str, query: str, params: Params) -> Result:
    location = unquote(url.partition("://")[2].partition("?")[0])
    if not location.startswith("/") or location in ("/", "/:memory:"):
        raise SourceError(
            f"'{redacted(url)}' names no database file",
            hint="write sqlite:///relative/file.db or sqlite:////absolute/file.db",
        )
    shown = location[1:]
    try:
        path = find_file(Path(shown).expanduser(), shown)
    except SourceError as error:
        raise GoneError(error.problem, hint=error.hint) from None
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=CONNECT_S)
        ) as db:
            try:
                cursor = db.execute(query, params if params is not None else ())
                return _result([each[0] for each in cursor.description or ()], cursor.fetchall(), url)
            except sqlite3.OperationalError as error:
                raise _refused(str(error), query, shown, _sqlite_names(db)) from error
    except (sqlite3.Error, sqlite3.Warning) as error:
        if "not a database" in str(error):
            raise SourceError(f"'{shown}' is not a SQLite database", hint="check the file's name") from error
        raise SourceError(f"the query on '{shown}' failed: {error}\n  query: {_short(query)}", hint=_FIX) from error


def _sqlite_names(db: sqlite3.Connection) -> list[str]:
    with contextlib.suppress(sqlite3.Error):
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
        columns = [row[0] for t in tables for row in db.execute("SELECT name FROM pragma_table_info(?)", (t,))]
        return [*tables, *columns]
    return []


def _postgres(url: str, query: str, params: Params) -> Result:
    psycopg = need("psycopg", extra="postgres", purpose=f"reading '{redacted(url)}'")
    address = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    timeout = {} if "connect_timeout=" in url else {"connect_timeout": CONNECT_S}
    shown = redacted(url)
    try:
        connection = psycopg.connect(address, **timeout)
    except psycopg.Error as error:
        raise _unreachable(shown, scrubbed(str(error), url)) from (None if has_secret(url) else error)
    with contextlib.closing(connection):
        connection.read_only = True
        try:
            cursor = connection.execute(query, params)
            rows = cursor.fetchall() if cursor.description else []
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            connection.rollback()
            raise _refused(_headline(error), query, shown, _postgres_names(connection)) from error
        except psycopg.Error as error:
            raise _refused(scrubbed(_headline(error), url), query, shown, []) from error
        return _result([each.name for each in cursor.description or ()], rows, url)


def _postgres_names(connection: Any) -> list[str]:
    query = """
        SELECT DISTINCT unnest(ARRAY[table_name, column_name]) FROM information_schema.columns
        WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
    """
    return [str(row[0]) for row in connection.execute(query)]


def _sqlalchemy(url: str, query: str, params: Params) -> Result:
    sqlalchemy = need("sqlalchemy", extra="sql", purpose=f"reading '{redacted(url)}'")
    shown = redacted(url)
    wrong = (sqlalchemy.exc.SQLAlchemyError, OSError)
    dialect = url.partition("://")[0].partition("+")[0]
    arguments = {"connect_timeout": CONNECT_S} if dialect in ("mysql", "mariadb") else {}
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, connect_args=arguments)
    except sqlalchemy.exc.NoSuchModuleError as error:
        raise SourceError(f"'{shown}': there is no database '{dialect}'", hint=_first_line(str(error))) from error
    except ModuleNotFoundError as error:
        raise SourceError(
            f"'{shown}' needs '{error.name}', which is not installed",
            hint=f"install the driver that brings '{error.name}'",
        ) from error
    except wrong as error:
        raise SourceError(f"'{shown}' is not a database URL", hint="see SQLAlchemy's documentation on URLs") from (
            None if has_secret(url) else error
        )
    try:
        connection = engine.connect()
    except wrong as error:
        raise _unreachable(shown, scrubbed(str(error), url)) from (None if has_secret(url) else error)
    with contextlib.closing(connection):
        try:
            cursor = connection.execute(sqlalchemy.text(query), params if params is not None else {})
            return _result(list(cursor.keys()), [tuple(row) for row in cursor.fetchall()], url)
        except wrong as error:
            raise _refused(_first_line(scrubbed(str(error), url)), query, shown, []) from None


_FIX = "check the query in the database's own shell"


def _refused(said: str, query: str, shown: str, names: list[str]) -> SourceError:
    """The database's own words, with near names where it does not know one."""
    problem = f"the query on '{shown}' failed: {said}\n  query: {_short(query)}"
    missing = re.search(
        r"no such (?:table|column): (?:\w+\.)?(\w+)|(?:relation|column) \"?(?:\w+\.)*(\w+)\"? does not", said
    )
    if missing is None:
        return SourceError(problem, hint=_FIX)
    return GoneError(problem, hint=did_you_mean(missing[1] or missing[2], names))


def _unreachable(shown: str, said: str) -> SourceError:
    return SourceUnavailableError(
        f"the database '{shown}' cannot be reached: {_first_line(said)}",
        hint="check that it runs, the address, the user and the password (PostgreSQL: PGPASSWORD or ~/.pgpass)",
    )


def _result(columns: list[str], rows: list[Any], url: str) -> Result:
    if not columns:
        raise SourceError(f"the query on '{redacted(url)}' returns no table", hint="read() takes SELECT queries only")
    return Result(columns, rows)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value


def _headline(error: Exception) -> str:
    diagnosed = getattr(getattr(error, "diag", None), "message_primary", None)
    return str(diagnosed) if diagnosed else _first_line(str(error))


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"


def _short(query: str) -> str:
    text = " ".join(query.split())
    return text if len(text) <= 120 else text[:119] + "…"
