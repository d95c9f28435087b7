"""Blobs in a local directory: `objects/ab/cdef…`, read-only, each written beside its place and renamed into it.

`gc` takes a blob aside (`aside/<who>/<digest>`) before it decides. One that lies there because `gc` died in between is
still in the store: whoever misses it puts it back, and so does the next sweep. Putting back is never wrong: the worst
is that the next collection finds the blob again.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ...core.canonical import digest_file
from ...core.clock import Clock
from ...core.errors import ArtifactCorruptError, ArtifactMissingError, StoreUnavailableError

_LARGE_BYTES = 4 * 1024 * 1024  # below it a thread costs more than it saves
_YOUNG_S = 6 * 3600.0  # a blob younger than this is far from being collected: its age need not start again
Stamp = tuple[str, int, int, int]


class LocalBlobs:
    """A directory of blobs. Several processes may share it: a name is only ever given to complete bytes."""

    def __init__(self, root: Path, *, cache: Path, full: bool, clock: Clock) -> None:
        self.url = str(root)
        self.cache = cache
        self._objects = root / "objects"
        self._staging = root / "staging"
        self._asides = root / "aside"
        self._full = full
        self._clock = clock
        self._aside: Path | None = None  # where this process's `collect` puts a blob before it decides
        self._verified: set[Stamp] = set()  # what this process has digested and nobody has touched since

    def put_file(self, path: Path) -> tuple[str, int]:
        with self._writing():
            digest, size = _flushed_digest(path)
            place = self._place(digest)
            if self._keep_present(digest, size, place):
                path.unlink()
                return digest, size
            os.makedirs(place.parent, exist_ok=True)
            os.chmod(path, 0o444)
            os.rename(path, place)  # over an altered blob of the same name too: this heals it
            if self._full:
                flush_folder(place.parent)
                flush_folder(self._objects)
            self._verified.add(stamp(digest, place.stat()))
        return digest, size

    def open_local(self, digest: str, size_bytes: int) -> Path:
        place = self._place(digest)
        try:
            now = self._found(digest)
        except FileNotFoundError:
            raise missing(digest, str(place)) from None
        except OSError as error:
            raise self._unreadable(error) from error
        if stamp(digest, now) not in self._verified:
            check(digest, size_bytes, place, str(place))
            self._verified.add(stamp(digest, now))
        return place

    def size(self, digest: str) -> int | None:
        try:
            return self._found(digest).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error

    def keep(self, digest: str, size_bytes: int) -> bool:
        place = self._place(digest)
        try:
            found = self._found(digest)
            if found.st_size != size_bytes:
                return False
            if self.now_s() - found.st_mtime > _YOUNG_S:
                self._renew(digest, place, found)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._unreadable(error) from error
        return True

    def list(self) -> Iterator[tuple[str, int, float]]:
        now = self.now_s()
        if not self._objects.is_dir():
            return
        for shard in sorted(os.listdir(self._objects)):
            with os.scandir(self._objects / shard) as entries:
                found = sorted((entry.name, entry) for entry in entries)
            for name, entry in found:
                try:
                    about = entry.stat()
                except FileNotFoundError:  # collected by somebody else meanwhile
                    continue
                yield shard + name, about.st_size, now - about.st_mtime

    def delete(self, digest: str) -> None:
        self._place(digest).unlink(missing_ok=True)

    def collect(self, digest: str, older_than_s: float) -> bool:
        """`keep` touches and then relies on it; this takes the name away and then looks at the time. So whichever
        comes first, the other one sees it: a blob that was kept comes back, or `keep` has put it back or said no."""
        place = self._place(digest)
        try:
            if self.now_s() - place.stat().st_mtime < older_than_s:
                return False
            if self._aside is None:
                with self._writing():
                    self._aside = fresh_folder(self._asides)
            aside = self._aside / digest
            os.rename(place, aside)
            if self.now_s() - aside.stat().st_mtime >= older_than_s:
                aside.unlink()
                return True
        except FileNotFoundError:  # collected by somebody else, or put back
            return False
        self._put_back(aside)
        return False

    def now_s(self) -> float:
        return self._clock.now_us() / 1_000_000

    def staging(self) -> Path:
        with self._writing():
            return fresh_folder(self._staging)

    def sweep(self, older_than_s: float) -> int:
        self._aside = None  # its folder may go, too
        for folder in self._set_aside():
            with suppress(OSError):  # another user's, or its collector is at work in it
                old = self.now_s() - folder.stat().st_mtime > older_than_s
                for left in sorted(folder.iterdir()):
                    self._put_back(left)
                if old:
                    folder.rmdir()
        return sweep_folder(self._staging, older_than_s, self._clock)

    def _place(self, digest: str) -> Path:
        return self._objects / digest[:2] / digest[2:]

    def _found(self, digest: str) -> os.stat_result:
        """The blob's file, put back first where it lies aside. Raises FileNotFoundError."""
        place = self._place(digest)
        try:
            return place.stat()
        except FileNotFoundError:
            for folder in self._set_aside():
                with suppress(OSError):  # a store that may only be read
                    self._put_back(folder / digest)
            return place.stat()

    def _set_aside(self) -> Sequence[Path]:
        try:
            return sorted(self._asides.iterdir())
        except FileNotFoundError:
            return []

    def _put_back(self, aside: Path) -> None:
        """Give a blob its name again, and only then take the other one away. Its bytes are digested on reading."""
        place = self._place(aside.name)
        try:
            os.link(aside, place)
        except FileNotFoundError:  # its collector lives and has decided, or somebody else was faster
            return
        except FileExistsError:  # stored anew meanwhile
            pass
        except OSError:  # a file system without hard links
            os.rename(aside, place)
        aside.unlink(missing_ok=True)

    def _keep_present(self, digest: str, size: int, place: Path) -> bool:
        """Whether the same bytes are there already; then their age starts again, so that `gc` leaves them alone."""
        try:
            self.open_local(digest, size)
            os.utime(place)
        except (ArtifactMissingError, ArtifactCorruptError, PermissionError, FileNotFoundError):
            return False
        self._remember(digest, place)
        return True

    def _remember(self, digest: str, place: Path) -> None:
        try:
            self._verified.add(stamp(digest, place.stat()))
        except FileNotFoundError:  # `collect` is looking at it aside, sees that it is young, and puts it back
            pass

    def _renew(self, digest: str, place: Path, found: os.stat_result) -> None:
        """Let its age start again. Raises FileNotFoundError where it was collected just now."""
        try:
            os.utime(place)
        except PermissionError:  # a store that may only be read; whoever may write there collects by its own clock
            return
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return
        if stamp(digest, found) in self._verified:
            self._remember(digest, place)

    def _unreadable(self, error: OSError) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the artifact store at {self.url} cannot be read: {error}",
            hint="check that the folder is mounted and yours to read",
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailableError(
                f"the artifact store at {self.url} cannot be written: {error}",
                hint="check free space and permissions there, or set `artifacts` in the profile to another place",
            ) from error


