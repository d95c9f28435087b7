"""Local files: finding them, and saying exactly which bytes were read.

A file's version is the digest of its bytes, so touching or copying it changes nothing and no clock can lie about it.
Hashing runs at the speed of the disk; `FileObserver` does it once per file state (size, times, inode) and remembers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from ..core.canonical import canonical_json, digest_bytes, digest_file, digest_json
from ..core.clock import Clock, SystemClock
from ..core.errors import SourceError, did_you_mean

T = TypeVar("T")

# A write within one tick of the file system's clock may leave size and times as they were: younger files are hashed
# once more.
_SETTLED_NS = 2_000_000_000
_Stat = tuple[int, int, int, int, int]


class GoneError(SourceError):
    """The other side answered, and what was named is not there. `read` shows it as a plain SourceError."""


def find_file(path: Path, shown: str) -> Path:
    """The file, readable; SourceError naming what is near when it is not there."""
    if path.is_file():
        if not os.access(path, os.R_OK):
            raise SourceError(f"'{shown}' may not be read by this user", hint=f"check its permissions: ls -l {shown}")
        return path
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.is_file())
        listed = ", ".join(inside[:5]) + (", …" if len(inside) > 5 else "")
        raise SourceError(
            f"'{shown}' is a folder", hint=f"name one file in it: {listed}" if inside else "it holds no files"
        )
    parent = path.parent
    if parent.is_dir():
        raise SourceError(f"there is no file '{shown}'", hint=_near(path, parent))
    while not parent.parent.is_dir():
        parent = parent.parent
    raise SourceError(
        f"there is no file '{shown}': the folder '{parent.name}' does not exist", hint=_near(parent, parent.parent)
    )


def _near(path: Path, folder: Path) -> str:
    names = [each.name for each in folder.iterdir() if not each.name.startswith(".")]
    if not names:
        return f"the folder {folder.resolve()} is empty"
    return f"{did_you_mean(path.name, names)} (looked in {folder.resolve()})"


def read_file(path: Path, shown: str, load: Callable[[Path], T]) -> tuple[T, str]:
    """What `load` makes of the file, and the version of exactly those bytes.

    Raises:  SourceError when the file changed while it was read.
    """
    before = _stat(path)
    version = version_of(path)
    value = load(path)
    settled = _settled(before, SystemClock())
    if _stat(path) != before or (not settled and version_of(path) != version):
        raise SourceError(
            f"'{shown}' changed while it was read",
            hint="run again when its writer is done; writers should write a new file and rename it",
        )
    return value, version


class FileObserver:
    """Looks at local files again; relative names resolve against the current directory, as in `read`.

    `memo` is a folder for remembered digests: with it, an unchanged file costs one `stat` in later processes too.
    """

    is_far = False

    def __init__(self, memo: Path | None = None, *, clock: Clock | None = None) -> None:
        self._memo = memo
        self._clock = clock or SystemClock()
        self._known: dict[str, tuple[_Stat, str]] = {}

    def version(self, name: str) -> str | None:
        path = Path(name).expanduser().absolute()
        try:
            found = _stat(path)
            known = self._recall(path)
            if known is not None and known[0] == found:
                return known[1]
            version = version_of(path)
            if _stat(path) == found and _settled(found, self._clock):
                self._remember(path, (found, version))
            return version
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise SourceError(
                f"'{name}' cannot be read: {error.strerror}", hint="check its permissions and its disk"
            ) from error

    def _recall(self, path: Path) -> tuple[_Stat, str] | None:
        if (known := self._known.get(str(path))) is not None or self._memo is None:
            return known
        try:
            return msgspec.json.decode(self._place(path).read_bytes(), type=tuple[_Stat, str])
        except (OSError, msgspec.DecodeError):
            return None  # not remembered, or half written: the file is hashed again

    def _remember(self, path: Path, state: tuple[_Stat, str]) -> None:
        self._known[str(path)] = state
        if self._memo is None:
            return
        place = self._place(path)
        draft = place.with_suffix(f".{os.getpid()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(canonical_json(state))
            draft.replace(place)
        except OSError:
            return  # a memo that cannot be kept costs time, never truth

    def _place(self, path: Path) -> Path:
        assert self._memo is not None
        return self._memo / f"{digest_bytes(os.fsencode(path))[:32]}.json"


_NOBODYS = (".penstock", "__pycache__", ".git")  # what programs keep for themselves: it changes with every run


class FolderObserver:
    """Looks at all files in a folder again, by name and content; folders in it count by what they hold."""

    is_far = False

    def __init__(self, files: FileObserver) -> None:
        self._files = files

    def version(self, name: str) -> str | None:
        root = Path(name).expanduser().absolute()
        if not root.is_dir():
            return None
        inside: list[Path] = []
        for folder, folders, names in os.walk(root):
            folders[:] = [each for each in folders if each not in _NOBODYS]
            inside += [Path(folder, each) for each in names]
        seen = [[path.relative_to(root).as_posix(), self._files.version(str(path))] for path in sorted(inside)]
        return f"blake3:{digest_json(seen)}"


def _stat(path: Path) -> _Stat:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _settled(state: _Stat, clock: Clock) -> bool:
    return clock.now_us() * 1000 - max(state[1], state[2]) > _SETTLED_NS


def version_of(path: Path) -> str:
    """The version of the bytes that the file has now."""
    return f"blake3:{digest_file(str(path))[0]}"
