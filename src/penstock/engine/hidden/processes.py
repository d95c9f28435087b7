"""Children of `multiprocessing`: where it does not fork there is no event for their start, so `start` is wrapped."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

_watched: tuple[type, Callable[..., Any], Callable[..., Any]] | None = None  # BaseProcess, its start and ours


def watch_starts(on: bool, notice: Callable[[], None]) -> None:
    """Put a function that tells in the place of the one that starts a child, as soon as the module is loaded."""
    global _watched
    process: Any = getattr(sys.modules.get("multiprocessing.process"), "BaseProcess", None)
    if process is None:
        return
    if _watched is None or _watched[0] is not process:
        _watched = process, process.start, _telling(process.start, notice)
    _, plain, telling = _watched
    before, after = (plain, telling) if on else (telling, plain)
    if process.start is before:
        process.start = after


def _telling(start: Callable[..., Any], notice: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(start)
    def telling(self: Any) -> Any:
        notice()
        return start(self)

    return telling
