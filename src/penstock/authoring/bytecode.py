"""Compiled files that lie: Python trusts a `.pyc` by its source's size and *whole second*.

An edit of equal size in the second of the last compilation would run the old code, while the fingerprint sees the new
one. Modules of a project are therefore imported by a loader that looks closer, in every process of a run.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import cache_from_source
from types import CodeType
from typing import Any

from ..core.canonical import digest_bytes

_hooked: set[str] = set()
_imported: dict[str, tuple[int, int, str]] = {}  # file -> time, size and digest of its content when it was imported


def stale_bytecode(file: str) -> str | None:
    """The compiled file that Python would take for `file` although the source was written after it."""
    try:
        cached = cache_from_source(file)
        source, compiled = os.stat(file), os.stat(cached)
        if source.st_mtime_ns < compiled.st_mtime_ns:
            return None
        with open(cached, "rb") as opened:
            head = opened.read(16)
    except (OSError, NotImplementedError):
        return None
    flags, second, size = (int.from_bytes(head[at : at + 4], "little") for at in (4, 8, 12))
    trusted = second == int(source.st_mtime) & 0xFFFFFFFF and size == source.st_size & 0xFFFFFFFF
    return cached if flags == 0 and trusted else None


class CarefulLoader(SourceFileLoader):
    """Imports a source file; a compiled one is used only if it was written after the source."""

    def get_code(self, fullname: str) -> CodeType | None:
        _remember(self.path)
        if (stale := stale_bytecode(self.path)) is not None:
            try:
                os.unlink(stale)
            except OSError:  # a read-only folder: leave it there and compile
                return self.source_to_code(self.get_data(self.path), self.path)
        return super().get_code(fullname)


def look_closer(root: str) -> None:
    """Import modules below `root` by the careful loader from here on; virtual environments are left alone."""
    if root in _hooked:
        return
    _hooked.add(root)
    within = root + os.sep
    finder = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (CarefulLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )

    def hook(path: str) -> Any:
        real = os.path.realpath(path or ".") + os.sep
        if not real.startswith(within) or f"{os.sep}site-packages{os.sep}" in real:
            raise ImportError(path)
        return finder(path)

    sys.path_hooks.insert(0, hook)
    for path in list(sys.path_importer_cache):
        if (os.path.realpath(path or ".") + os.sep).startswith(within):
            del sys.path_importer_cache[path]
    stale = loaded_from_stale(root)
    for file in _files_of(root):
        if file not in _imported and file not in stale:
            _remember(file)  # as far as anybody can tell it is what was imported


def edited_since_import(root: str) -> list[str]:
    """Files of the project whose old code is in this process's memory."""
    return [file for file in _files_of(root) if file in _imported and _is_edited(file, *_imported[file])]


def _is_edited(file: str, time_ns: int, size: int, digest: str) -> bool:
    try:
        now = os.stat(file)
        if (now.st_mtime_ns, now.st_size) == (time_ns, size):
            return False
        with open(file, "rb") as opened:
            return digest_bytes(opened.read()) != digest
    except OSError:
        return False  # it is gone; the fingerprint will say so


def _remember(file: str) -> None:
    try:
        with open(file, "rb") as opened:
            found = os.stat(opened.fileno())
            _imported[file] = found.st_mtime_ns, found.st_size, digest_bytes(opened.read())
    except OSError:
        _imported.pop(file, None)


def _files_of(root: str, *, compiled: bool = False) -> list[str]:
    """Source files of the project that are imported; those of virtual environments are left alone."""
    within = root + os.sep
    modules = [m for m in sys.modules.copy().values() if not compiled or getattr(m, "__cached__", None)]
    files = dict.fromkeys(getattr(module, "__file__", None) for module in modules)
    return [
        file
        for file in files
        if file and file.startswith(within) and file.endswith(".py") and f"{os.sep}site-packages{os.sep}" not in file
    ]


def loaded_from_stale(root: str) -> list[str]:
    """Files of the project that were imported before anybody looked closer, and whose old code is in memory."""
    # A script's own module (`python file.py`) has no `__cached__`: it is always compiled from its source.
    # What was in the others that are remembered is known exactly.
    found = [file for file in _files_of(root, compiled=True) if file not in _imported]
    return [file for file in found if (stale := stale_bytecode(file)) is not None and _older(stale, file)]


def _older(compiled: str, source: str) -> bool:
    """Strictly: a file that is imported within the clock's tick in which it was written is not under suspicion."""
    return os.stat(compiled).st_mtime_ns < os.stat(source).st_mtime_ns
