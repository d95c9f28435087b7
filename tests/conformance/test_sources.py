"""One set of laws for every kind of source: files, object stores, web servers and databases, all of them real."""

from __future__ import annotations

import hashlib
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pandas
import polars
import pyarrow
import pytest

from penstock.core.errors import SourceError
from penstock.data import observers, read
from penstock.ports.context import CURRENT, Context
from penstock.ports.records import Observation

from .s3 import s3_bucket, s3_server

__all__ = ["s3_bucket", "s3_server"]


class Source:
    """A table somewhere outside, with the means to change and remove it behind the reader's back."""

    def __init__(
        self, url: str, kind: str, write: Callable[[int], None], remove: Callable[[], None], **options: Any
    ) -> None:
        self.url = url
        self.kind = kind
        self.write = write  # one row with this number
        self.remove = remove
        self.options = options

    def read(self, **options: Any) -> Any:
        return read(self.url, **self.options, **options)

    def seen(self) -> Observation:
        """What one read records."""
        context = Context()
        token = CURRENT.set(context)
        try:
            self.read()
        finally:
            CURRENT.reset(token)
        (observation,) = context.observations
        return observation


def csv(number: int) -> bytes:
    return f"n,t\n{number},x\n".encode()


class Site:
    """A web server with one file, which vouches for it with an etag, a weak etag, or not at all."""

    def __init__(self, etag: str) -> None:
        self.content: bytes | None = None
        site = self

        class Answer(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET(body=False)

            def do_GET(self, body: bool = True) -> None:
                found = site.content if self.path.startswith("/t.csv") else None
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(found or b"")))
                if found is not None and etag:
                    self.send_header("ETag", etag.format(hashlib.sha256(found).hexdigest()[:8]))
                self.end_headers()
                if body:
                    self.wfile.write(found or b"")

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/t.csv"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, content: bytes | None) -> None:
        self.content = content

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def database(connect: Callable[[], Any], url: str, query: str, **options: Any) -> Source:
    def run(*statements: str) -> None:
        connection = connect()
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    def write(number: int) -> None:
        run(
            "DROP TABLE IF EXISTS t",
            "CREATE TABLE t (n INTEGER, t TEXT)",
            f"INSERT INTO t VALUES ({number}, 'x')",
        )

    return Source(url, "sql", write, lambda: run("DROP TABLE t"), query=query, **options)


KINDS = ["file", "memory", "s3", "http-etag", "http-weak", "http-bare", "sqlite", "postgres", "sqlalchemy"]


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    kind: str = request.param
    monkeypatch.chdir(tmp_path)
    if kind == "file":
        path = tmp_path / "t.csv"
        yield Source("t.csv", "file", lambda n: path.write_bytes(csv(n)) and None, path.unlink)
    elif kind in ("memory", "s3"):
        url = (request.getfixturevalue("s3_bucket") if kind == "s3" else "memory://t") + "/t.csv"
        options = {"skip_instance_cache": True} if kind == "s3" else {}
        filesystem, path_in = fsspec.core.url_to_fs(url, **options)
        yield Source(url, "url", lambda n: filesystem.pipe_file(path_in, csv(n)), lambda: filesystem.rm_file(path_in))
    elif kind.startswith("http"):
        site = Site({"http-etag": '"{}"', "http-weak": 'W/"{}"', "http-bare": ""}[kind])
        yield Source(site.url, "url", lambda n: site.put(csv(n)), lambda: site.put(None))
        site.stop()
    elif kind == "postgres":
        import psycopg

        url = request.getfixturevalue("postgres_url")
        yield database(lambda: psycopg.connect(url), url, "SELECT n, t FROM t WHERE n > %s ORDER BY n", params=[0])
    else:
        scheme = "sqlite" if kind == "sqlite" else "sqlite+pysqlite"
        query = "SELECT n, t FROM t WHERE n > :least ORDER BY n"
        yield database(lambda: sqlite3.connect("t.db"), f"{scheme}:///t.db", query, params={"least": 0})


