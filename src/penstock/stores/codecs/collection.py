"""A dict, list, tuple or dataclass that holds tables, models or files: its shape as JSON, each part by its codec."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import jsonvalue
from ...core.canonical import digest_file, digest_json
from ...core.errors import CodecError
from ...ports.artifacts import Codec
from ..paths import has_content
from .numpy import read_scalar, write_scalar

_INDEX = "index.json"
_PART = "part"


class CollectionCodec:
    """A container whose parts other exact codecs store: `(X_train, X_test)`, `{"auc": numpy.float64(0.9)}`."""

    name = "collection"
    canonical = True

    def __init__(self, parts: Sequence[Codec]) -> None:
        self._parts = [codec for codec in parts if codec.name not in ("text", "bytes", "json")]
        self._files_apart = [codec for codec in self._parts if codec.name not in ("file", "folder")]
        self._by_name = {codec.name: codec for codec in self._parts}

    def accepts(self, value: Any, annotation: Any) -> bool:
        return jsonvalue.accepts(value)

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        to.mkdir()
        types: list[str] = []
        paths: list[str] = []

        def store(part: Any) -> tuple[str, Any] | None:
            if (scalar := write_scalar(part)) is not None:
                return scalar
            if has_content(part):
                name, place = self._store_path(part, to)
                paths.append(place)
                return _PART, [name, place]
            for codec in self._files_apart:
                if codec.accepts(part, Any):
                    types.append(codec.encode(part, to / str(len(types)))["type"])
                    return _PART, [codec.name, len(types) - 1]
            return None

        text = jsonvalue.dumps(value, foreign=store)
        (to / _INDEX).write_bytes(text.encode())
        meta = {"type": type(value).__qualname__, "parts": types[:20], "preview": text[:200]}
        return meta | {"paths": len(paths)} if paths else meta

    def _store_path(self, part: Path, to: Path) -> tuple[str, str]:
        """Its codec and its place, which is named by content: a set gives its elements in any order."""
        codec = self._by_name["file" if part.is_file() else "folder"]
        draft = to / "draft"
        codec.encode(part, draft)
        place = _tree(draft)
        if (to / place).exists():
            shutil.rmtree(draft)
        else:
            draft.rename(to / place)
        return codec.name, place

    def decode(self, source: Path, annotation: Any) -> Any:
        def restore(tag: str, content: Any) -> Any:
            if tag != _PART:
                return read_scalar(tag, content)
            if content[0] not in self._by_name:
                raise CodecError(
                    f"a stored collection has a part in the codec {content[0]!r}, which is unknown here",
                    hint="it was written by a newer penstock",
                )
            place = content[1] if content[0] in ("file", "folder") else str(int(content[1]))
            return self._by_name[content[0]].decode(_inside(source, place), Any)

        return jsonvalue.loads((source / _INDEX).read_bytes().decode(), annotation, restore=restore)


def _tree(folder: Path) -> str:
    found: list[list[str]] = []
    for inside, folders, files in os.walk(folder):
        for name in files:
            path = os.path.join(inside, name)
            found.append([os.path.relpath(path, folder), digest_file(path)[0]])
        if not folders and not files:
            found.append([os.path.relpath(inside, folder)])
    return digest_json(sorted(found))


def _inside(source: Path, place: str) -> Path:
    if not place.isalnum():
        raise CodecError(f"a stored collection has a part at {place!r}, which is no place inside it")
    return source / place
