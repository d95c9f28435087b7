"""blobs: bytes under their digest, on a local directory or any fsspec URL. May know ports and core.

A blob appears under its name only when it is complete and durable, is never changed afterwards, and is digested when
it is read. A local directory is plain os calls; fsspec is imported only for other URLs. Never decides what is still
needed (`stores.gc`) and never looks inside (`stores.codecs`).
"""

from __future__ import annotations

from pathlib import Path

from ...core.clock import Clock, SystemClock
from ...ports.artifacts import BlobStore
from .local import LocalBlobs

__all__ = ["LocalBlobs", "open_blobs"]


def open_blobs(url: str, *, home: Path, durability: str = "normal", clock: Clock | None = None) -> BlobStore:
    """The blob store at a path or URL; nothing is touched or reached before it is used.

    `home` holds what is local to this machine: half-written files and the cache of a remote store.
    `durability="full"` also flushes folders, so that a new name survives a power cut and not only a crash.
    """
    clock = clock or SystemClock()
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        root = Path(rest if separator else url).expanduser().absolute()
        return LocalBlobs(root, cache=home / "cache", full=durability == "full", clock=clock)
    from .remote import RemoteBlobs

    return RemoteBlobs(url, home=home, clock=clock)
