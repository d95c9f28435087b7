"""Facts kept by the digest of the file's bytes: in this process, and in a folder for the next one.

A kept analysis can always be lost: anything unreadable in the folder is the same as nothing there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from .facts import VERSION, ModuleFacts

T = TypeVar("T")
_MOST = 4000  # kept analyses; one per version of a file
_in_process: dict[str, ModuleFacts] = {}


class Memo:
    """A folder of small files, written whole or not at all. Without a folder, this process's memory only."""

    def __init__(self, folder: Path | None) -> None:
        # Another Python gives another tree, another penstock may read it otherwise.
        version = f"{sys.version_info[0]}.{sys.version_info[1]}-{VERSION}"
        self._folder = None if folder is None else os.path.join(folder, "code", version)
        self._swept = False

    def facts(self, digest: str, source: bytes) -> ModuleFacts:
        """The analysis of these bytes, parsed only if nobody did before."""
        found = _in_process.get(digest)
        if found is None:
            found = self.get(digest, ModuleFacts)
            if found is None:
                from .reading import analyse  # a warm run parses nothing and needs none of it

                found = analyse(source)
                self.put(digest, found)
            _in_process[digest] = found
        return found

    def get(self, name: str, kind: type[T]) -> T | None:
        if self._folder is None:
            return None
        try:
            with open(os.path.join(self._folder, name), "rb", buffering=0) as file:
                return msgspec.msgpack.decode(file.read(), type=kind)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def put(self, name: str, value: object) -> None:
        if self._folder is None:
            return
        path = os.path.join(self._folder, name)
        draft = f"{path}.{os.getpid()}"
        try:
            if not self._swept:
                os.makedirs(self._folder, exist_ok=True)
                self._sweep()
            with open(draft, "wb") as file:
                file.write(msgspec.msgpack.encode(value))
            os.replace(draft, path)
        except OSError:
            self._folder = None  # a full or read-only disk costs speed, nothing else

    def _sweep(self) -> None:
        """Keep the folder from growing for ever: over the limit, the older half goes."""
        self._swept = True
        assert self._folder is not None
        entries = [entry for entry in os.scandir(self._folder) if entry.is_file()]
        if len(entries) > _MOST:
            entries.sort(key=lambda entry: entry.stat().st_mtime)
            for entry in entries[: len(entries) // 2]:
                os.unlink(entry.path)
