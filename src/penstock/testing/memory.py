"""Blobs in memory: the artifact store of tests."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from ..core.canonical import digest_bytes, digest_file
from ..core.clock import Clock, SystemClock
from ..core.errors import ArtifactCorruptError, ArtifactMissingError


class Scratch:
    """A temporary folder that goes away with this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="penstock-testing-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class MemoryBlobs:
    """A BlobStore whose bytes are in this process. Codecs want files: copies come and go in a scratch folder.

    >>> MemoryBlobs().size("0" * 64) is None
    True
    """

    url = "memory:"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._blobs: dict[str, tuple[bytes, int]] = {}
        self._scratch = Scratch()
        self.cache = self._scratch.path / "cache"

    def put_file(self, path: Path) -> tuple[str, int]:
        content = path.read_bytes()
        path.unlink()
        digest = digest_bytes(content)
        self._blobs[digest] = (content, self._clock.now_us())
        return digest, len(content)

    def open_local(self, digest: str, size_bytes: int) -> Path:
        if digest not in self._blobs:
            raise ArtifactMissingError(f"blob {digest[:12]} is gone from memory")
        place = self._scratch.path / "objects" / digest
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(self._blobs[digest][0])
            place.chmod(0o444)
        if digest_file(str(place)) != (digest, size_bytes):
            raise ArtifactCorruptError(f"blob {digest[:12]} is not what was stored")
        return place

    def size(self, digest: str) -> int | None:
        return len(self._blobs[digest][0]) if digest in self._blobs else None

    def keep(self, digest: str, size_bytes: int) -> bool:
        if self.size(digest) != size_bytes:
            return False
        self._blobs[digest] = (self._blobs[digest][0], self._clock.now_us())
        return True

    def list(self) -> Iterator[tuple[str, int, float]]:
        now = self._clock.now_us()
        for digest, (content, stored) in sorted(self._blobs.items()):
            yield digest, len(content), (now - stored) / 1_000_000

    def delete(self, digest: str) -> None:
        self._blobs.pop(digest, None)

    def collect(self, digest: str, older_than_s: float) -> bool:
        content, stored = self._blobs.get(digest, (None, 0))
        if content is None or self.now_s() - stored / 1_000_000 < older_than_s:
            return False
        self.delete(digest)
        return True

    def now_s(self) -> float:
        return self._clock.now_us() / 1_000_000

    def staging(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="staging-", dir=self._scratch.path))

    def sweep(self, older_than_s: float) -> int:
        left = list(self._scratch.path.glob("staging-*"))
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        return len(left)
