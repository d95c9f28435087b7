"""Paths as parts of a stored value: what exists on disk is never kept by its name alone."""

from __future__ import annotations

import os
from typing import Any

from ..core.errors import CodecError


def is_path(value: Any) -> bool:
    """Whether it is a Path of this machine (not a PurePath), told without importing pathlib."""
    kind = type(value)
    return kind.__name__ in ("PosixPath", "WindowsPath") and kind.__module__.partition(".")[0] == "pathlib"


def has_content(value: Any) -> bool:
    """Whether it is a Path to a file or a folder that is there."""
    return is_path(value) and (os.path.isfile(value) or os.path.isdir(value))


def no_content(value: Any) -> None:
    """Refuse such a Path where only text could be kept; for `core.jsonvalue` as `foreign`."""
    if has_content(value):
        raise CodecError(
            f"the path {value} inside the value would be kept by name only",
            hint="return the Path by itself, or in plain lists, tuples, dicts and dataclasses; "
            "return str(path) where only the name matters",
        )
