"""The one difference between errors that an observer needs: reached, but not there."""

from __future__ import annotations

from ..core.errors import SourceError


class GoneError(SourceError):
    """The other side answered, and what was named is not there. `read` shows it as a plain SourceError."""
