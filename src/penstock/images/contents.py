"""Which files of a project go into its image. What looks like a secret is refused; what is large is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ..core.errors import ImageError
from ..core.units import shown_size
from .ignoring import Ignoring
from .secretfiles import secret_in

LARGE_BYTES = 50 * 2**20
_MOST_NAMED = 5
IGNORE_FILE = ".dockerignore"
# Never copied, at any depth, whatever `.dockerignore` says.
NEVER = (
    ".penstock", ".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "node_modules", ".tox", ".nox", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", ".idea", ".vscode", ".DS_Store",
)  # fmt: skip
_COMPILED = (".pyc", ".pyo")


class File(msgspec.Struct, frozen=True):
    """One file to copy: `path` is relative to the root, with `/`. `link`: what a symbolic link says."""

    path: str
    source: str
    size_bytes: int = 0
    executable: bool = False
    link: str | None = None


class Contents(msgspec.Struct, frozen=True):
    """What is copied, in order of its paths, and what must be said about it."""

    files: tuple[File, ...]
    asked_for: tuple[str, ...]  # by a `!line` of .dockerignore, though it looks like a secret
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def contents_of(root: str, apart: Iterable[str] = ()) -> Contents:
    """The files of the project at `root`. `apart`: stores and other places in it that are no part of the code.

    Raises: ImageError that lists every file that looks like a secret.
    """
    walk = _Walk(root, apart)
    files = tuple(sorted(walk.below(root), key=lambda file: file.path))
    suspect, asked_for = [], []
    for file in files:
        why = None if file.link is not None else secret_in(file.path, file.source)
        if why is None:
            continue
        if walk.ignoring.verdict(file.path) is False:
            asked_for.append(file.path)
        else:
            suspect.append((file.path, why))
    if suspect:
        raise _refusal(suspect)
    return Contents(files, tuple(asked_for), (*walk.notes(), *_large(files)))


def copy_contents(contents: Contents, into: Path) -> None:
    """Copy the files: readable by everybody, times as they are, for steps may know a file by its time and size."""
    into.mkdir(parents=True, exist_ok=True)
    for file in contents.files:
        target = into / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if file.link is not None:
                target.symlink_to(file.link)
                continue
            shutil.copyfile(file.source, target)
            shutil.copystat(file.source, target)
            target.chmod(0o755 if file.executable else 0o644)
        except OSError as error:
            raise ImageError(
                f"{file.path} cannot be copied for the image: {error.strerror}",
                hint=f"make it readable, or leave it out with a line in {IGNORE_FILE}",
            ) from error
    for folder, _, _ in os.walk(into):
        os.chmod(folder, 0o755)


class _Walk:
    def __init__(self, root: str, apart: Iterable[str]) -> None:
        self._root = root
        self._apart = {os.path.realpath(path) for path in apart}
        self._outside: list[str] = []
        self.ignoring = Ignoring(_lines(os.path.join(root, IGNORE_FILE)))

    def below(self, folder: str) -> Iterator[File]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise ImageError(
                f"{folder} cannot be read: {error.strerror}", hint=f"leave it out with a line in {IGNORE_FILE}"
            ) from error
        for entry in entries:
            path = os.path.relpath(entry.path, self._root).replace(os.sep, "/")
            if entry.name in NEVER or entry.name.endswith(_COMPILED):
                continue
            left_out = self.ignoring.verdict(path) is True
            if entry.is_symlink():
                link = None if left_out else self._link(entry, path)
                if link is not None:
                    yield link
            elif entry.is_dir():
                if self._is_apart(entry.path) or (left_out and not self.ignoring.has_exceptions()):
                    continue
                yield from self.below(entry.path)
            elif entry.is_file() and not left_out and os.path.realpath(entry.path) not in self._apart:
                known = entry.stat()
                yield File(path, entry.path, known.st_size, bool(known.st_mode & 0o100))

    def notes(self) -> list[str]:
        if not self._outside:
            return []
        named = ", ".join(self._outside[:_MOST_NAMED]) + (", …" if len(self._outside) > _MOST_NAMED else "")
        return [f"links that lead out of the project are left out: {named}"]

    def _is_apart(self, folder: str) -> bool:
        return os.path.exists(os.path.join(folder, "pyvenv.cfg")) or os.path.realpath(folder) in self._apart

    def _link(self, entry: os.DirEntry[str], path: str) -> File | None:
        """A link as a relative one; None where it leads out of the project."""
        real = os.path.realpath(entry.path)
        if not real.startswith(os.path.join(self._root, "")):
            self._outside.append(path)
            return None
        return File(path, entry.path, link=os.path.relpath(real, os.path.dirname(entry.path)))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path} cannot be read: {error}", hint="it is a text file, one pattern a line") from error


def _refusal(suspect: list[tuple[str, str]]) -> ImageError:
    shown = [f"  {path}: {why}" for path, why in suspect[:12]]
    more = [f"  and {len(suspect) - 12} more"] if len(suspect) > 12 else []
    what = "a file that looks like a secret" if len(suspect) == 1 else f"{len(suspect)} files that look like secrets"
    first = suspect[0][0]
    return ImageError(
        "\n".join([f"the image would hold {what}:", *shown, *more]),
        hint=f"leave it out with the line '{first}' in {IGNORE_FILE}, and give it to steps as Secret(\"NAME\"); "
        f"if it is no secret, the line '!{first}' says so",
    )


def _large(files: tuple[File, ...]) -> list[str]:
    large = sorted((file for file in files if file.size_bytes > LARGE_BYTES), key=lambda file: -file.size_bytes)
    if not large:
        return []
    named = ", ".join(f"{file.path} ({shown_size(file.size_bytes)})" for file in large[:_MOST_NAMED])
    more = f" and {len(large) - _MOST_NAMED} more" if len(large) > _MOST_NAMED else ""
    return [
        f"the image holds large files: {named}{more}; data is better read from where it is kept "
        f"(leave it out with a line in {IGNORE_FILE})"
    ]
