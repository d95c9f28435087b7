"""A dict, list, tuple or dataclass that holds tables, arrays or models: its shape as JSON, each part by its codec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import jsonvalue
from ...core.errors import CodecError
from ...ports.artifacts import Codec
from .numpy import read_scalar, write_scalar

_INDEX = "index.json"
_PART = "part"


class CollectionCodec:
    """A container whose parts other exact codecs store: `(X_train, X_test)`, `{"auc": numpy.float64(0.9)}`."""

    name = "collection"
    canonical = True

    def __init__(self, parts: Sequence[Codec]) -> None:
        self._parts = [codec for codec in parts if codec.name not in ("text", "bytes", "json", "file", "folder")]
        self._by_name = {codec.name: codec for codec in self._parts}

    def accepts(self, value: Any, annotation: Any) -> bool:
        return jsonvalue.accepts(value)

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        to.mkdir()
        types: list[str] = []

        def store(part: Any) -> tuple[str, Any] | None:
            if (scalar := write_scalar(part)) is not None:
                return scalar
            for codec in self._parts:
                if codec.accepts(part, Any):
                    types.append(codec.encode(part, to / str(len(types)))["type"])
                    return _PART, [codec.name, len(types) - 1]
            return None

        text = jsonvalue.dumps(value, foreign=store)
        (to / _INDEX).write_bytes(text.encode())
        return {"type": type(value).__qualname__, "parts": types[:20], "preview": text[:200]}

    def decode(self, source: Path, annotation: Any) -> Any:
        def restore(tag: str, content: Any) -> Any:
            if tag != _PART:
                return read_scalar(tag, content)
            if content[0] not in self._by_name:
                raise CodecError(
                    f"a stored collection has a part in the codec {content[0]!r}, which is unknown here",
                    hint="it was written by a newer penstock",
                )
            return self._by_name[content[0]].decode(source / str(int(content[1])), Any)

        return jsonvalue.loads((source / _INDEX).read_bytes().decode(), annotation, restore=restore)
