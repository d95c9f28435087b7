"""What can be deleted: blobs that no kept run refers to and that are old enough not to belong to a run in progress.

A blob is written before its reference is recorded, so a young one may be about to be referred to; storing the same
bytes again makes a blob young again.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..ports.artifacts import BlobStore

DAY_S = 86_400


class GcPlan(msgspec.Struct, frozen=True):
    """What a collection would do. `bytes` is what it frees."""

    delete: tuple[tuple[str, int], ...]  # digest, size in bytes
    kept: int
    bytes: int
    min_age_s: float


def plan_gc(blobs: BlobStore, live: set[str], *, min_age_s: float = DAY_S) -> GcPlan:
    """Which blobs nothing refers to. `live` holds every digest a kept run's artifacts are made of."""
    delete: list[tuple[str, int]] = []
    kept = 0
    for digest, size_bytes, age_s in blobs.list():
        if digest in live or age_s < min_age_s:
            kept += 1
        else:
            delete.append((digest, size_bytes))
    return GcPlan(tuple(delete), kept, sum(size for _, size in delete), min_age_s)


def apply(plan: GcPlan, blobs: BlobStore, *, live: Callable[[], set[str]] | None = None) -> GcPlan:
    """Delete what is planned and still true: a blob stored again, or referred to since (`live`), stays.

    Removes abandoned staging folders too. Returns what was really deleted.
    """
    again = live() if live is not None else set()
    old_enough = {digest for digest, _, age_s in blobs.list() if age_s >= plan.min_age_s}
    done: list[tuple[str, int]] = []
    for digest, size_bytes in plan.delete:
        if digest in old_enough and digest not in again:
            blobs.delete(digest)
            done.append((digest, size_bytes))
    blobs.sweep(plan.min_age_s)
    return GcPlan(tuple(done), plan.kept + len(plan.delete) - len(done), sum(size for _, size in done), plan.min_age_s)
