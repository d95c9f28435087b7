"""What can be deleted: blobs that no kept run refers to and that no run in progress can be about to refer to.

A blob is written before its reference is recorded, so its age protects it: at least a day, and at least since the
oldest run that is still running began (`grace_s`). Storing the same bytes again, and taking a hit on them, makes a blob
young again; `BlobStore.collect` looks at the age once more as it removes. What may go is asked for again before each
batch, so a collection can run beside pipelines, and can be broken off at any moment: the next one finds the rest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from ..ports.artifacts import BlobStore

DAY_S = 86_400
BATCH = 5_000  # between two looks at what is referred to; a look costs as much as a plan
_SKEW_S = 3_600  # the clock of a bucket, or of another host, may differ by less than this


class Copy(msgspec.Struct, frozen=True):
    """A copy under `BlobStore.cache`: a file or folder that can be made again while its original is there."""

    path: Path
    size_bytes: int


class GcPlan(msgspec.Struct, frozen=True):
    """What a collection would do, or has done. `bytes` is what it frees in the store; copies are counted apart."""

    delete: tuple[tuple[str, int], ...]  # digest, size in bytes
    kept: int
    bytes: int
    min_age_s: float
    copies: tuple[Copy, ...] = ()


def grace_s(running_since_us: Iterable[int], now_us: int) -> float:
    """The age in seconds under which nothing is deleted: a day, or all the time that a run has been running.

    >>> grace_s([], now_us=0), grace_s([0], now_us=3 * 86_400_000_000)
    (86400, 262800.0)
    """
    oldest = min(running_since_us, default=now_us)
    return max(DAY_S, (now_us - oldest) / 1_000_000 + _SKEW_S) if oldest < now_us else DAY_S


def plan_gc(blobs: BlobStore, live: set[str], *, min_age_s: float = DAY_S, unused_s: float | None = None) -> GcPlan:
    """Which blobs nothing refers to. `live` holds every digest a kept run's artifacts are made of.

    unused_s: copies in the cache that were not used for so long go as well; None leaves all of them.
    """
    delete: list[tuple[str, int]] = []
    kept = 0
    for digest, size_bytes, age_s in blobs.list():
        if digest in live or age_s < min_age_s:
            kept += 1
        else:
            delete.append((digest, size_bytes))
    copies = () if unused_s is None else tuple(_unused(blobs, live, min_age_s, max(unused_s, min_age_s)))
    return GcPlan(tuple(delete), kept, sum(size for _, size in delete), min_age_s, copies)


def apply(
    plan: GcPlan,
    blobs: BlobStore,
    *,
    live: Callable[[], set[str]] | None = None,
    told: Callable[[int, int], None] = lambda done, of: None,
    batch: int = BATCH,
) -> GcPlan:
    """Delete what is planned and still true: a blob stored or hit again, or referred to since (`live`), stays.

    Removes abandoned staging folders too. Returns what was really deleted. `told` hears of every batch.
    """
    done: list[tuple[str, int]] = []
    for start in range(0, len(plan.delete), batch):
        again = live() if live is not None else set()
        for digest, size_bytes in plan.delete[start : start + batch]:
            if digest not in again and blobs.collect(digest, plan.min_age_s):
                done.append((digest, size_bytes))
        told(min(start + batch, len(plan.delete)), len(plan.delete))
    for copy in plan.copies:
        _remove(copy.path)
    blobs.sweep(plan.min_age_s)
    kept = plan.kept + len(plan.delete) - len(done)
    return GcPlan(tuple(done), kept, sum(size for _, size in done), plan.min_age_s, plan.copies)


# -- copies ------------------------------------------------------------------------------------------------------------


def _unused(blobs: BlobStore, live: set[str], min_age_s: float, unused_s: float) -> Iterator[Copy]:
    """Copies whose original is not needed any more, and those that nobody has used for long."""
    now = blobs.now_s()
    for path, digest in _copies(blobs.cache):
        try:
            found = path.stat()
            idle = now - max(found.st_mtime, found.st_atime if not path.is_dir() else 0.0)
            if idle >= (min_age_s if digest not in live else unused_s):
                yield Copy(path, _size(path))
        except FileNotFoundError:  # removed by somebody else meanwhile
            continue


def _copies(cache: Path) -> Iterator[tuple[Path, str]]:
    """Every copy with the digest of what it is a copy of; one that a crash left half made has none."""
    for tree in sorted(_entries(cache / "trees")):
        yield tree, tree.name
    for shard in sorted(_entries(cache / "blobs")):
        for blob in sorted(_entries(shard)):
            yield blob, shard.name + blob.name


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
