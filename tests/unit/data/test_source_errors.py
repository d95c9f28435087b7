"""What cannot be read is refused with one clear message: what, where, and the fix."""

from __future__ import annotations

import gzip
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import polars
import pyarrow
import pytest

from penstock.core.errors import MissingExtraError, PenstockError, SourceError
from penstock.data import read
from penstock.data.extras import need
from penstock.data.redaction import has_secret, redacted, scrubbed


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    (folder / "raw").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "orders.csv").write_text("a,b\n1,2\n")
    (folder / "raw" / "x.csv").write_text("a\n1\n")
    with sqlite3.connect(folder / "orders.db") as db:
        db.execute("CREATE TABLE orders (id INTEGER, price REAL)")
        db.execute("INSERT INTO orders VALUES (1, 2.5)")
    db.close()
    monkeypatch.chdir(folder)
    return folder


def refused(source: str, **options: Any) -> tuple[str, str | None]:
    with pytest.raises(SourceError) as caught:
        read(source, **options)
    assert type(caught.value) is SourceError
    assert caught.value.where is not None
    assert Path(caught.value.where.file).name == "test_source_errors.py"
    return caught.value.problem, caught.value.hint


_RAGGED = (
    "fix that line (an unquoted separator, or a file cut short?), name the separator with sep=, "
    'or pass on_bad_lines="skip"'
)


def test_a_missing_file_names_what_is_near(here: Path) -> None:
    assert refused("order.csv") == (
        "there is no file 'order.csv'",
        f"did you mean 'orders.csv' or 'orders.db'? (looked in {here})",
    )
    assert refused("rav/x.csv") == (
        "there is no file 'rav/x.csv': the folder 'rav' does not exist",
        f"did you mean 'raw'? (looked in {here})",
    )
    assert refused("empty/x.csv") == ("there is no file 'empty/x.csv'", f"the folder {here}/empty is empty")
    assert refused("raw") == ("'raw' is a folder", "name one file in it: x.csv")
    assert refused(f"file://{here}/nowhere/x.csv")[0] == (
        f"there is no file '{here}/nowhere/x.csv': the folder 'nowhere' does not exist"
    )


def test_the_error_points_at_the_users_own_line() -> None:
    with pytest.raises(SourceError) as caught:
        read("order.csv")
    assert caught.value.where is not None
    assert Path(caught.value.where.file).name == "test_source_errors.py"
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.where) == (str(caught.value), caught.value.where)


def test_an_unknown_format_names_the_known_ones(here: Path) -> None:
    (here / "orders.xls").write_text("x")
    (here / "plain").write_text("x")
    known = "csv, tsv, parquet, json, jsonl, arrow, feather"
    assert refused("orders.xls") == (
        "cannot tell the format of 'orders.xls': its suffix '.xls' says nothing",
        f"add format=, one of {known}",
    )
    assert refused("plain") == ("cannot tell the format of 'plain': it has no suffix", f"add format=, one of {known}")
    assert refused("orders.csv", format="cvs") == ("unknown format 'cvs' for 'orders.csv'", "did you mean 'csv'?")
    assert refused("orders.csv", as_=list) == (
        "as_=list is not a table type",
        "use pandas.DataFrame, polars.DataFrame or pyarrow.Table",
    )


@pytest.mark.parametrize("as_", [None, polars.DataFrame, pyarrow.Table])
@pytest.mark.parametrize(
    ("content", "problem", "hint"),
    [
        (b"", "is empty", "a CSV file has at least a line with the column names"),
        (b"\n\n", "is empty", "a CSV file has at least a line with the column names"),
        (b"a,b\n1,2\n1,2,3\n", "is not a table: line 3 has 3 fields, its header has 2", _RAGGED),
        (b"a,b\n1,2,3\n1,2,3\n", "is not a table: line 2 has 3 fields, its header has 2", _RAGGED),
        (b"a,b\n1,2\n\n1\n", "is not a table: line 4 has 1 field, its header has 2", _RAGGED),
        (
            "a,b\n1,é\n".encode("latin-1"),
            "is not utf-8: byte 0xe9 on line 2",
            'name its encoding, for example encoding="latin-1" or encoding="cp1252"',
        ),
        ("a,b\n1,2\n".encode("utf-16"), "is not CSV: it is UTF-16 text", 'add encoding="utf-16"'),
        (
            b"a\x00b",
            "is not CSV: it holds binary data (a zero byte at position 1)",
            'name its real format with format="…", or its encoding=',
        ),
        (
            b"PK\x03\x04...",
            "is not CSV: it is a zip archive or an Excel workbook",
            "unpack it, or export the sheet as CSV",
        ),
        (b"PAR1....PAR1", "is not CSV: it is a Parquet file", 'read it with format="parquet"'),
        (
            b"<!DOCTYPE html><html></html>",
            "is not CSV: it is a web page",
            "open it in a browser; a sign-in page is the usual reason",
        ),
    ],
)
def test_a_csv_that_is_not_one_is_explained(here: Path, as_: Any, content: bytes, problem: str, hint: str) -> None:
    (here / "bad.csv").write_bytes(content)
    assert refused("bad.csv", as_=as_) == (f"'bad.csv' {problem}", hint)


def test_what_the_fix_says_works(here: Path) -> None:
    (here / "bad.csv").write_bytes("a,b\n1,é\n".encode("latin-1"))
    assert read("bad.csv", encoding="latin-1")["b"].tolist() == ["é"]
    (here / "bad.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    assert read("bad.csv", encoding="utf-16")["b"].tolist() == [2]
    (here / "bad.csv").write_bytes(b"a,b\n1,2\n1,2,3\n")
    assert len(read("bad.csv", on_bad_lines="skip")) == 1


def test_a_header_alone_is_an_empty_table_and_a_missing_last_value_is_no_short_row(here: Path) -> None:
    (here / "t.csv").write_text("a,b\n")
    assert read("t.csv").shape == (0, 2)
    (here / "t.csv").write_text('a,b\n1,\n"x\ny",2\n')
    assert read("t.csv").shape == (2, 2)


def test_damaged_files_of_every_format_are_explained(here: Path) -> None:
    (here / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-10])
    (here / "n.csv.gz").write_text("a,b\n")
    (here / "t.json").write_text("{a")
    (here / "n.json").write_text("[1, 2]")
    (here / "t.jsonl").write_text('{"a": 1}\n{"a":\n')
    (here / "t.parquet").write_text("a,b\n1,2\nsome,more\n")
    again = "fetch it again: it is damaged, cut short, or not gzip at all"
    assert refused("t.csv.gz") == (
        "'t.csv.gz' cannot be unpacked: Compressed file ended before the end-of-stream marker was reached",
        again,
    )
    assert refused("n.csv.gz") == ("'n.csv.gz' cannot be unpacked: Not a gzipped file (b'a,')", again)
    assert refused("t.json") == (
        "'t.json' is not JSON: JSON is malformed: object keys must be strings (byte 1)",
        'one object per line? then format="jsonl"',
    )
    assert refused("n.json") == (
        "'n.json' is not a table: expected a list of objects, or one object of lists",
        "read it with json.loads and build the table yourself",
    )
    assert refused("t.jsonl") == (
        "'t.jsonl' is not JSON lines: line 2: Input data was truncated",
        'one document over many lines? then format="json"',
    )
    problem, hint = refused("t.parquet")
    assert problem.startswith("'t.parquet' cannot be read as parquet: ")
    assert hint == 'is that its format? name the real one with format="…"'
    assert refused("orders.csv", nope=1) == (
        "'orders.csv': pandas has no such option: read_csv() got an unexpected keyword argument 'nope'",
        "see its read_csv",
    )


