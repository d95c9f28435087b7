"""Where attempts go that do not run in the engine's own process: worker processes here, or a cluster's machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from .tasks import StepOutcome, StepTask

Outcomes = Iterator[tuple[StepTask, StepOutcome]]


class Space(Protocol):
    """How much room there is, while some tasks are being placed."""

    def takes(self, task: StepTask) -> bool:
        """Whether there is room for this task; then it has it."""
        ...


class Pool(Protocol):
    """What the scheduler asks of a pool. What it registers with the scheduler's selector comes back by `readable`."""

    def room(self) -> Space: ...

    def give(self, tasks: list[StepTask]) -> None:
        """Start tasks that there is room for."""
        ...

    def even_out(self) -> None:
        """Nothing is waiting for room any more: what has not begun may change its place."""
        ...

    def readable(self, source: Any) -> Outcomes:
        """Take in what a source has to say; yields each task that ended, and its outcome."""
        ...

    def next_deadline(self) -> float | None:
        """Monotonic seconds of when `overdue` is to be asked next."""
        ...

    def overdue(self) -> Outcomes:
        """Stop what ran past its timeout or over its limit."""
        ...

    def stop(self, *, patience_s: float) -> Outcomes:
        """End everything; tasks that are still running get `patience_s` to react to an interrupt."""
        ...

    def kill_all(self) -> None:
        """Now. Called in a signal handler, a moment before this process ends."""
        ...

    def close(self) -> None:
        """End what is left, and give everything back."""
        ...
