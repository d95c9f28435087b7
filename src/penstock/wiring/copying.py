"""Private copies of a project's present files: what the steps of an experiment write, delete or rename there is theirs.

Folders are made anew and files are copied, sharing blocks where the file system can; links that lead out of the project
are followed. Nothing is linked from where it is but what the user has named as only read, and more than a limit is
refused instead of copied.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ..core.errors import NotReproducibleError, UsageError
from ..core.units import shown_size
from .project import Project

LIMIT_BYTES = 2 * 2**30
_LEFT_OUT = frozenset(
    {".penstock", ".git", "__pycache__", ".venv", "venv", "node_modules", ".tox", ".nox"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache"}
)
_SETTINGS = ("penstock.toml", "pyproject.toml")  # an experiment is given its own
_MOST_NAMED = 4


class Terms(msgspec.Struct, frozen=True):
    """What need not be copied, and how much may be."""

    linked: tuple[str, ...] = ()  # paths that the steps only read: linked from where they are
    limit_bytes: int | None = None  # None: LIMIT_BYTES, or half of what is free on the disk


DEFAULT = Terms()


class Layout(msgspec.Struct, frozen=True):
    """Where the copy of a project lies, and the copy of the folder that a run was started in: the same way apart."""

    root: str
    folder: str
    outside: str = ""  # the folder that the run was started in, where it was none of the project's

    @staticmethod
    def of(root: str, folder: str, into: Path) -> Layout:
        real, start = os.path.realpath(root), os.path.realpath(os.path.join(root, folder))
        above = os.path.commonpath([real, start])
        lies, starts = (os.path.normpath(into / os.path.relpath(each, above)) for each in (real, start))
        return Layout(lies, starts, outside="" if above == real else start)

    def notes(self) -> tuple[str, ...]:
        if not self.outside:
            return ()
        return (
            f"it was started in {self.outside}, outside the project: its relative names are looked up in a folder that "
            "holds none of what is there; name what its steps read there with --link",
        )


def emptied(folder: Path) -> Path:
    """The folder, with nothing in it. What its links lead to is left alone."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise NotReproducibleError(
            f"{folder} cannot be emptied: it holds what may not be deleted", hint=f"delete it: {folder}"
        ) from error
    return folder


def add_present(project: Project, layout: Layout, terms: Terms, *, all_code: bool) -> tuple[str, ...]:
    """Copy into the layout what is not there yet; says what was left out. `all_code`: Python files and settings too;
    without it they come only in folders of which nothing was there.

    Raises: NotReproducibleError (over the limit, or the disk is full), UsageError (a linked path that is not there).
    """
    os.makedirs(layout.root, exist_ok=True)
    plan = _Plan(project, layout, terms)
    plan.fill(merging=not all_code)
    plan.check()
    left_out = plan.carry_out()
    os.makedirs(layout.folder, exist_ok=True)
    if not any(os.path.exists(os.path.join(layout.root, name)) for name in _SETTINGS):
        Path(layout.root, "penstock.toml").touch()  # marks the root
    if not left_out:
        return ()
    return (f"could not be read, and left out: {', '.join(sorted(left_out))}",)


