"""Canonical bytes and digests: the same value gives the same bytes in another process and another minute."""

from __future__ import annotations

from typing import Any

import msgspec
from blake3 import blake3

_encoder = msgspec.json.Encoder(order="sorted")


def canonical_json(value: Any) -> bytes:
    """Compact UTF-8 JSON with sorted keys. `value` is plain JSON or msgspec Structs; see `core.jsonvalue` for more."""
    return _encoder.encode(value)


def digest_bytes(content: bytes | memoryview) -> str:
    """blake3 of the bytes, as 64 hex digits.

    >>> digest_bytes(b"")[:16]
    'af1349b9f5f9a1a6'
    """
    return blake3(content).hexdigest()


def digest_json(value: Any) -> str:
    """blake3 of the canonical JSON of `value`."""
    return blake3(_encoder.encode(value)).hexdigest()


def digest_file(path: str) -> tuple[str, int]:
    """blake3 and size in bytes of a file, memory-mapped rather than read into memory."""
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(path)
    with open(path, "rb") as file:
        return hasher.hexdigest(), file.seek(0, 2)
