"""What a step prints and logs is kept per attempt, and still shown where it was meant to be."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic, sleep
from typing import Any, TextIO

from ..core.errors import StoreUnavailableError
from .redaction import Redactor

_FLUSH_CHARS = 8192
_FLUSH_S = 1.0
_ASKED_S = 0.05  # a step that flushes each of very many lines is not obeyed more often
_LIMIT_CHARS = 16 * 1024 * 1024


class Sink:
    """Collects the text of one attempt and hands it on in chunks; past 16 million characters it only counts."""

    def __init__(self, write: Callable[[str], None], secrets: Redactor | None = None) -> None:
        self._write = write
        self.secrets = Redactor() if secrets is None else secrets  # an empty one is false, and learns later
        self._echoes: dict[_Tee, Redactor] = {}  # each stream is shown in pieces of its own
        self._chunks: list[str] = []
        self._held = 0
        self._total = 0
        self._lost = 0
        self._last = monotonic()
        self.handler: Any = None  # what brings log records here
        self._lock = threading.RLock()  # a thread that the step started may print too

    def add(self, text: str) -> None:
        with self._lock:
            room = _LIMIT_CHARS - self._total
            self._total += len(text)
            if room <= 0:
                return
            if not self._chunks:
                _held.set()
            self._chunks.append(text[:room])
            self._held += len(text)
            if self._held >= _FLUSH_CHARS or monotonic() - self._last > _FLUSH_S:
                self.flush()

    def flush(self) -> None:
        with self._lock:
            if self._chunks:
                text, self._chunks, self._held, self._last = "".join(self._chunks), [], 0, monotonic()
                try:
                    self._write(text)
                except StoreUnavailableError:
                    self._lost += len(text)  # no failure of the step that prints; what it comes to is stored, or not

    def flush_now(self) -> None:
        """The step asks for it: what it has printed is not lost with its process."""
        with self._lock:
            if monotonic() - self._last > _ASKED_S:
                self.flush()

    def shown(self, tee: _Tee, text: str) -> str:
        """What of this text may go on to the real stream now: no secret, and no beginning of one."""
        if not self.secrets:
            return text
        with self._lock:
            if tee not in self._echoes:
                self._echoes[tee] = self.secrets.twin()
            return self._echoes[tee].feed(text)

    def close(self) -> None:
        with self._lock:
            for tee, redactor in self._echoes.items():
                tee.show(redactor.rest())
            if self._lost:
                self._chunks.append(f"\n[penstock: {self._lost} characters could not be stored]\n")
            if self._total > _LIMIT_CHARS:
                self._chunks.append(f"\n[penstock: {self._total - _LIMIT_CHARS} more characters were not kept]\n")
            self.flush()


_held = threading.Event()  # some sink of this process has text that nobody has seen yet
_LATE = threading.Lock()


def show_late_text() -> None:
    """From here on, what a step has printed is handed on within a second or two, also while it prints nothing more.

    For a process that runs steps and nothing else: sinks are written to from a thread of their own.
    """

    def look() -> None:
        while True:
            _held.wait()
            sleep(_FLUSH_S)
            _held.clear()
            with _LATE:
                for sink in tuple(_open):
                    sink.flush()

    # A child that a step forks in the middle of this would find a sink locked for ever.
    os.register_at_fork(before=_LATE.acquire, after_in_parent=_LATE.release, after_in_child=_LATE.release)
    threading.Thread(target=look, daemon=True, name="penstock-late-text").start()


_READER_LEFT = (errno.EPIPE, errno.EIO)  # of a pipe, of a terminal
_open: list[Sink] = []  # of the attempts that run in this process now
_SINK: ContextVar[Sink | None] = ContextVar("penstock_sink", default=None)


def _hidden(text: str) -> str:
    """Text of nobody's: it may come from a thread that a step started, so no running step's secret is shown."""
    for sink in tuple(_open):
        text = sink.secrets.text(text)
    return text


class _Tee(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr: to the step's sink, and on to the real stream if asked."""

    def __init__(self, real: TextIO, echo: bool) -> None:
        self._real = real
        self._echo = echo

    def write(self, text: str) -> int:
        sink = _SINK.get()
        if sink is not None:
            sink.add(text)
            if self._echo:
                self.show(sink.shown(self, text))
        else:
            self.show(_hidden(text))
        return len(text)

    def show(self, text: str) -> None:
        """On to the real stream. That its reader has left is no failure of the step that prints."""
        if not text:
            return
        try:
            self._real.write(text)
        except OSError as error:
            if error.errno not in _READER_LEFT:
                raise

    def flush(self) -> None:
        if (sink := _SINK.get()) is not None:
            sink.flush_now()
        if getattr(self._real, "closed", False):
            return
        try:
            self._real.flush()
        except OSError as error:
            if error.errno not in _READER_LEFT:
                raise

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


_TEED = threading.Lock()
_runs = 0  # runs of this process that are under way; the first puts the tees in place, the last takes them away
_real: tuple[Any, Any] = (None, None)


@contextmanager
def teed(*, echo: bool) -> Iterator[None]:
    """For the length of a run: prints made inside `into(sink)` are kept. Runs in other threads share the tees."""
    global _runs, _real
    with _TEED:
        _runs += 1
        if _runs == 1:
            _real = (sys.stdout, sys.stderr)
            sys.stdout, sys.stderr = _Tee(sys.stdout, echo), _Tee(sys.stderr, echo)
    try:
        yield
    finally:
        with _TEED:
            _runs -= 1
            if _runs == 0:
                sys.stdout, sys.stderr = _real
                _real = (None, None)


class into:
    """Keep what this thread or task prints and logs from here on. A class, because every step enters one."""

    __slots__ = ("_sink", "_token")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def __enter__(self) -> None:
        self._token = _SINK.set(self._sink)
        _open.append(self._sink)
        if "logging" in sys.modules:  # a program that never imported it logs nothing
            keep_logging(self._sink)

    def __exit__(self, *_: object) -> None:
        sink = self._sink
        if sink.handler is not None:
            sys.modules["logging"].getLogger().removeHandler(sink.handler)
        _SINK.reset(self._token)
        _open.remove(sink)
        sink.close()


def keep_logging(sink: Sink) -> None:
    """From here on, what is logged inside `into(sink)` goes to it."""
    if sink.handler is not None:
        return
    import logging

    class _ToSink(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if _SINK.get() is sink:
                sink.add(self.format(record) + "\n")

    sink.handler = _ToSink()
    sink.handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(sink.handler)