class _Plan:
    """What would be copied and linked: all of it is known before the first file is written."""

    def __init__(self, project: Project, layout: Layout, terms: Terms) -> None:
        self._root = os.path.realpath(project.settings.root)
        self._layout = layout
        self._terms = terms
        self._wanted = {_canonical(path): path for path in terms.linked}
        self._stores = {os.path.realpath(path) for path in _stores(project)}
        self._folders: list[str] = []
        self._files: list[tuple[str, str, int]] = []
        self._links: list[tuple[str, str]] = []  # (what it says, where)
        self._unread: list[str] = []

    def fill(self, *, merging: bool) -> None:
        self._folder(self._root, self._layout.root, merging, False, ())
        outside = self._layout.outside
        for path, given in list(self._wanted.items()):
            if outside and path.startswith(os.path.join(outside, "")) and os.path.exists(path):
                self._links.append((path, os.path.join(self._layout.folder, os.path.relpath(path, outside))))
                del self._wanted[path]
            else:
                raise UsageError(
                    f"--link {given}: the experiment would copy no such file or folder of this project",
                    hint="name one that lies in the project and is not among the run's own code",
                )

    def _folder(self, source: str, place: str, merging: bool, linked: bool, above: tuple[str, ...]) -> None:
        real = os.path.realpath(source)
        if real in above:  # a link to a folder that it lies in
            return
        try:
            with os.scandir(source) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            self._unread.append(os.path.relpath(source, self._root))
            return
        for entry in entries:
            try:
                if not self._is_left_out(entry):
                    self._entry(entry, os.path.join(place, entry.name), merging, linked, (*above, real))
            except OSError:  # a link to itself, or to where this user may not look
                self._unread.append(os.path.relpath(entry.path, self._root))

    def _is_left_out(self, entry: os.DirEntry[str]) -> bool:
        if entry.name in _LEFT_OUT or os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
            return True
        return os.path.realpath(entry.path) in self._stores

    def _entry(self, entry: os.DirEntry[str], place: str, merging: bool, linked: bool, above: tuple[str, ...]) -> None:
        linked = self._wanted.pop(entry.path, None) is not None or linked
        is_folder = entry.is_dir()
        if os.path.lexists(place):  # recorded; that wins
            if is_folder and os.path.isdir(place) and not os.path.islink(place):
                self._folder(entry.path, place, merging, linked, above)
            return
        if merging and not is_folder and (entry.name.endswith(".py") or entry.name in _SETTINGS):
            return
        inner = self._inside(entry)
        if linked:
            self._links.append((entry.path, place))
        elif inner is not None:
            self._links.append((os.path.relpath(inner, os.path.dirname(place)), place))
        elif is_folder:
            self._folders.append(place)
            self._folder(entry.path, place, False, False, above)
        elif entry.is_file():
            self._files.append((entry.path, place, entry.stat().st_size))

    def _inside(self, entry: os.DirEntry[str]) -> str | None:
        """Where the copy has what this leads to, if it leads to the project from elsewhere."""
        real = os.path.realpath(entry.path)
        if real == self._root:
            return self._layout.root
        if entry.is_symlink() and real.startswith(os.path.join(self._root, "")):
            return os.path.join(self._layout.root, os.path.relpath(real, self._root))
        return None

    def check(self) -> None:
        total = sum(size for _, _, size in self._files)
        free = shutil.disk_usage(self._layout.root).free
        wanted = self._terms.limit_bytes
        limit = min(LIMIT_BYTES, free // 2) if wanted is None else min(wanted, free)
        if total <= limit:
            return
        biggest = self._biggest()
        named = ", ".join(f"{os.path.relpath(path)} ({shown_size(size)})" for path, size in biggest)
        raise NotReproducibleError(
            f"the steps need a private copy of the project's files: {shown_size(total)}, over the limit of "
            f"{shown_size(limit)} ({shown_size(free)} are free on the disk). The biggest: {named}",
            hint=f"what the steps only read need not be copied: --link {os.path.relpath(biggest[0][0])}; "
            "or let it copy more: --copy-limit SIZE",
        )

    def _biggest(self) -> list[tuple[str, int]]:
        """The folders and files that most of it lies in, as deep as nearly all of each lies in one."""
        sizes: defaultdict[str, int] = defaultdict(int)
        below: defaultdict[str, set[str]] = defaultdict(set)
        for path, _, size in self._files:
            sizes[path] += size
            while path != self._root:
                above = os.path.dirname(path)
                sizes[above] += size
                below[above].add(path)
                path = above
        found = []
        for path in sorted(below[self._root], key=lambda each: -sizes[each])[:_MOST_NAMED]:
            while below[path] and sizes[most := max(below[path], key=lambda each: sizes[each])] >= 0.9 * sizes[path]:
                path = most
            found.append((path, sizes[path]))
        return found

    def carry_out(self) -> list[str]:
        for folder in self._folders:
            os.makedirs(folder, exist_ok=True)
        for source, place, _ in self._files:
            try:
                _copy(source, place)
            except FileNotFoundError:
                continue  # somebody deleted it meanwhile
            except PermissionError:
                self._unread.append(os.path.relpath(source, self._root))
            except OSError as error:
                raise NotReproducibleError(
                    f"{source} cannot be copied for the experiment: {error.strerror}",
                    hint=f"make room on the disk; or, if the steps only read it: --link {os.path.relpath(source)}",
                ) from error
        for says, place in self._links:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.symlink(says, place)
        return self._unread


def _canonical(path: str) -> str:
    """As a walk from the project's real root comes to it: only a last link is not followed."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _stores(project: Project) -> Iterable[str]:
    """The project's own stores on this machine: no step's files, and often the largest of all."""
    yield str(project.home)
    for url in (project.settings.artifacts_url, project.settings.runs_url):
        path = url.removeprefix("file://").removeprefix("sqlite:///")
        if "://" not in path and path:
            yield os.path.join(project.settings.root, os.path.expanduser(path))


def _copy(source: str, place: str) -> None:
    """The file's bytes, time and mode. copy_file_range shares blocks on file systems that can (btrfs, XFS)."""
    try:
        with open(source, "rb") as old, open(place, "wb") as new:
            left = os.fstat(old.fileno()).st_size
            while left and (done := os.copy_file_range(old.fileno(), new.fileno(), left)):
                left -= done
    except (AttributeError, OSError):  # no such call here, or not between these two
        left = 1
    if left:
        shutil.copyfile(source, place)
    shutil.copystat(source, place)
