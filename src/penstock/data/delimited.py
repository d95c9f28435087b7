"""CSV and TSV that are not: what a parser's error, or its silence, means in the user's file."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..core.errors import SourceError

_SAMPLE_BYTES = 65_536
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "a Parquet file", 'read it with format="parquet"'),
    (b"ARROW1", "an Arrow file", 'read it with format="arrow"'),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or export the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "give it a name that ends in .gz"),
    (b"SQLite format 3\x00", "a SQLite database", 'read it with read("sqlite:///FILE", query="SELECT …")'),
    (b"%PDF", "a PDF document", "export its table as CSV"),
    (b"\xff\xfe", "UTF-16 text", 'add encoding="utf-16"'),
    (b"\xfe\xff", "UTF-16 text", 'add encoding="utf-16"'),
)
# With other options a row's length is the user's own business (or the parser's).
_PLAIN_OPTIONS = {"dtype", "parse_dates", "na_values", "keep_default_na", "sep", "separator", "encoding", "decimal"}


def check_text(path: Path, shown: str, options: dict[str, Any]) -> None:
    """Refuse what is empty, binary or a web page before a parser makes something of it."""
    sample = _sample(path, shown)
    if not sample.strip():
        raise SourceError(f"'{shown}' is empty", hint="a CSV file has at least a line with the column names")
    for start, kind, hint in _KINDS:
        if sample.startswith(start) and "encoding" not in options:
            raise SourceError(f"'{shown}' is not CSV: it is {kind}", hint=hint)
    if b"\x00" in sample and "encoding" not in options:
        raise SourceError(
            f"'{shown}' is not CSV: it holds binary data (a zero byte at position {sample.index(0)})",
            hint='name its real format with format="…", or its encoding=',
        )
    if sample.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise SourceError(
            f"'{shown}' is not CSV: it is a web page", hint="open it in a browser; a sign-in page is the usual reason"
        )


def check_rows(path: Path, shown: str, options: dict[str, Any], separator: str) -> None:
    """Refuse a table whose rows are not as long as its header. Costs a pass over the file; call it on suspicion."""
    if not set(options) <= _PLAIN_OPTIONS or len(separator) != 1:
        return
    found = _ragged(path, separator, str(options.get("encoding", "utf-8")))
    if found is None:
        return
    line, fields, expected = found
    raise SourceError(
        f"'{shown}' is not a table: line {line} has {_fields(fields)}, its header has {expected}",
        hint="fix that line (an unquoted separator, or a file cut short?), name the separator with sep=, "
        'or pass on_bad_lines="skip"',
    )


def check_encoding(path: Path, shown: str, options: dict[str, Any]) -> None:
    """Refuse text that is not in its encoding, naming the line and the byte."""
    encoding = str(options.get("encoding", "utf-8"))
    for number, line in enumerate(_lines(path), start=1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError as error:
            raise SourceError(
                f"'{shown}' is not {encoding}: byte 0x{line[error.start]:02x} on line {number}",
                hint='name its encoding, for example encoding="latin-1" or encoding="cp1252"',
            ) from None


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked when its name ends in .gz."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def broken_gzip(shown: str, error: Exception) -> SourceError:
    return SourceError(
        f"'{shown}' cannot be unpacked: {error}", hint="fetch it again: it is damaged, cut short, or not gzip at all"
    )


def _sample(path: Path, shown: str) -> bytes:
    try:
        with open_bytes(path) as file:
            return file.read(_SAMPLE_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise broken_gzip(shown, error) from error


def _lines(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        yield from file


def _ragged(path: Path, separator: str, encoding: str) -> tuple[int, int, int] | None:
    with open_bytes(path) as file:
        text = (line.decode(encoding, "replace") for line in file)
        rows = csv.reader(text, delimiter=separator)
        try:
            expected = len(next(rows, []))
            for row in rows:
                if row and len(row) != expected:
                    return rows.line_num, len(row), expected
        except csv.Error:
            return None  # beyond what this scan understands: the parser's own words will do
    return None


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"
