"""Who can look again at what a step saw of the outside."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Looks at one kind of outside thing ("file", "sql", "model")."""

    @property
    def is_far(self) -> bool:
        """Whether a look may take long, because a server or a database has to answer. Then it is taken in a thread,
        beside others."""
        ...

    def version(self, name: str) -> str | None:
        """Its version now; None where it is gone. Raises SourceError or RegistryError where it cannot be reached."""
        ...
