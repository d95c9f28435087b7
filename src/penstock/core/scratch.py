"""Room for very many small things that are seldom looked at again."""

from __future__ import annotations

import os
from typing import Any

_PIECE = 1 << 20  # bytes kept in memory before they go to the file
_HEAD = 4
_READ = 508  # bytes of a thing that are read with its length; most are shorter


class Scratch:
    """Bytes by place. What is more than a megabyte lies in an unnamed file of the temporary folder, which ends with
    this process; where there is no room for one, it stays in memory."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._start = 0  # the place where `_tail` begins
        self._limit = _PIECE
        self._file: Any = None

    def put(self, content: bytes) -> int:
        """Keep it. -> its place, 0 or more."""
        tail = self._tail
        place = self._start + len(tail)
        tail += len(content).to_bytes(_HEAD, "little")
        tail += content
        if len(tail) > self._limit:
            self._move()
        return place

    def get(self, place: int) -> bytes:
        """What was kept at a place that `put` gave."""
        at = place - self._start
        if at >= 0:
            size = int.from_bytes(self._tail[at : at + _HEAD], "little")
            return bytes(self._tail[at + _HEAD : at + _HEAD + size])
        piece = os.pread(self._file.fileno(), _HEAD + _READ, place)
        size = int.from_bytes(piece[:_HEAD], "little")
        if size > _READ:
            return os.pread(self._file.fileno(), size, place + _HEAD)
        return piece[_HEAD : _HEAD + size]

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def _move(self) -> None:
        try:
            if self._file is None:
                import tempfile  # milliseconds that few runs need to pay

                self._file = tempfile.TemporaryFile(prefix="penstock-", buffering=0)  # noqa: SIM115 - it lives as we do
            done = 0
            while done < len(self._tail):
                done += os.pwrite(self._file.fileno(), memoryview(self._tail)[done:], self._start + done)
        except OSError:
            self._limit *= 2  # try again when there is as much once more
            return
        self._start += len(self._tail)
        self._tail = bytearray()
