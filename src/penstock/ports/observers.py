"""Who can look again at what a step saw of the outside."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Looks at one kind of outside thing ("file", "sql", "model")."""

    def version(self, name: str) -> str | None:
        """Its version now; None where it is gone. Raises SourceError or RegistryError where it cannot be reached."""
        ...
