"""How an event lies in the store: its JSON, with digests as 32 raw bytes and its commonest phrases as one byte each.

Half the size, by what can never stand in JSON text: control characters mark phrases, 0xFF (never in UTF-8) marks a
digest. Text that holds neither is its own packed form, so JSON of any age can be read.
"""

from __future__ import annotations

import re
from binascii import unhexlify

# Never reorder and never change one: stores hold their numbers. New ones go to the end; there is room for 0x1F.
_PHRASES = (
    b'{"type":"attempt_started","at":',
    b'{"type":"step_succeeded","at":',
    b',"outputs":{"output":{"digest":',
    b',"codec":"json","size_bytes":',
    b',"parts":{"code":',
    b',"meta":{"type":"',
)
_MARKS = tuple((phrase, bytes([number])) for number, phrase in enumerate(_PHRASES, start=1))
_PHRASE_OF = {mark: phrase for phrase, mark in _MARKS}
_HEX = re.compile(rb'"([0-9a-f]{64})"')
_MARKED = re.compile(rb"\xff(.{32})|[\x01-\x1f]", re.DOTALL).sub


def packed_text(text: bytes) -> bytes:
    """JSON as it is stored.

    >>> packed_text(b'{"key":"' + b"ab" * 32 + b'"}') == b'{"key":' + bytes([255]) + bytes([171]) * 32 + b"}"
    True
    """
    for phrase, mark in _MARKS:
        text = text.replace(phrase, mark)
    parts = _HEX.split(text)  # what stands between digests, and each second one a digest
    if len(parts) == 1:
        return text
    parts[1::2] = [b"\xff" + unhexlify(digest) for digest in parts[1::2]]
    return b"".join(parts)


def unpacked_text(content: bytes) -> bytes:
    """JSON again."""
    return _MARKED(_spelled, content)


def _spelled(found: re.Match[bytes]) -> bytes:
    digest = found[1]
    if digest is None:
        return _PHRASE_OF[found[0]]
    return b'"' + digest.hex().encode() + b'"'
