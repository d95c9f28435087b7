"""Models, their registry and their scores, in the field's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec


class ModelVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One registered version of a named model."""

    name: str
    version: str
    uri: str = ""  # "models:/churn/3"
    run_id: str = ""  # the penstock run that registered it
    digest: str = ""  # of the model artifact
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}


class ModelCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is recorded beside a model when it is registered."""

    run_id: str
    pipeline: str
    step: str
    digest: str
    parameters: dict[str, str] = {}
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    lineage: dict[str, str] = {}  # what led to it: "data": digest, "code": fingerprint, …


class ModelRegistry(Protocol):
    """Named models, their versions and aliases."""

    url: str

    def register(self, name: str, model: Any, card: ModelCard, *, key: str, example: Any = None) -> ModelVersion:
        """A new version, or the one that `key` registered before: looked up first, so that it happens once."""
        ...

    def find(self, name: str, which: str) -> ModelVersion | None:
        """By version number or alias; None where there is none."""
        ...

    def load(self, version: ModelVersion) -> Any: ...

    def set_alias(self, name: str, alias: str, version: str) -> None: ...

    def list(self, name: str) -> list[ModelVersion]: ...


class Scorer(Protocol):
    """Metrics of a model on labelled rows."""

    def score(self, model: Any, rows: Any, *, label: str, metrics: Sequence[str]) -> Mapping[str, float]: ...
