"""Checks of values where they enter and leave a step, chosen by annotation."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..graph import Quarantine


class Checked(NamedTuple):
    """A value that passed: the rows that did, and the rows that did not with their reasons (or None)."""

    value: Any
    quarantined: Any | None = None
    rows: int = 0
    bad_rows: int = 0
    summary: str = ""


class BoundaryCheck(Protocol):
    """A validation library at the boundary."""

    def handles(self, annotation: Any) -> bool:
        """Whether the annotation is this library's. Must not import the library to say no."""
        ...

    def check(self, value: Any, annotation: Any, *, where: str, policy: Quarantine | None) -> Checked:
        """The checked (and coerced) value. Without a policy any bad row raises; with one, bad rows are set aside until
        there are too many. Raises InvalidDataError naming `where`, the columns, the checks and sample values."""
        ...
