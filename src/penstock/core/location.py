"""A place in the user's source, for errors that can be clicked."""

from __future__ import annotations

import os
import sys
from types import CodeType

import msgspec

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Location(msgspec.Struct, frozen=True, array_like=True):
    """`file:line`; the file is relative to the project where it lies inside it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def caller_location() -> Location | None:
    """The nearest frame outside penstock: the line of the user's file that is being executed."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_HERE) and not file.startswith("<frozen"):
            return Location(shown_path(file), frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def location_of(code: CodeType) -> Location:
    """Where a function was defined."""
    return Location(shown_path(code.co_filename), code.co_firstlineno)


def shown_path(file: str) -> str:
    """A path as people want to read it: relative to the working directory where it lies below it."""
    cwd = os.getcwd() + os.sep
    return file[len(cwd) :] if file.startswith(cwd) else file
