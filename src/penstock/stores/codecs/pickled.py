"""cloudpickle, the last resort: anything goes in, code runs when it comes out, and the bytes are not canonical."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from ...core import jsonvalue
from ...core.errors import ArtifactError, CodecError
from ..paths import has_content


class _NamedPath(Exception):
    """Internal: a path that a pickle would keep by name."""


class PickleCodec:
    """Values no exact codec stores. Marked unsafe: loading one runs code, so load only from a store you trust."""

    name = "cloudpickle"
    canonical = False

    def accepts(self, value: Any, annotation: Any) -> bool:
        return True

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        kind = type(value)
        shown = f"{kind.__module__}.{kind.__qualname__}"
        try:
            with open(to, "wb") as file:
                _pickler(value)(file, protocol=5).dump(value)
        except _NamedPath as found:
            raise ArtifactError(
                f"the path {found} inside a {shown} would be kept by name only: what else is in there needs a pickle",
                hint="return the Path as an output of its own; return str(path) where only the name matters",
            ) from None
        except Exception as error:  # a value's own __reduce__ is foreign code and may raise anything
            raise CodecError(
                f"a {shown} cannot be stored: {error}",
                hint="return plain values, tables, arrays, models or a Path; connections, locks, generators and open "
                "files belong inside the step that uses them",
            ) from error
        return {"type": kind.__qualname__, "class": shown, "unsafe": True, "python": platform.python_version()}

    def decode(self, source: Path, annotation: Any) -> Any:
        import cloudpickle

        try:
            with open(source, "rb") as file:
                return cloudpickle.load(file)
        except Exception as error:  # what a pickle runs is foreign code and may raise anything
            raise CodecError(
                f"a pickled value cannot be read here: {type(error).__name__}: {error}",
                hint="it needs the code and the library versions it was stored with; or run the step again "
                "with --no-cache",
            ) from error


def _pickler(value: Any) -> Any:
    """cloudpickle's, which for a plain container refuses a Path to something that is there.

    An object of a class of the user's own may hold such a Path: it says itself what it is.
    """
    import cloudpickle

    if not jsonvalue.accepts(value):
        return cloudpickle.Pickler

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc,name-defined,unused-ignore]
        def reducer_override(self, part: Any) -> Any:
            if has_content(part):
                raise _NamedPath(part)
            return super().reducer_override(part)

    return Pickler
