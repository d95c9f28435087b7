"""Plain text for people: tables, colours, symbols, times; and JSON for programs."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

import msgspec

from ..core.units import shown_duration

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# state -> symbol, the same in ASCII, colour
_STATES = {
    "pending": ("·", ".", "dim"),
    "running": ("▸", ">", "cyan"),
    "succeeded": ("✓", "+", "green"),
    "cached": ("≡", "=", "blue"),
    "failed": ("✗", "x", "red"),
    "timed_out": ("✗", "x", "red"),
    "cancelled": ("■", "#", "yellow"),
    "interrupted": ("■", "#", "yellow"),
    "upstream_failed": ("–", "-", "dim"),
    "skipped": ("○", "o", "dim"),
}


def coloured(stream: TextIO | None = None) -> bool:
    """Whether ANSI colours may be written there: a terminal without NO_COLOR, or FORCE_COLOR."""
    known: bool | None = getattr(stream, "is_coloured", None)
    if known is not None:
        return known
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    found = stream or sys.stdout
    return found is not None and found.isatty() and os.environ.get("TERM") != "dumb"


def speaks_unicode(stream: TextIO | None = None) -> bool:
    """Whether the stream's encoding has our symbols."""
    known: bool | None = getattr(stream, "has_symbols", None)
    if known is not None:
        return known
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    try:
        "✓▸≡✗■–…│".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """Text in a colour ("red", "green", "yellow", "blue", "cyan", "bold", "dim") where colours are wanted."""
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if style and text and coloured(stream) else text


def symbol(state: str, stream: TextIO | None = None) -> str:
    """The mark of a state, in its colour: ✓ succeeded, ≡ cached, ✗ failed, ■ cancelled, – blocked, ○ skipped."""
    fine, plain, style = _STATES.get(str(state), ("?", "?", ""))
    return paint(fine if speaks_unicode(stream) else plain, style, stream)


def shown_state(state: str) -> str:
    """Symbol and word."""
    style = _STATES.get(str(state), ("", "", ""))[2]
    return f"{symbol(state)} {paint(str(state).replace('_', ' '), style)}"


def table(rows: Sequence[Sequence[object]], headers: Sequence[str] = (), *, indent: str = "", right: str = "") -> str:
    """Aligned columns, two spaces apart, nothing wrapped and no trailing blanks. `right` names columns set right.

    >>> print(table([["fit", 2], ["prepare", 10]], ["step", "n"], right="n"))
    step      n
    fit       2
    prepare  10
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if headers:
        cells.insert(0, [paint(each, "dim") for each in headers])
    if not cells:
        return ""
    flush_right = {at for at, name in enumerate(headers) if name in right.split()}
    widths = [max(width(row[at]) for row in cells if at < len(row)) for at in range(max(map(len, cells)))]
    lines = []
    for row in cells:
        parts = [
            " " * (widths[at] - width(text)) + text if at in flush_right else text + " " * (widths[at] - width(text))
            for at, text in enumerate(row)
        ]
        lines.append((indent + "  ".join(parts)).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("\n", " ").replace("\t", " ")


def width(text: str) -> int:
    """Columns that a text takes on a terminal: colours take none, wide characters two."""
    bare = _ESCAPES.sub("", text)
    if bare.isascii():
        return len(bare)
    import unicodedata

    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in bare
    )


def shortened(text: str, limit: int) -> str:
    """The text in at most `limit` columns, on one line; "…" says that something is missing.

    >>> shortened("a rather long text", 10)
    'a rather …'
    """
    line = _CONTROL.sub("", " ".join(text.split()))
    if width(line) <= limit:
        return line
    if line.isascii():
        return line[: limit - 1] + "…"
    while width(line) > limit - 1:
        line = line[:-1]
    return line + "…"


def without_control(text: str) -> str:
    """What a step wrote, without the codes that could move the cursor or change the terminal."""
    return _CONTROL.sub("", _ESCAPES.sub("", text))


def shown_instant(us: int | None) -> str:
    """An instant in local time, to the second; empty for None."""
    return "" if us is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(us / 1_000_000))


def shown_seconds(seconds: float | None) -> str:
    """A duration as people read it; empty for None."""
    if seconds is None:
        return ""
    if 0 < seconds < 0.00005:
        return "<0.1 ms"
    return f"{seconds * 1000:.1f} ms" if 0 < seconds < 0.01 else shown_duration(seconds)


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "step"), counted(3, "step")
    ('1 step', '3 steps')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_json(value: Any) -> None:
    """One JSON document on stdout: records as objects with their field names; bytes never."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    sys.stdout.write(text.decode() + "\n")