def test_bad_sql_says_what_the_database_said_and_what_is_near(here: Path) -> None:
    url = "sqlite:///orders.db"
    shell = "check the query in the database's own shell"
    assert refused(url) == ("'sqlite:///orders.db' is a database: which rows?", 'add query="SELECT …"')
    assert refused(url, query="SELECT * FROM order_s") == (
        "the query on 'orders.db' failed: no such table: order_s\n  query: SELECT * FROM order_s",
        "did you mean 'orders'?",
    )
    assert refused(url, query="SELECT pric FROM orders") == (
        "the query on 'orders.db' failed: no such column: pric\n  query: SELECT pric FROM orders",
        "did you mean 'price'?",
    )
    assert refused(url, query="SELEC 1") == (
        "the query on 'orders.db' failed: near \"SELEC\": syntax error\n  query: SELEC 1",
        shell,
    )
    assert refused(url, query="DELETE FROM orders") == (
        "the query on 'orders.db' failed: attempt to write a readonly database\n  query: DELETE FROM orders",
        shell,
    )
    assert refused(url, query="SELECT 1 a, 2 a") == (
        "the query on 'sqlite:///orders.db' returns two columns named 'a'",
        "rename one with AS",
    )
    assert refused("sqlite:///order.db", query="SELECT 1")[0] == "there is no file 'order.db'"
    assert refused("sqlite:///orders.csv", query="SELECT 1 FROM x") == (
        "'orders.csv' is not a SQLite database",
        "check the file's name",
    )
    assert refused("sqlite://", query="SELECT 1") == (
        "'sqlite://' names no database file",
        "write sqlite:///relative/file.db or sqlite:////absolute/file.db",
    )
    assert refused("orders.db", query="SELECT 1") == (
        "query= needs a database URL, not 'orders.db'",
        "write sqlite:///orders.db",
    )


def test_an_unknown_protocol_names_the_nearest() -> None:
    assert refused("sq3://bucket/x.csv") == (
        "'sq3://bucket/x.csv': there is no protocol 'sq3'",
        "did you mean 's3' or 's3a'?",
    )
    assert refused("s3:///x.csv") == ("'s3:///x.csv' names no bucket", "write s3://bucket/path/to/file")
    assert refused("memory://nowhere/x.csv") == (
        "there is no file 'memory://nowhere/x.csv'",
        "nothing is stored beside it: check the folder",
    )


def test_a_missing_library_names_its_extra() -> None:
    with pytest.raises(MissingExtraError) as caught:
        need("penstock_no_such_library", extra="sql", purpose="reading 'x'")
    assert str(caught.value) == (
        "reading 'x' needs 'penstock_no_such_library', which is not installed\n  hint: pip install 'penstock[sql]'"
    )


def test_a_broken_library_is_not_called_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "penstock_broken_library.py").write_text("import penstock_no_such_library\n")
    monkeypatch.syspath_prepend(here)
    with pytest.raises(ModuleNotFoundError, match="penstock_no_such_library"):
        need("penstock_broken_library", extra="sql", purpose="reading 'x'")


@pytest.mark.parametrize(
    ("url", "secret", "shown"),
    [
        ("postgresql://ml:hunter2@db/shop", "hunter2", "postgresql://ml:***@db/shop"),
        ("postgresql://ml:a%40b@db/shop?password=hunter2", "hunter2", "postgresql://ml:***@db/shop?password=***"),
        ("https://u:p@ss@host/x.csv", "p@ss", "https://u:***@host/x.csv"),
        (
            "https://host/x.csv?X-Amz-Credential=AKIA1&sig=s3cr3t&part=1",
            "s3cr3t",
            "https://host/x.csv?X-Amz-Credential=***&sig=***&part=1",
        ),
        ("simplecache::https://u:hunter2@host/x.csv", "hunter2", "simplecache::https://u:***@host/x.csv"),
    ],
)
def test_a_secret_in_a_url_is_never_shown(url: str, secret: str, shown: str) -> None:
    assert has_secret(url)
    assert redacted(url) == shown
    assert redacted(shown) == shown
    assert secret not in scrubbed(f"failed for {url}: password {secret} was refused", url)


def test_a_secret_is_in_no_message_and_no_traceback_of_an_unreachable_database() -> None:
    import traceback

    with pytest.raises(PenstockError) as caught:
        read("postgresql://ml:hunter2@127.0.0.1:1/shop", query="SELECT 1")
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown.replace('read("postgresql://ml:hunter2@', "")  # the user's own line of code
    assert caught.value.problem.startswith(
        "the database 'postgresql://ml:***@127.0.0.1:1/shop' cannot be reached: connection failed"
    )
    assert caught.value.hint == (
        "check that it runs, the address, the user and the password (PostgreSQL: PGPASSWORD or ~/.pgpass)"
    )