def missing(digest: str, where: str) -> ArtifactMissingError:
    return ArtifactMissingError(
        f"blob {digest[:12]} is gone from {where}",
        hint="run the pipeline again: the step that made it runs once more and stores it",
    )


def check(digest: str, size_bytes: int, path: Path, where: str) -> None:
    """Digest the bytes of a file and compare. Raises ArtifactCorruptError."""
    found, size = digest_file(str(path))
    if found == digest and size == size_bytes:
        return
    was = f"it has {size} bytes instead of {size_bytes}" if size != size_bytes else f"its bytes digest to {found[:12]}"
    raise altered(digest, where, was)


def altered(digest: str, where: str, why: str) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        f"blob {digest[:12]} at {where} is not what was stored: {why}",
        hint="delete it and run the pipeline again: the step that made it runs once more",
    )


def stamp(digest: str, found: os.stat_result) -> Stamp:
    return digest, found.st_mtime_ns, found.st_size, found.st_ino


def _flushed_digest(path: Path) -> tuple[str, int]:
    """Digest and size of a file that is durable then. A large one is digested while the disk writes it."""
    if path.stat().st_size < _LARGE_BYTES:
        flush(path)
        return digest_file(str(path))
    failed: list[OSError] = []

    def write() -> None:
        try:
            flush(path)
        except OSError as error:
            failed.append(error)

    writing = threading.Thread(target=write, name="penstock-flush")
    writing.start()
    try:
        return digest_file(str(path))
    finally:
        writing.join()
        if failed:
            raise failed[0]


def flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(path: Path) -> None:
    if os.name == "posix":
        flush(path)


def fresh_folder(parent: Path) -> Path:
    os.makedirs(parent, exist_ok=True)
    while True:
        folder = parent / f"{os.getpid()}-{time.time_ns():x}-{os.urandom(3).hex()}"
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            continue
        return folder


def sweep_folder(parent: Path, older_than_s: float, clock: Clock) -> int:
    """Remove what crashed writers left in a staging folder; says how many."""
    import shutil

    removed = 0
    now = clock.now_us() / 1_000_000
    for left in sorted(parent.iterdir()) if parent.is_dir() else []:
        try:
            old = now - left.stat().st_mtime > older_than_s
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(left, ignore_errors=True)
            removed += 1
    return removed
