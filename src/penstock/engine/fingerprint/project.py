"""Which file a module's name stands for in the user's project, and what is in that file.

A Project is a snapshot: a file is read when it is first needed and not again, so that every step of a run is
fingerprinted against the same source, whatever is edited meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from ...core.canonical import digest_bytes, digest_file
from .facts import Block, ModuleFacts
from .memo import Memo

_FOREIGN = ("site-packages", "dist-packages", ".venv", "venv", "__pycache__", "node_modules", ".git", ".tox", ".nox")
_EXTENSIONS = (".so", ".pyd")


class SourceFile:
    """One file of the project: its place relative to the root, its bytes and their facts."""

    __slots__ = ("_lines", "content", "facts", "folder", "path", "shown")

    def __init__(self, path: str, shown: str, content: bytes, facts: ModuleFacts) -> None:
        self.path = path
        self.shown = shown
        self.content = content
        self.facts = facts
        self.folder = os.path.dirname(path)
        self._lines: list[bytes] | None = None

    def text(self, block: Block) -> str:
        """The statement as it is written."""
        return self.lines(block.first_line, block.last_line)

    def lines(self, first: int, last: int) -> str:
        if self._lines is None:
            self._lines = self.content.replace(b"\r\n", b"\n").split(b"\n")
        return b"\n".join(self._lines[first - 1 : last]).decode("utf-8", "replace")


class Place(NamedTuple):
    """Where a module of the project is: a file, a folder of submodules, or both. `binary`: an extension module."""

    file: str | None
    folder: str | None
    binary: bool = False


class Project:
    """The files below a root that are the user's own."""

    def __init__(self, root: str, memo: Memo) -> None:
        self.root = root
        self._memo = memo
        self._files: dict[str, SourceFile | None] = {}
        self._entries: dict[str, frozenset[str]] = {}
        self._found: dict[tuple[str, str], Place | None] = {}
        self._general = [root, os.path.join(root, "src"), *self.path_entries()]

    def file(self, path: str) -> SourceFile | None:
        """The file at an absolute path; None where there is none."""
        if path not in self._files:
            try:
                with open(path, "rb", buffering=0) as file:
                    content = file.read()
            except OSError:
                self._files[path] = None
            else:
                digest = digest_bytes(content)
                facts = self._memo.facts(digest, content)
                self._files[path] = SourceFile(path, self.shown(path), content, facts)
        return self._files[path]

    def read(self) -> list[SourceFile]:
        """Every file that was looked at so far."""
        return [file for file in self._files.values() if file is not None]

    def shown(self, path: str) -> str:
        """A path as people and part names have it: relative to the root, or only its name when it is outside."""
        if not self.owns(path):
            return os.path.basename(path)
        return path[len(self.root) + 1 :].replace(os.sep, "/")

    def binary_digest(self, path: str) -> str:
        """Digest of an extension module's bytes."""
        return digest_file(path)[0]

    def owns(self, path: str) -> bool:
        """Whether a path is the user's own: below the root and in no environment."""
        inside = path == self.root or path.startswith(self.root + os.sep)
        return inside and not any(part in _FOREIGN for part in path[len(self.root) :].split(os.sep))

    def module(self, name: str, importer: SourceFile, entry: SourceFile) -> Place | None:
        """An absolute import, as it would be found from a file when the step in `entry` runs."""
        first, _, rest = name.partition(".")
        for folder in self._search_path(importer, entry):
            place = self.inside(folder, first)
            if place is not None:
                return self._descend(place, rest)
        return None

    def namespace(self, name: str, importer: SourceFile, entry: SourceFile) -> Place | None:
        """Like `module`, for a folder without `__init__.py`; Python considers these last."""
        first, _, rest = name.partition(".")
        for folder in self._search_path(importer, entry):
            if first in self._listing(folder) and self._is_module_folder(os.path.join(folder, first)):
                return self._descend(Place(None, os.path.join(folder, first)), rest)
        return None

    def relative(self, name: str, level: int, importer: SourceFile) -> Place | None:
        """`from ..name import …`, seen from a file."""
        folder = importer.folder
        for _ in range(level - 1):
            folder = os.path.dirname(folder)
        if not self.owns(folder):
            return None
        init = os.path.join(folder, "__init__.py")
        return self._descend(Place(init if "__init__.py" in self._listing(folder) else None, folder), name)

    def inside(self, folder: str, name: str) -> Place | None:
        """The module of that name in a folder: package, file or extension."""
        key = (folder, name)
        if key not in self._found:
            self._found[key] = self._find(folder, name)
        return self._found[key]

    def submodule(self, place: Place, name: str) -> Place | None:
        if place.folder is None:
            return None
        found = self.inside(place.folder, name)
        if found is None and name in self._listing(place.folder):
            path = os.path.join(place.folder, name)
            return Place(None, path) if self._is_module_folder(path) else None
        return found

    def _find(self, folder: str, name: str) -> Place | None:
        entries = self._listing(folder)
        if name in entries and name not in _FOREIGN:
            package = os.path.join(folder, name)
            if "__init__.py" in self._listing(package):
                return Place(os.path.join(package, "__init__.py"), package)
        if name + ".py" in entries:
            return Place(os.path.join(folder, name + ".py"), None)
        for entry in sorted(entries):
            if entry.startswith(name + ".") and entry.endswith(_EXTENSIONS):
                return Place(os.path.join(folder, entry), None, binary=True)
        return None

    def _descend(self, place: Place, names: str) -> Place | None:
        found: Place | None = place
        for name in filter(None, names.split(".")):
            found = None if found is None else self.submodule(found, name)
        return found

    def _search_path(self, importer: SourceFile, entry: SourceFile) -> Iterator[str]:
        # The folder of the file that is run is first on sys.path; a package's own folder is not on it at all.
        if "__init__.py" not in self._listing(entry.folder):
            yield entry.folder
        if importer.folder != entry.folder and "__init__.py" not in self._listing(importer.folder):
            yield importer.folder
        yield from self._general

    def path_entries(self) -> list[str]:
        """What of sys.path lies in the project."""
        return [entry for entry in dict.fromkeys(map(os.path.abspath, filter(None, sys.path))) if self.owns(entry)]

    def _is_module_folder(self, path: str) -> bool:
        if os.path.basename(path) in _FOREIGN or not os.path.isdir(path):
            return False
        return any(each.endswith(".py") or "." not in each for each in self._listing(path))

    def _listing(self, folder: str) -> frozenset[str]:
        entries = self._entries.get(folder)
        if entries is None:
            try:
                entries = frozenset(os.listdir(folder))
            except OSError:
                entries = frozenset()
            if "pyvenv.cfg" in entries:
                entries = frozenset()
            self._entries[folder] = entries
        return entries
