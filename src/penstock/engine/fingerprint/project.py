"""Which file a module's name stands for in the user's project, and what is in that file.

A Project is a snapshot: a file is read when it is first needed and not again, so that every step of a run is
fingerprinted against the same source, whatever is edited meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ...core.canonical import digest_bytes, digest_file
from .facts import ModuleFacts
from .memo import Memo

_FOREIGN = ("site-packages", "dist-packages", ".venv", "venv", "__pycache__", "node_modules", ".git", ".tox", ".nox")
_EXTENSIONS = (".so", ".pyd")
_MATTERS = (".py", *_EXTENSIONS, "pyvenv.cfg")
_STDLIB = sys.stdlib_module_names


class SourceFile:
    """One file of the project: its place relative to the root, its bytes and, once somebody asks, their facts."""

    __slots__ = ("_analyse", "_facts", "_lines", "content", "digest", "folder", "path", "shown", "stamp")

    def __init__(
        self,
        path: str,
        shown: str,
        content: bytes,
        analyse: Callable[[str, bytes], ModuleFacts],
        stamp: tuple[int, int] = (0, 0),
    ) -> None:
        self.path = path
        self.stamp = stamp  # time and size when it was read
        self.shown = shown
        self.content = content
        self.digest = digest_bytes(content)
        self.folder = os.path.dirname(path)
        self._analyse = analyse
        self._facts: ModuleFacts | None = None
        self._lines: list[bytes] | None = None

    @property
    def facts(self) -> ModuleFacts:
        if self._facts is None:
            self._facts = self._analyse(self.digest, self.content)
        return self._facts

    def lines(self, first: int, last: int) -> str:
        """Lines as they are written, counted from 1, the last one included."""
        if self._lines is None:
            self._lines = self.content.replace(b"\r\n", b"\n").split(b"\n")
        return b"\n".join(self._lines[first - 1 : last]).decode("utf-8", "replace")


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_size


class Place(NamedTuple):
    """Where a module of the project is: a file, a folder of submodules, or both. `binary`: an extension module."""

    file: str | None
    folder: str | None
    binary: bool = False


_OURS = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))


class Project:
    """The files that are the user's own: below a root, and beside it where no environment keeps a version of them.

    Beside it lies what is installed in editable mode, or found through PYTHONPATH.
    """

    def __init__(self, root: str, memo: Memo) -> None:
        self.root = root
        self._memo = memo
        self._binaries: dict[str, str] = {}
        self._files: dict[str, SourceFile | None] = {}
        self._entries: dict[str, frozenset[str]] = {}
        self._packages: dict[str, str | None] = {}
        self._found: dict[tuple[str, str], Place | None] = {}
        entries = _own_path_entries()
        # penstock itself counts by its version, also where it runs from its own checkout
        self._beside = [entry for entry in entries if not _below(root, entry) and entry != _OURS]
        self._editable = _editable_modules()
        self._homes = [root, *self._beside, *map(os.path.dirname, self._editable.values())]
        self._inside = [entry for entry in entries if _below(root, entry)]
        self._general = list(dict.fromkeys([root, os.path.join(root, "src"), *self._inside]))

    def file(self, path: str) -> SourceFile | None:
        """The file at an absolute path; None where there is none."""
        if path not in self._files:
            try:
                with open(path, "rb", buffering=0) as file:
                    stamp = _stamp(os.fstat(file.fileno()))
                    content = file.read()
            except OSError:
                self._files[path] = None
            else:
                self._files[path] = SourceFile(path, self.shown(path), content, self._memo.facts, stamp)
        return self._files[path]

    def edited(self) -> dict[str, tuple[int, int]]:
        """Files that are other ones now than when they were read, by the path that people know -> time and size now."""
        found = {}
        for file in self.read():
            try:
                now = _stamp(os.stat(file.path))
                if now == file.stamp:
                    continue
                with open(file.path, "rb", buffering=0) as opened:
                    if digest_bytes(opened.read()) == file.digest:
                        file.stamp = now
                        continue
            except OSError:
                now = (0, 0)
            found[file.shown] = now
        return found

    def file_digest(self, path: str) -> str:
        """Digest of a source file or an extension module; "" where there is none."""
        if path.endswith(_EXTENSIONS):
            return self.binary_digest(path)
        file = self.file(path)
        return "" if file is None else file.digest

    def folder_digest(self, path: str) -> str:
        """Digest of the names in a folder that an import could find."""
        return digest_bytes("\n".join(sorted(self._listing(path))).encode("utf-8", "surrogateescape"))

    def looked_at(self) -> tuple[dict[str, str], dict[str, str]]:
        """Digests of all files and folders that were asked for so far."""
        files = {path: "" if file is None else file.digest for path, file in self._files.items()}
        return files | self._binaries, {path: self.folder_digest(path) for path in self._entries}

    def search_path(self) -> tuple[list[str], list[str], dict[str, str]]:
        """Where imports look besides the folders of files, as this process has it."""
        return self._general, self._beside, self._editable

    def read(self) -> list[SourceFile]:
        """Every file that was looked at so far."""
        return [file for file in self._files.values() if file is not None]

    def shown(self, path: str) -> str:
        """A path as people and part names have it: relative to where it belongs, or only its name."""
        home = self._home(path)
        return os.path.basename(path) if home is None else path[len(home) + 1 :].replace(os.sep, "/")

    def binary_digest(self, path: str) -> str:
        """Digest of an extension module's bytes; "" where there is none."""
        if path not in self._binaries:
            try:
                self._binaries[path] = digest_file(path)[0]
            except OSError:
                self._binaries[path] = ""
        return self._binaries[path]

    def owns(self, path: str) -> bool:
        """Whether a path is the user's own: below the root, or beside it, and in no environment."""
        return self._home(path) is not None

    def _home(self, path: str) -> str | None:
        return next((home for home in self._homes if _below(home, path)), None)

    def module(self, name: str, importer: SourceFile, entry: SourceFile) -> Place | None:
        """An absolute import, as it would be found from a file when the step in `entry` runs."""
        first, _, rest = name.partition(".")
        for folder in self._search_path(importer, entry):
            place = self.inside(folder, first)
            if place is not None:
                return self._descend(place, rest)
        place = self._found_beside(first)
        return None if place is None else self._descend(place, rest)

    def _found_beside(self, name: str) -> Place | None:
        if name in _STDLIB:
            return None
        if name in self._editable:
            folder, _, last = self._editable[name].rpartition(os.sep)
            return self.inside(folder, last.removesuffix(".py"))
        return next((place for folder in self._beside if (place := self.inside(folder, name)) is not None), None)

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

    def package_of(self, path: str) -> str | None:
        """The `__init__.py` of the package that a module, or a package's own `__init__.py`, lies in."""
        if path not in self._packages:
            folder = os.path.dirname(path)
            if os.path.basename(path) == "__init__.py":
                folder = os.path.dirname(folder)
            known = self.owns(folder) and "__init__.py" in self._listing(folder)
            self._packages[path] = os.path.join(folder, "__init__.py") if known else None
        return self._packages[path]

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
        return self._inside

    def _is_module_folder(self, path: str) -> bool:
        if os.path.basename(path) in _FOREIGN:
            return False
        return any(each.endswith(".py") or "." not in each for each in self._listing(path))

    def _listing(self, folder: str) -> frozenset[str]:
        entries = self._entries.get(folder)
        if entries is None:
            try:
                # What may be a module, or a folder of modules: no data file that a step writes beside the code.
                entries = frozenset(each for each in os.listdir(folder) if "." not in each or each.endswith(_MATTERS))
            except OSError:
                entries = frozenset()
            if "pyvenv.cfg" in entries:
                entries = frozenset()
            self._entries[folder] = entries
        return entries


def _below(home: str, path: str) -> bool:
    inside = path == home or path.startswith(home + os.sep)
    return inside and not any(part in _FOREIGN for part in path[len(home) :].split(os.sep))


def _own_path_entries() -> list[str]:
    """Folders that Python imports from and that are part of no environment."""
    environments = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__)}
    environments |= {os.path.realpath(each) for each in environments}
    found = []
    for entry in dict.fromkeys(map(os.path.abspath, filter(None, sys.path))):
        within = any(entry == each or entry.startswith(each + os.sep) for each in environments)
        if not within and not any(part in _FOREIGN for part in entry.split(os.sep)) and os.path.isdir(entry):
            found.append(entry)
    return found


def _editable_modules() -> dict[str, str]:
    """Top-level module -> its file or folder, of editable installs that work by a finder instead of a folder."""
    found: dict[str, str] = {}
    for name, module in sys.modules.copy().items():
        if name.startswith("__editable___"):
            mapping = getattr(module, "MAPPING", None)
            if isinstance(mapping, dict):
                found |= {str(key): os.path.abspath(str(path)) for key, path in mapping.items()}
    return found
