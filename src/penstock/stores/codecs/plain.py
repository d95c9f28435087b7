"""Text, bytes and JSON values too large for the run log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...core import jsonvalue
from ...core.errors import CodecError
from ..paths import no_content
from .numpy import read_scalar, write_scalar

_SHOWN = 200


class TextCodec:
    """A str as UTF-8."""

    name = "text"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return type(value) is str

    def encode(self, value: str, to: Path) -> dict[str, Any]:
        try:
            to.write_bytes(value.encode())
        except UnicodeEncodeError as error:
            raise CodecError(f"the text holds a lone surrogate: {error}", hint="return bytes instead") from error
        return {"type": "str", "characters": len(value), "preview": value[:_SHOWN]}

    def decode(self, source: Path, annotation: Any) -> str:
        return source.read_bytes().decode()


class BytesCodec:
    """bytes or bytearray as they are."""

    name = "bytes"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return type(value) is bytes

    def encode(self, value: bytes, to: Path) -> dict[str, Any]:
        to.write_bytes(value)
        return {"type": "bytes", "preview": value[:32].hex()}

    def decode(self, source: Path, annotation: Any) -> bytes:
        return source.read_bytes()


class JsonCodec:
    """Exact JSON (`core.jsonvalue`) in a file; numpy scalars are tagged in it."""

    name = "json"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return jsonvalue.accepts(value) or write_scalar(value) is not None

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        text = jsonvalue.dumps(value, foreign=write_part)
        to.write_bytes(text.encode())
        return json_meta(value, text)

    def decode(self, source: Path, annotation: Any) -> Any:
        return jsonvalue.loads(source.read_bytes().decode(), annotation, restore=read_scalar)


def write_part(value: Any) -> tuple[str, Any] | None:
    """A numpy scalar; a Path to something that is there is refused, for JSON would keep its name only."""
    no_content(value)
    return write_scalar(value)


def json_meta(value: Any, text: str) -> dict[str, Any]:
    """What people see of a JSON value that is not shown whole."""
    meta: dict[str, Any] = {"type": type(value).__qualname__}
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        meta["items"] = len(value)
    return meta | {"preview": text[:_SHOWN]}
