"""Progress on a terminal: finished steps scroll by, one line each; what is running stays below them, and moves.

The area at the bottom is drawn by a thread a few times a second and wiped before anything else is written, so that
what steps print is never mangled. While a line of the user's is unfinished (a prompt, a debugger) nothing is drawn.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from time import monotonic, time
from typing import Any, TextIO

from ..graph import Graph
from ..ports.events import AttemptFailed, AttemptStarted, Event, RunView
from ..ports.records import RunRecord, StepRun
from .progress import Elements, Tally, begun, finished, how_far, mapped, summary_lines, waits, waits_to_begin
from .records import failure_shown
from .render import paint, shortened, shown_seconds, speaks_unicode
from .streams import lasting
from .summary import Summary, name_of

_TICK_S = 0.2
_BAR = 24


class LiveProgress(Tally):
    """The listener of `penstock run` on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = lasting(stream or sys.stderr)
        self._area = _Area(self._stream)
        self._running: dict[tuple[str, str], _Line] = {}
        self._stopping = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True, name="penstock-progress")
        self._kept: tuple[TextIO, TextIO] | None = None

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        super().begin(record, graph, before)
        self._area.say(begun(record, graph, before, self._stream))
        self._kept = sys.stdout, sys.stderr
        sys.stdout = self._area.above(sys.stdout)
        sys.stderr = self._area.above(sys.stderr)
        self._thread.start()

    def step_changed(self, run: StepRun, event: Event) -> None:
        key = (run.step, run.index)
        if isinstance(event, AttemptStarted):
            self._running[key] = _Line(name_of(*key), self.attempt_of(run), self.attempts_of(run.step))
        elif isinstance(event, AttemptFailed) and event.retry_at is not None and key in self._running:
            line = self._running[key]
            line.waits_until, line.failure = event.retry_at / 1e6, failure_shown(event.failure)
        else:
            self._running.pop(key, None)
            if run.state.done and (not self.is_mapped(run.step) or run.failure is not None):
                self._area.say(finished(run, event, self.attempt_of(run), self._stream))

    def map_finished(self, name: str, elements: Elements) -> None:
        self._area.say(mapped(name, elements, self.saved_by(name), self._stream))

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None:
        line = self._running.get((step, index))
        if line is not None:
            line.done, line.total, line.note = done, total, note

    def waiting(self, step: str, index: str, run_id: str, pool: str = "") -> None:
        self._area.say(waits(step, index, run_id, pool))

    def queued(self, pipeline: str, run_ids: Sequence[str]) -> None:
        self._area.say(waits_to_begin(pipeline, run_ids))

    def stopping(self, at_once: bool) -> None:
        if at_once:
            self._wipe_at_once()
            super().stopping(at_once)
        self._stopping = True  # drawn at the next tick: a signal handler must not take the area's lock

    def _wipe_at_once(self) -> None:
        try:
            os.write(self._stream.fileno(), b"\r\x1b[J")
        except OSError:  # the terminal is gone
            pass

    def finish(self, summary: Summary | None) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self.collapse_rest()
        self._area.close()
        if self._kept is not None:
            sys.stdout, sys.stderr = self._kept
        if summary is not None:
            for line in summary_lines(summary, self._stream):
                self._stream.write(line + "\n")

    def _tick(self) -> None:
        while not self._done.wait(_TICK_S):
            self._area.draw(self._lines())

    def _lines(self) -> list[str]:
        columns, rows = shutil.get_terminal_size()
        most = max(3, rows - 4)
        running = list(self._running.values())
        lines = [self._map_line(step, columns - 1) for step in self.open_maps()[:most]]
        lines += [line.text(columns - 1, self._stream) for line in running[:most]]
        if len(running) > most:
            lines.append(f"  … and {len(running) - most} more")
        if self._stopping:
            lines.append(paint("stopping cleanly; press Ctrl-C again to stop at once", "yellow", self._stream))
        return lines

    def _map_line(self, step: str, columns: int) -> str:
        elements = self.elements_of(step)
        words = ["▸" if speaks_unicode(self._stream) else ">", how_far(step, self)]
        words += [_bar(self.done_of(step), elements)] if elements else []
        return shortened(" ".join(words), columns)


def _bar(done: float, total: float) -> str:
    filled = min(_BAR, int(_BAR * done / total))
    return f"[{'#' * filled}{'.' * (_BAR - filled)}]"


class _Line:
    """A step that runs, or waits for its next attempt."""

    def __init__(self, name: str, attempt: int, attempts: int) -> None:
        self.name = name
        self.attempt = attempt
        self.attempts = attempts
        self.began = monotonic()
        self.waits_until: float | None = None
        self.failure = ""
        self.done = 0.0
        self.total: float | None = None
        self.note = ""

    def text(self, columns: int, stream: TextIO) -> str:
        if self.waits_until is not None:
            wait = shown_seconds(max(0.0, self.waits_until - time()))
            head = f"{self.name}: attempt {self.attempt} of {self.attempts} failed, next in {wait}"
            return shortened(f"! {head}; {self.failure}", columns)
        words = ["▸" if speaks_unicode(stream) else ">", self.name, shown_seconds(round(monotonic() - self.began, 1))]
        if self.attempt > 1:
            words.append(f"attempt {self.attempt} of {self.attempts}")
        if self.total:
            words.append(f"{_bar(self.done, self.total)} {self.done:g}/{self.total:g}")
        elif self.done:
            words.append(f"{self.done:g}")
        return shortened(" ".join([*words, self.note]), columns)


class _Area:
    """The lines at the bottom of the terminal that are drawn over and over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._drawn = 0
        self._open_line = False  # something unfinished stands on the cursor's line
        self._pid = os.getpid()

    def draw(self, lines: list[str]) -> None:
        with self._lock:
            if self._open_line or (not lines and not self._drawn):
                return
            up = f"\x1b[{self._drawn}A\r" if self._drawn else "\r"
            self._stream.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
            self._stream.flush()
            self._drawn = len(lines)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.write(self._stream, ("\n" if self._open_line else "") + text + "\n")

    def write(self, stream: TextIO, text: str) -> None:
        """What somebody else writes, above the area."""
        if not text:
            return
        if os.getpid() != self._pid:  # a forked child has no area, and its copy of the lock may be taken for ever
            stream.write(text)
            return
        with self._lock:
            self._wipe()
            stream.write(text)
            stream.flush()
            if stream.isatty():
                self._open_line = not text.endswith("\n")

    def above(self, stream: TextIO) -> TextIO:
        """The stream for others to write to; itself where it goes elsewhere."""
        return _Above(self, stream) if stream.isatty() else stream  # type: ignore[return-value]

    def close(self) -> None:
        with self._lock:
            self._wipe()
            if self._open_line:
                self._stream.write("\n")
            self._stream.flush()

    def _wipe(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\r\x1b[J")
            self._stream.flush()
            self._drawn = 0


class _Above(io.TextIOBase):
    """A terminal's stream whose text goes above the area."""

    def __init__(self, area: _Area, real: TextIO) -> None:
        self._area = area
        self._real = real

    def write(self, text: str) -> int:
        self._area.write(self._real, text)
        return len(text)

    def flush(self) -> None:
        self._real.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._real.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._real.encoding

    @property
    def buffer(self) -> Any:
        return getattr(self._real, "buffer", None)
