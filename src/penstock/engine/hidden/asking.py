"""Whose read it was: the user's own code, a library for itself, penstock, or an import. Told by frames."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Literal

import msgspec

from ...core.location import shown_path

_PENSTOCK = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_BOUNDARY = os.path.join(_PENSTOCK, "engine", "execute.py")
_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

# Parts of the standard library that read for themselves. Others (pathlib, gzip, json, …) read for their caller.
_FOR_ITSELF = frozenset(
    {"ctypes", "email", "gettext", "inspect", "linecache", "locale", "logging", "mimetypes", "multiprocessing", "netrc"}
    | {"platform", "pydoc", "site", "ssl", "sysconfig", "tokenize", "traceback", "uuid", "warnings", "zoneinfo"}
)


class Asker(msgspec.Struct, frozen=True):
    """Who asked. `direct`: no library stands between the user's line and the read."""

    where: str  # file:line of the user's code; "" where no frame of it was found
    direct: bool
    packaged: bool = False  # an installed package stands between; else it may be the standard library


NOBODY = Asker("nobody", False)  # an import, or penstock, which records what it reads
UNKNOWN = Asker("", False)


_Kind = Literal["neutral", "user", "library", "package", "ours", "import", "boundary"]
_kinds: dict[str, _Kind] = {}


def _kind_of(file: str) -> _Kind:
    if file.startswith("<"):
        if file.startswith(("<frozen importlib", "<frozen zipimport")):
            return "import"
        return "user" if file.startswith(("<ipython", "<stdin")) else "neutral"
    if file.startswith(_PENSTOCK):
        return "boundary" if file == _BOUNDARY else "ours"
    if any(part in file for part in _INSTALLED):
        return "import" if "pkg_resources" in file or "importlib_metadata" in file else "package"
    if file.startswith(_STDLIB):
        first, _, rest = file[len(_STDLIB) :].removesuffix(".py").partition(os.sep)
        if first == "importlib" and rest.startswith("metadata"):
            return "import"  # it looks through sys.path, as an import does
        return "library" if first in _FOR_ITSELF else "neutral"
    return "user"


def kind_of(frame: FrameType) -> _Kind:
    file = frame.f_code.co_filename
    kind = _kinds.get(file)
    if kind is None:
        kind = _kinds[file] = _kind_of(file)
    return kind


def asker(frame: FrameType | None) -> Asker:
    """From this frame outwards, as far as the step's own call. Below an import, nothing counts: see docs/caching.md."""
    found: Asker | None = None
    direct, packaged = True, False
    while frame is not None:
        kind = kind_of(frame)
        if kind == "import" or (kind == "ours" and found is None):
            return NOBODY
        if kind == "boundary":
            break
        if found is None:
            if kind == "user":
                found = Asker(f"{shown_path(frame.f_code.co_filename)}:{frame.f_lineno}", direct, packaged)
            elif kind in ("library", "package"):
                direct, packaged = False, packaged or kind == "package"
        frame = frame.f_back
    return found or UNKNOWN


def is_user(frame: FrameType) -> bool:
    return kind_of(frame) == "user"


def stack_of(thread: int | None) -> FrameType | None:
    """Where another thread is now."""
    return None if thread is None else sys._current_frames().get(thread)
