"""Optional libraries, imported when they are needed and named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from ..core.errors import MissingExtraError


def need(module: str, *, extra: str, purpose: str) -> Any:
    """The module, or MissingExtraError saying what it is for and what to install.

    >>> need("pandsa", extra="pandas", purpose="reading orders.csv")
    Traceback (most recent call last):
    penstock.core.errors.MissingExtraError: reading orders.csv needs 'pandsa', which is not installed
      hint: pip install 'penstock[pandas]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # the library is there and broken, or misses a library of its own: that is its own story
        raise MissingExtraError(f"{purpose} needs '{top}', which is not installed", extra=extra) from None
