"""What a step prints and logs is kept per attempt, and still shown where it was meant to be."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any, TextIO

_FLUSH_CHARS = 8192
_FLUSH_S = 1.0
_LIMIT_CHARS = 16 * 1024 * 1024


class Sink:
    """Collects the text of one attempt and hands it on in chunks; past 16 million characters it only counts."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._chunks: list[str] = []
        self._held = 0
        self._total = 0
        self._last = monotonic()

    def add(self, text: str) -> None:
        self._total += len(text)
        if self._total > _LIMIT_CHARS:
            return
        self._chunks.append(text)
        self._held += len(text)
        if self._held >= _FLUSH_CHARS or monotonic() - self._last > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        if self._chunks:
            text, self._chunks, self._held, self._last = "".join(self._chunks), [], 0, monotonic()
            self._write(text)

    def close(self) -> None:
        if self._total > _LIMIT_CHARS:
            self._chunks.append(f"\n[penstock: {self._total - _LIMIT_CHARS} more characters were not kept]\n")
        self.flush()


_SINK: ContextVar[Sink | None] = ContextVar("penstock_sink", default=None)


class _Tee(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr: to the step's sink, and on to the real stream if asked."""

    def __init__(self, real: TextIO, echo: bool) -> None:
        self._real = real
        self._echo = echo

    def write(self, text: str) -> int:
        sink = _SINK.get()
        if sink is not None:
            sink.add(text)
        if sink is None or self._echo:
            self._real.write(text)
        return len(text)

    def flush(self) -> None:
        if not getattr(self._real, "closed", False):
            self._real.flush()

    def isatty(self) -> bool:
        return self._real.isatty()

    def fileno(self) -> int:
        return self._real.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._real.encoding

    @property
    def buffer(self) -> Any:
        return getattr(self._real, "buffer", None)


@contextmanager
def teed(*, echo: bool) -> Iterator[None]:
    """For the length of a run: prints made inside `into(sink)` are kept."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Tee(out, echo), _Tee(err, echo)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


@contextmanager
def into(sink: Sink) -> Iterator[None]:
    """Keep what this thread or task prints and logs from here on."""
    token = _SINK.set(sink)
    logging = sys.modules.get("logging")  # a program that never imported it logs nothing
    handler = _log_handler(logging) if logging is not None else None
    try:
        yield
    finally:
        if handler is not None and logging is not None:
            logging.getLogger().removeHandler(handler)
        _SINK.reset(token)
        sink.close()


def _log_handler(logging: Any) -> Any:
    owner = _SINK.get()

    class _ToSink(logging.Handler):  # type: ignore[misc]
        def emit(self, record: Any) -> None:
            if owner is not None and _SINK.get() is owner:
                owner.add(self.format(record) + "\n")

    handler = _ToSink()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler
