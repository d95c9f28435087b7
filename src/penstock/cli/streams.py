"""Streams whose reader may leave: a closed pipe or a terminal that is gone silences us, and ends nothing."""

from __future__ import annotations

import io
import os
import sys
from functools import cached_property
from typing import Any, TextIO

from .render import coloured, speaks_unicode


class Lasting(io.TextIOBase):
    """A stream to tell progress to. When it takes no more text, the rest is dropped; a write never raises."""

    def __init__(self, real: TextIO) -> None:
        self._real = real
        self._gone = False

    @cached_property
    def is_coloured(self) -> bool:
        """As `render.coloured` says, once for a whole run."""
        return coloured(self._real)

    @cached_property
    def has_symbols(self) -> bool:
        """As `render.speaks_unicode` says, once for a whole run."""
        return speaks_unicode(self._real)

    def write(self, text: str) -> int:
        if not self._gone:
            try:
                self._real.write(text)
            except UnicodeEncodeError:
                self._write_replaced(text)
            except (OSError, ValueError):  # ValueError: somebody closed it
                self._drop()
        return len(text)

    def flush(self) -> None:
        if not self._gone:
            try:
                self._real.flush()
            except (OSError, ValueError):
                self._drop()

    def isatty(self) -> bool:
        try:
            return self._real.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        return self._real.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._real.encoding

    def _write_replaced(self, text: str) -> None:
        encoding = self._real.encoding or "ascii"
        try:
            self._real.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        self._gone = True
        silence(self._real)


def lasting(stream: TextIO) -> TextIO:
    return Lasting(stream)  # type: ignore[return-value]


def silence(stream: Any) -> None:
    """Point the stream's descriptor to nowhere, so that what it still holds breaks nothing when it is closed."""
    try:
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError):  # it has none, or it is closed
        return
    os.dup2(nowhere, number, inheritable=number <= 2)
    os.close(nowhere)


def reopen_missing() -> None:
    """Python has no stdout at all where descriptor 1 was closed from the start; a file opened later would be it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lives as long as we do


def settle() -> None:
    """Flush both streams for the last time; what nobody reads any more goes nowhere."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            silence(stream)


def reader_left() -> bool:
    """Whether a reader of stdout or stderr has gone."""
    import select

    for stream in (sys.stdout, sys.stderr):
        try:
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(what & (select.POLLERR | select.POLLHUP) for _, what in poll.poll(0)):
                return True
        except (OSError, ValueError, AttributeError):  # no descriptor, or a system without poll
            return True
    return False
