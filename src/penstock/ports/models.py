"""Models, their registry and their scores, in the field's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    key: str = ""  # what it was registered under; "" where another tool registered it
    created_at: int = 0  # microseconds UTC


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


class AliasMove(msgspec.Struct, frozen=True, omit_defaults=True):
    """That an alias was pointed at a version by a step of a run."""

    version: str
    key: str  # of the effect: the same in every attempt of that step
    run_id: str = ""
    step: str = ""
    index: str = ""
    attempt: int = 1
    at: int = 0  # microseconds UTC


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column that a model reads. `type` is boolean, integer, long, float, double, string, datetime or any."""

    name: str
    type: str = "double"
    optional: bool = False  # whether null is a value the model has been fitted with


class ModelSignature(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model asks of a row, and a few rows that it accepts."""

    columns: tuple[Column, ...]
    example: tuple[dict[str, Any], ...] = ()


class ModelRegistry(Protocol):
    """Named models, their versions and aliases. Every method raises RegistryError where it cannot be reached."""

    url: str

    def register(
        self,
        name: str,
        model: Any,
        card: ModelCard,
        *,
        key: str,
        example: Any = None,
        check: Callable[[], None] | None = None,
    ) -> ModelVersion:
        """A new version, or the one that `key` registered before: looked up first, so that it happens once.

        `check` is asked at the last moment before the version is made; what it raises stops it.
        """
        ...

    def find(self, name: str, which: str) -> ModelVersion | None:
        """By version number or alias; None where there is none."""
        ...

    def find_key(self, name: str, key: str) -> ModelVersion | None:
        """The version that `key` registered, or None."""
        ...

    def get(self, name: str, which: str) -> ModelVersion:
        """As `find`. Raises NotFoundError naming what is near."""
        ...

    def load(self, version: ModelVersion) -> Any:
        """A private copy of the model."""
        ...

    def signature(self, version: ModelVersion) -> ModelSignature | None:
        """What the version's model asks of a row; None where it was registered without an example."""
        ...

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point the alias at the version. Raises NotFoundError where there is no such version."""
        ...

    def moves(self, name: str, alias: str) -> list[AliasMove]:
        """What steps have noted of the alias, newest first; the last few. Other tools move aliases without a note."""
        ...

    def note_move(self, name: str, alias: str, move: AliasMove) -> None:
        """Remember a move, above those that were noted before."""
        ...

    def list(self, name: str) -> list[ModelVersion]:
        """Newest first; empty where there is no such model."""
        ...


class Scorer(Protocol):
    """Metrics of a model on labelled rows."""

    def score(self, model: Any, rows: Any, *, label: str, metrics: Sequence[str]) -> Mapping[str, float]: ...
