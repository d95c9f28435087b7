"""What `reproduce` and `verify` share: marks of verdicts, causes in words, and who watches an experiment."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..core.errors import UsageError
from ..core.units import size_bytes
from ..engine.causes import Cause
from ..engine.listener import Listener, Silent
from ..ports.agreement import Verdict
from ..wiring.copying import Terms
from .progress import PlainProgress
from .render import paint, speaks_unicode

_MARKS = {
    Verdict.IDENTICAL: ("✓", "=", "green"),
    Verdict.EQUAL: ("≈", "~", "green"),
    Verdict.DIFFERENT: ("✗", "x", "red"),
    Verdict.UNKNOWN: ("○", "o", "dim"),
}


def mark(verdict: Verdict) -> str:
    """✓ identical, ≈ equal, ✗ different, ○ not compared."""
    fine, plain, style = _MARKS[verdict]
    return paint(fine if speaks_unicode() else plain, style)


def cause_lines(cause: Cause) -> list[str]:
    """A cause, wrapped at 80 columns, with what to do about it."""
    lines = textwrap.wrap(
        f"{cause.sure} cause: {cause.kind}: {cause.text}", 78, initial_indent="  ", subsequent_indent="    "
    )
    if cause.fix:
        lines += textwrap.wrap(f"fix: {cause.fix}", 78, initial_indent="    ", subsequent_indent="      ")
    return lines


def add_copying_flags(parser: argparse.ArgumentParser) -> None:
    """--link and --copy-limit: what the private copy of the project's files is made of."""
    parser.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="PATH",
        help="data that steps only read: linked, not copied (may be given again)",
    )
    parser.add_argument(
        "--copy-limit",
        type=_size,
        metavar="SIZE",
        help="how much to copy at most (default: 2Gi, or half of the free disk where that is less)",
    )


def terms_of(arguments: argparse.Namespace) -> Terms:
    """How the project's files are to be copied."""
    return Terms(tuple(arguments.link), arguments.copy_limit)


def _size(text: str) -> int:
    try:
        return size_bytes(text)
    except ValueError as error:
        raise UsageError(f"--copy-limit: {error}", hint="--copy-limit 20Gi") from None


@contextmanager
def experimenting(arguments: argparse.Namespace) -> Iterator[tuple[Callable[[str], None], Listener]]:
    """(how to tell of a phase, who watches the run): on stderr; nobody with --json or --quiet."""
    if arguments.json or arguments.quiet:
        yield (lambda text: None), Silent()
        return

    def tell(text: str) -> None:
        sys.stderr.write(paint(f"… {text}" if speaks_unicode(sys.stderr) else text, "dim", sys.stderr) + "\n")
        sys.stderr.flush()

    yield tell, PlainProgress()
