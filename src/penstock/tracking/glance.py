"""A quick look into the project's own MLflow file: where does an alias point, is a key registered?

Every run asks this before it takes a gate's result from the cache, and every server once a second; MLflow needs more
than a second of imports to say it. Only reads, only the local file; whatever is not as expected is left to MLflow.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

from ..ports.models import ModelVersion

_BY_ALIAS = "SELECT version FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND alias = ?"
_BY_KEY = """
    SELECT min(version) FROM model_version_tags JOIN model_versions USING (workspace, name, version)
    WHERE workspace = 'default' AND name = ? AND key = 'penstock.key' AND value = ?
    AND current_stage <> 'Deleted_Internal'
"""
_VERSION = """
    SELECT creation_time FROM model_versions
    WHERE workspace = 'default' AND name = ? AND version = ? AND current_stage <> 'Deleted_Internal'
"""
_TAGS = "SELECT key, value FROM model_version_tags WHERE workspace = 'default' AND name = ? AND version = ?"
_ALIASES = """
    SELECT alias FROM registered_model_aliases
    WHERE workspace = 'default' AND name = ? AND version = ? ORDER BY alias
"""


class UnreadableError(Exception):
    """The file is not what this version of penstock knows how to read; ask MLflow."""


class Glance:
    """Reads one MLflow database file. Where there is no file yet, there are no models."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def find(self, name: str, which: str) -> ModelVersion | None:
        """Raises UnreadableError."""
        return self._look(name, _BY_ALIAS if not which.isdigit() else None, which)

    def find_key(self, name: str, key: str) -> ModelVersion | None:
        """Raises UnreadableError."""
        return self._look(name, _BY_KEY, key)

    def _look(self, name: str, query: str | None, asked: str) -> ModelVersion | None:
        if not self._file.exists():
            return None
        address = f"file:{quote(self._file.as_posix())}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
                if query is None:
                    return _read(connection, name, int(asked))
                row = connection.execute(query, (name, asked)).fetchone()
                return _read(connection, name, row[0]) if row and row[0] is not None else None
        except sqlite3.Error as error:
            raise UnreadableError(str(error)) from error


def _read(connection: sqlite3.Connection, name: str, number: int) -> ModelVersion | None:
    made = connection.execute(_VERSION, (name, number)).fetchone()
    if made is None:
        return None
    tags = {str(key): str(value) for key, value in connection.execute(_TAGS, (name, number))}
    aliases = tuple(str(row[0]) for row in connection.execute(_ALIASES, (name, number)))
    return model_version(name, str(number), tags, aliases, int(made[0]))


def model_version(
    name: str, number: str, tags: dict[str, str], aliases: tuple[str, ...], created_ms: int
) -> ModelVersion:
    """A version as MLflow keeps it, in our words; what penstock knows of it is in its tags."""
    return ModelVersion(
        name=name,
        version=number,
        uri=f"models:/{name}/{number}",
        run_id=tags.get("penstock.run", ""),
        digest=tags.get("penstock.digest", ""),
        aliases=aliases,
        metrics=json.loads(tags.get("penstock.metrics", "{}")),
        tags=tags,
        key=tags.get("penstock.key", ""),
        created_at=created_ms * 1000,
    )
