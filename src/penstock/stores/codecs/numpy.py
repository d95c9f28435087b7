"""numpy arrays as .npy, never with pickle inside, and numpy scalars as tagged JSON."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from pathlib import Path
from typing import Any

from ...core.errors import CodecError
from .family import family, library

_SCALAR = "numpy"


class ArrayCodec:
    """An ndarray of any dtype but object, bit for bit; decoded private and writable."""

    name = "npy"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        if family(value) != "numpy":
            return False
        import numpy as np

        return type(value) is np.ndarray and not value.dtype.hasobject

    def encode(self, value: Any, to: Path) -> dict[str, Any]:
        import numpy as np

        with open(to, "wb") as file:
            try:
                np.save(file, without_padding(value), allow_pickle=False)
            except ValueError as error:
                raise CodecError(f"an array of {value.dtype} has no .npy form: {error}") from error
        meta = {"type": type(value).__name__, "dtype": str(value.dtype), "shape": list(value.shape)}
        return meta | {"preview": np.array2string(value.ravel()[:8] if value.ndim else value, threshold=8)}

    def decode(self, source: Path, annotation: Any) -> Any:
        np = library("numpy", extra="pandas", why="a stored array")
        with open(source, "rb") as file:
            return np.load(file, allow_pickle=False)


def write_scalar(value: Any) -> tuple[str, Any] | None:
    """A numpy scalar for `core.jsonvalue`: its dtype and its number, or its bytes where JSON has no such number.

    >>> import numpy
    >>> write_scalar(numpy.float64(0.5)), write_scalar(0.5)
    (('numpy', ['<f8', 0.5]), None)
    """
    if family(value) != "numpy":
        return None
    import numpy as np

    if not isinstance(value, np.generic) or value.dtype.hasobject or value.dtype.names or value.dtype.char in "gG":
        return None  # records go another way; the spare bytes of a long double hold anything
    kind = value.dtype.kind
    if kind in "iub" or (kind == "f" and np.isfinite(value)):
        return _SCALAR, [value.dtype.str, value.item()]
    return _SCALAR, [value.dtype.str, b2a_base64(value.tobytes(), newline=False).decode()]


def read_scalar(tag: str, content: Any) -> Any:
    """The numpy scalar that `write_scalar` was given."""
    if tag != _SCALAR:
        raise CodecError(f"stored JSON holds a {tag!r} that is unknown here", hint="it was written by a newer penstock")
    np = library("numpy", extra="pandas", why="a stored numpy number")
    kind, value = np.dtype(content[0]), content[1]
    if isinstance(value, str):
        return np.frombuffer(a2b_base64(value), kind)[0] if kind.itemsize else kind.type()
    return kind.type(value)


def without_padding(array: Any) -> Any:
    """The same records with zeros between their fields, where numpy leaves whatever memory held."""
    import numpy as np

    names = array.dtype.names
    if not names or array.dtype.itemsize == sum(array.dtype[name].itemsize for name in names):
        return array
    clean = np.zeros(array.shape, array.dtype)
    for name in names:
        clean[name] = without_padding(array[name])
    return clean
