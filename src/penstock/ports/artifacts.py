"""Stored values: what is known of one (`ArtifactRef`), and who keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec


class Blob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One content-addressed object. `path` is its place in the artifact's tree; "" when the artifact is one file."""

    path: str
    digest: str  # blake3, 64 hex digits
    size_bytes: int


class ArtifactRef(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Everything about a stored value but the value. Its digest is the data version.

    Small JSON lives in `inline` and has no blobs. `meta` holds a schema and a small preview for people:
    {"type": "DataFrame", "rows": 569, "columns": [["radius", "double"], …], "preview": [[…], …]}.
    """

    digest: str
    codec: str
    size_bytes: int = 0
    blobs: tuple[Blob, ...] = ()
    inline: str | None = None
    canonical: bool = True  # False: the same value may be stored under other bytes another time
    meta: dict[str, Any] = {}


class Artifacts(Protocol):
    """Values in, references out, and back. A reference that comes out is committed: its bytes are durable."""

    def save(self, value: Any, annotation: Any = Any) -> ArtifactRef:
        """Encode and commit. Raises CodecError where no codec can store the value exactly."""
        ...

    def load(self, ref: ArtifactRef, annotation: Any = Any) -> Any:
        """A private value equal to the one saved. Raises ArtifactMissingError, ArtifactCorruptError, CodecError."""
        ...

    def intact(self, ref: ArtifactRef) -> bool:
        """Whether every blob is there with its size (bytes are verified when they are read).

        From here on `gc` leaves them alone as if they had been stored just now."""
        ...

    def weed(self, ref: ArtifactRef) -> bool:
        """Digest every blob and remove those that are not what was stored, so that storing them again writes them.

        Returns whether any is gone, or was removed."""
        ...


class BlobStore(Protocol):
    """Bytes under their digest, on a local directory or an object store."""

    url: str
    cache: Path  # a local folder for copies; it may be emptied at any time

    def put_file(self, path: Path) -> tuple[str, int]:
        """Take over a local file: digest it, make it durable under its digest, remove the original. -> digest, size."""
        ...

    def open_local(self, digest: str, size_bytes: int) -> Path:
        """A verified, read-only local file with these bytes (fetched and kept if the store is remote)."""
        ...

    def size(self, digest: str) -> int | None:
        """Size in bytes, or None where there is no such blob."""
        ...

    def keep(self, digest: str, size_bytes: int) -> bool:
        """Whether there is such a blob of that size; its age starts again, where the store can do that."""
        ...

    def list(self) -> Iterator[tuple[str, int, float]]:
        """Every blob: digest, size in bytes, age in seconds."""
        ...

    def delete(self, digest: str) -> None:
        """Remove one blob; nothing happens if it is not there."""
        ...

    def collect(self, digest: str, older_than_s: float) -> bool:
        """Remove a blob if it is still that old; whether it was removed. One that is stored or kept meanwhile stays."""
        ...

    def now_s(self) -> float:
        """The time that ages are counted to, in seconds since the epoch."""
        ...

    def staging(self) -> Path:
        """A fresh local folder for half-written files; a crash leaves it for `gc`, never for a reader."""
        ...

    def sweep(self, older_than_s: float) -> int:
        """Remove staging folders that crashed writers left; says how many."""
        ...


class Codec(Protocol):
    """How values of a kind become one file or a folder of files."""

    name: str
    canonical: bool

    def accepts(self, value: Any, annotation: Any) -> bool:
        """Whether this codec stores this value exactly. Must not import a heavy library to say no."""
        ...

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        """Write a file at `to`, or make a folder there; returns the artifact's `meta`.

        Raises CodecError where this very value would not come back exactly; the next codec is asked then.
        """
        ...

    def decode(self, source: Path, annotation: Any) -> Any:
        """The value again: private and writable where the type allows it, memory-mapped where it does not matter."""
        ...