def test_every_library_gets_the_same_rows(source: Source) -> None:
    source.write(1)
    assert source.read().to_dict("records") == [{"n": 1, "t": "x"}]
    assert isinstance(source.read(as_=pandas.DataFrame), pandas.DataFrame)
    assert source.read(as_=polars.DataFrame).to_dicts() == [{"n": 1, "t": "x"}]
    assert source.read(as_=pyarrow.Table).to_pylist() == [{"n": 1, "t": "x"}]


def test_unchanged_is_the_same_version_changed_is_another_and_gone_is_none(source: Source) -> None:
    source.write(1)
    seen = source.seen()
    look = observers()[source.kind]
    assert seen.kind == source.kind
    assert source.seen() == seen
    assert look.version(seen.name) == seen.version
    source.write(2)
    changed = look.version(seen.name)
    assert changed is not None
    assert changed != seen.version
    assert source.seen() == Observation(seen.kind, seen.name, changed)
    source.write(1)
    assert look.version(seen.name) == seen.version
    source.remove()
    assert look.version(seen.name) is None


def test_another_process_sees_the_same_version_by_the_name_alone(source: Source) -> None:
    if source.url.startswith("memory:"):
        pytest.skip("memory:// ends with its process")
    source.write(1)
    seen = source.seen()
    code = "import sys\nfrom penstock.data import observers\nprint(observers()[sys.argv[1]].version(sys.argv[2]))"
    told = subprocess.run(
        [sys.executable, "-c", code, seen.kind, seen.name], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == seen.version


def test_what_is_not_there_is_a_source_error_that_names_it(source: Source) -> None:
    source.write(1)
    source.remove()
    with pytest.raises(SourceError) as caught:
        source.read()
    assert type(caught.value) is SourceError
    assert caught.value.hint
    assert caught.value.where is not None
    assert Path(caught.value.where.file).name == "test_sources.py"


def refused(url: str, **options: Any) -> tuple[str, str | None]:
    with pytest.raises(SourceError) as caught:
        read(url, **options)
    return caught.value.problem, caught.value.hint


def test_a_missing_bucket_or_key_is_told_apart_and_near_names_are_given(s3_bucket: str) -> None:
    filesystem = fsspec.filesystem("s3", skip_instance_cache=True)
    filesystem.pipe_file(f"{s3_bucket}/orders.csv", csv(1))
    assert refused(f"{s3_bucket}/order.csv") == (
        f"there is no object '{s3_bucket}/order.csv'",
        "did you mean 'orders.csv'?",
    )
    bucket = s3_bucket.removeprefix("s3://").partition("/")[0]
    problem, hint = refused(f"s3://{bucket}x/orders.csv")
    assert problem == f"there is no bucket '{bucket}x' (in 's3://{bucket}x/orders.csv')"
    assert hint is not None
    assert hint.startswith(f"did you mean '{bucket}'")  # other tests' buckets may be near as well


def test_a_server_that_refuses_or_stays_silent_fails_within_seconds(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:  # its backlog takes connections that nobody ever answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        monkeypatch.setattr("penstock.data.urls._READ_S", 0.5)
        started = time.monotonic()
        problem, hint = refused(f"http://127.0.0.1:{port}/t.csv")
        assert problem.startswith(f"'http://127.0.0.1:{port}/t.csv' cannot be reached: ")
        assert hint == ("check the address, the network and the proxy (for a private S3 server: AWS_ENDPOINT_URL)")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        assert refused(f"{s3_bucket}/t.csv")[0].startswith(f"'{s3_bucket}/t.csv' cannot be reached: Read timeout")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    assert refused(f"{s3_bucket}/t.csv")[0].startswith(f"'{s3_bucket}/t.csv' cannot be reached: Could not connect")
    assert refused(f"http://127.0.0.1:{port}/t.csv")[0].startswith(
        f"'http://127.0.0.1:{port}/t.csv' cannot be reached: Cannot connect"
    )
    assert time.monotonic() - started < 20
    with pytest.raises(SourceError, match="cannot be reached"):
        observers()["url"].version(f"{s3_bucket}/t.csv")


def test_without_credentials_the_hint_says_what_to_set(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert refused(f"{s3_bucket}/t.csv") == (
        f"'{s3_bucket}/t.csv' cannot be read: there are no AWS credentials",
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket pass "
        'storage_options={"anon": True}',
    )


def test_a_url_that_changes_while_it_is_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site('"{}"')
    site.put(csv(1))
    fetch = fsspec.implementations.http.HTTPFileSystem.get_file

    def meddle(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = fetch(self, *args, **kwargs)
        site.put(csv(2))
        return result

    monkeypatch.setattr(fsspec.implementations.http.HTTPFileSystem, "get_file", meddle)
    assert refused(site.url) == (f"'{site.url}' changed while it was read", "run again when its writer is done")
    site.stop()


def test_secrets_of_a_url_are_recorded_nowhere_and_only_this_process_can_look_again() -> None:
    site = Site('"{}"')
    site.put(csv(1))
    source = Source(f"{site.url}?token=s3cr3t", "url", lambda n: site.put(csv(n)), lambda: site.put(None))
    seen = source.seen()
    assert seen.name == f"{site.url}?token=***"
    assert observers()["url"].version(seen.name) == seen.version
    code = "import sys\nfrom penstock.data import observers\nprint(observers()['url'].version(sys.argv[1]))"
    told = subprocess.run([sys.executable, "-c", code, seen.name], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "None"
    source.remove()
    with pytest.raises(SourceError) as caught:
        source.read()
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
    site.stop()


def test_a_postgres_password_is_recorded_nowhere_and_the_environment_can_stand_in(postgres_url: str) -> None:
    import psycopg

    url = postgres_url.replace("penstock@", "penstock:hunter2@")
    source = database(lambda: psycopg.connect(postgres_url), url, "SELECT n, t FROM t ORDER BY n")
    source.write(1)
    seen = source.seen()
    assert "hunter2" not in seen.name
    assert seen.name.startswith("postgresql://penstock:***@")
    code = "import sys\nfrom penstock.data import observers\nprint(observers()['sql'].version(sys.argv[1]))"
    told = subprocess.run([sys.executable, "-c", code, seen.name], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == seen.version
    unreachable = seen.name.replace(url.rpartition(":")[2].partition("/")[0] + "/", "1/")
    told = subprocess.run([sys.executable, "-c", code, unreachable], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "None"


def test_postgres_refuses_bad_queries_and_writes_in_its_own_words(postgres_url: str) -> None:
    import psycopg

    source = database(lambda: psycopg.connect(postgres_url), postgres_url, "SELECT 1")
    source.write(1)
    assert refused(postgres_url, query="SELECT nn FROM t")[0] == (
        f"the query on '{postgres_url}' failed: column \"nn\" does not exist\n  query: SELECT nn FROM t"
    )
    assert refused(postgres_url, query="SELECT * FROM tt") == (
        f"the query on '{postgres_url}' failed: relation \"tt\" does not exist\n  query: SELECT * FROM tt",
        "did you mean 't'?",
    )
    assert refused(postgres_url, query="DELETE FROM t RETURNING n")[0] == (
        f"the query on '{postgres_url}' failed: cannot execute DELETE in a read-only transaction\n"
        "  query: DELETE FROM t RETURNING n"
    )


def test_values_that_databases_give_keep_their_types(postgres_url: str) -> None:
    row = read(postgres_url, query="SELECT 1.10::numeric AS price, DATE '2026-01-02' AS day, 'a'::bytea AS raw").iloc[0]
    assert (str(row["price"]), str(row["day"]), row["raw"]) == ("1.10", "2026-01-02", b"a")


def test_parameters_that_json_cannot_hold_are_known_to_this_process_only(tmp_path: Path) -> None:

    url = f"sqlite:///{tmp_path}/t.db"
    source = database(
        lambda: sqlite3.connect(tmp_path / "t.db"), url, "SELECT n FROM t WHERE t < ?", params=[b"\x00\xff"]
    )
    source.write(1)
    seen = source.seen()
    assert observers()["sql"].version(seen.name) == seen.version
    code = "import sys\nfrom penstock.data import observers\nprint(observers()['sql'].version(sys.argv[1]))"
    told = subprocess.run([sys.executable, "-c", code, seen.name], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "None"
