"""A registry that lives in this process: real, small, for tests that take milliseconds."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from ..core.clock import Clock, SystemClock
from ..ports.models import AliasMove, Column, ModelCard, ModelSignature, ModelVersion
from .moving import noted
from .reference import ModelReference, check_alias, check_name, version_not_found


class MemoryRegistry:
    """Models, versions and aliases in a dictionary. Models go in and come out as private copies."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.url = "memory:"
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._versions: dict[str, list[ModelVersion]] = {}
        self._models: dict[tuple[str, str], tuple[Any, ModelSignature | None]] = {}
        self._aliases: dict[tuple[str, str], str] = {}
        self._moves: dict[tuple[str, str], list[AliasMove]] = {}

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
        check_name(name)
        private = copy.deepcopy(model), _signature(example)
        if check is not None:
            check()
        with self._lock:
            versions = self._versions.setdefault(name, [])
            for known in versions:
                if known.key == key:
                    return self._with_aliases(known)
            number = str(len(versions) + 1)
            made = ModelVersion(
                name=name,
                version=number,
                uri=f"models:/{name}/{number}",
                run_id=card.run_id,
                digest=card.digest,
                metrics=dict(card.metrics),
                tags=dict(card.tags),
                key=key,
                created_at=self._clock.now_us(),
            )
            self._models[name, number] = private
            versions.append(made)
            return made

    def find(self, name: str, which: str) -> ModelVersion | None:
        with self._lock:
            number = which if which.isdigit() else self._aliases.get((name, which))
            for known in self._versions.get(name, ()):
                if known.version == number:
                    return self._with_aliases(known)
        return None

    def find_key(self, name: str, key: str) -> ModelVersion | None:
        return next((known for known in self.list(name) if known.key == key), None)

    def get(self, name: str, which: str) -> ModelVersion:
        if found := self.find(name, which):
            return found
        known = [text for each in self.list(name) for text in (each.version, *each.aliases)]
        raise version_not_found(ModelReference(name, which), names=list(self._versions), known=known)

    def load(self, version: ModelVersion) -> Any:
        return copy.deepcopy(self._models[self._key_of(version)][0])

    def signature(self, version: ModelVersion) -> ModelSignature | None:
        return self._models[self._key_of(version)][1]

    def set_alias(self, name: str, alias: str, version: str) -> None:
        check_alias(alias)
        self.get(name, version)
        with self._lock:
            self._aliases[name, alias] = version

    def moves(self, name: str, alias: str) -> list[AliasMove]:
        with self._lock:
            return [*self._moves.get((name, alias), ())]

    def note_move(self, name: str, alias: str, move: AliasMove) -> None:
        self.get(name, move.version)
        with self._lock:
            made = msgspec.structs.replace(move, at=move.at or self._clock.now_us())
            self._moves[name, alias] = noted(self._moves.get((name, alias), []), made)

    def list(self, name: str) -> list[ModelVersion]:
        with self._lock:
            return [self._with_aliases(each) for each in reversed(self._versions.get(name, []))]

    def _key_of(self, version: ModelVersion) -> tuple[str, str]:
        found = self.get(version.name, version.version)
        return found.name, found.version

    def _with_aliases(self, version: ModelVersion) -> ModelVersion:
        aliases = sorted(
            alias
            for (name, alias), number in self._aliases.items()
            if (name, number) == (version.name, version.version)
        )
        return msgspec.structs.replace(version, aliases=tuple(aliases))


_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


def _signature(example: Any) -> ModelSignature | None:
    """From rows as dictionaries, or from anything that can turn itself into them as a table does."""
    if example is None:
        return None
    rows = example if isinstance(example, list) else example.to_dict(orient="records")
    if not rows:
        return None
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows if not _missing(row[name])]
        kind = _TYPES.get(type(values[0]), "any") if values else "any"
        columns.append(Column(str(name), kind, optional=len(values) < len(rows)))
    return ModelSignature(tuple(columns), tuple(dict(row) for row in rows[:5]))


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
