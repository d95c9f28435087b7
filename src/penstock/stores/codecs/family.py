"""Which library a value comes from, told without importing it; and that library, or the extra that brings it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...core.errors import MissingExtraError


def family(value: Any) -> str:
    """The top-level package of a value's class: "pandas", "numpy", "builtins"."""
    return type(value).__module__.partition(".")[0]


def library(name: str, *, extra: str, why: str) -> Any:
    """A library that an optional extra brings."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{why} needs {name}, which is not installed", extra=extra) from error
