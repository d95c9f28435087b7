"""Who watches a run while it goes: the command line's progress, a JSON stream, a notebook."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from ..graph import Graph
from ..ports.events import Change, RunView
from ..ports.records import RunRecord


class Listener(Protocol):
    """Told about a run as it happens; must not raise and must be quick."""

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        """`before`: where the run stands already; what a resume finds finished is in no event."""
        ...

    def event(self, change: Change) -> None: ...

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None: ...

    def waiting(self, step: str, index: str, run_id: str, pool: str = "") -> None:
        """Another run computes what this instance needs; it waits for that result. Or, with `pool`: that run has the
        place that it needs, as do all elements of the step."""
        ...

    def queued(self, pipeline: str, run_ids: Sequence[str]) -> None:
        """A run, not begun yet, waits for one of these to end: so many of this pipeline may be active."""
        ...

    def text(self, step: str, index: str, text: str) -> None:
        """What a step printed, in chunks, where it has not been shown already."""
        ...

    def stopping(self, at_once: bool) -> None:
        """Somebody asked the run to end. Called inside a signal handler: no lock, no buffered stream."""
        ...


class Silent:
    """Nobody; but what a step prints in a process of its own is still shown, where `echo` asks for it."""

    def __init__(self, echo: bool = False) -> None:
        self._echo = echo

    def begin(self, record: RunRecord, graph: Graph, before: RunView) -> None:
        return

    def event(self, change: Change) -> None:
        return

    def progress(self, step: str, index: str, done: float, total: float | None, note: str) -> None:
        return

    def waiting(self, step: str, index: str, run_id: str, pool: str = "") -> None:
        return

    def queued(self, pipeline: str, run_ids: Sequence[str]) -> None:
        return

    def text(self, step: str, index: str, text: str) -> None:
        if self._echo:
            sys.stdout.write(text)

    def stopping(self, at_once: bool) -> None:
        return
