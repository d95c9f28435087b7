"""A large file that the disk starts on while the rest of it is still being written.

Whoever flushes it (`stores.blobs`) then waits for the last pieces alone: for 80 MB a third of the time. Nothing is
durable before that flush, and where the system cannot be asked to start, the flush does all of it.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

AHEAD_BYTES = 8 * 1024 * 1024  # what is worth a call
_BUFFER_BYTES = 256 * 1024  # many small columns make few calls
_START = 2  # SYNC_FILE_RANGE_WRITE: start, and do not wait


def open_ahead(path: Path) -> BinaryIO:
    """A new file, for writing from front to back."""
    return cast(BinaryIO, io.BufferedWriter(_Ahead(path), _BUFFER_BYTES))


class _Ahead(io.FileIO):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")
        self._written = self._started = 0

    def write(self, content: Any, /) -> int:
        count = super().write(memoryview(content)[:AHEAD_BYTES]) or 0
        self._written += count
        if self._written - self._started >= AHEAD_BYTES:
            _start(self.fileno(), self._started, self._written - self._started)
            self._started = self._written
        return count


def _start(handle: int, at: int, count: int) -> None:
    # What it answers does not matter: a disk that fails tells whoever flushes, and this call takes no news away.
    if (call := _system_call()) is not None:
        call(handle, at, count, _START)


@functools.cache
def _system_call() -> Callable[[int, int, int, int], int] | None:
    """Linux's sync_file_range, which Python's `os` does not have."""
    if os.name != "posix":
        return None
    import ctypes  # numpy, which every Arrow table brings, has loaded it

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call
