"""Messages between the engine and its worker processes: four bytes of length, then msgpack."""

from __future__ import annotations

import socket
from typing import Any

import msgspec

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.decode


def frame(message: Any) -> bytes:
    """A message ready to send.

    >>> Inbox().feed(frame(["text", "hello"]))
    [['text', 'hello']]
    """
    body = _pack(message)
    return len(body).to_bytes(4, "big") + body


class Inbox:
    """Puts messages together again from whatever pieces arrive."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> list[Any]:
        self._held += piece
        messages = []
        while len(self._held) >= 4 and len(self._held) - 4 >= (size := int.from_bytes(self._held[:4], "big")):
            messages.append(_unpack(bytes(self._held[4 : 4 + size])))
            del self._held[: 4 + size]
        return messages


def receive(connection: socket.socket, inbox: Inbox) -> list[Any]:
    """Block until at least one whole message is there; an empty list when the other side is gone."""
    while True:
        piece = connection.recv(1 << 16)
        if not piece:
            return []
        if messages := inbox.feed(piece):
            return messages
