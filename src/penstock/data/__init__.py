"""data: the outside's rows on their way in. May know core, graph and ports, fsspec and the table libraries.

One reader for files, object stores and databases, which records the version of exactly what it read; observers that
look at those versions again; checks of tables at a step's boundary, with bad rows set aside and their reasons.
Heavy libraries are imported when they are used. Never writes to a source, never keeps or shows a password.
"""

from ..ports.boundary import BoundaryCheck
from .expectations import Expectations, ExpectationsCheck
from .reader import observers, read
from .schemas import PanderaCheck


def boundary_checks() -> list[BoundaryCheck]:
    """Every validation library that may stand at a boundary. An annotation may be more than one's."""
    return [PanderaCheck(), ExpectationsCheck()]


__all__ = ["Expectations", "boundary_checks", "observers", "read"]
