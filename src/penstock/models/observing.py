"""Look again at what a step saw of a registry, before its result is taken from the cache."""

from __future__ import annotations

from ..ports.models import ModelRegistry
from ..ports.observers import Observer
from .reference import NO_VERSION, parse_model_reference


class AliasObserver:
    """ "churn@champion" -> the version it points at now, or "none"."""

    is_far = True

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def version(self, name: str) -> str | None:
        found = self._registry.find(*parse_model_reference(name))
        return found.version if found else NO_VERSION


class VersionObserver:
    """ "churn/3" -> "exists:" and the key it was registered under; None where it is gone."""

    is_far = True

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def version(self, name: str) -> str | None:
        found = self._registry.find(*parse_model_reference(name))
        return f"exists:{found.key}" if found else None


def observers(registry: ModelRegistry) -> dict[str, Observer]:
    """By the kinds that the ready-made steps observe."""
    return {"model": AliasObserver(registry), "model-version": VersionObserver(registry)}
