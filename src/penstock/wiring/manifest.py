"""A manifest: a graph with the places it runs on, in one JSON file. What `exec-step` starts from. Holds no password."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from ..core.canonical import canonical_json
from ..core.errors import NotFoundError, PenstockError
from ..graph import Graph
from .config import Settings

_PASSWORD = re.compile(r"(//[^:/@]+):[^@/]+@")


class Manifest(msgspec.Struct, frozen=True):
    """The graph, and the settings that bind it."""

    settings: Settings
    graph: Graph


def write_manifest(settings: Settings, graph: Graph, path: Path) -> Path:
    """Write it readable; a password in a URL is left out and comes from PENSTOCK_RUNS or PGPASSWORD where it runs."""
    safe = without_passwords(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.format(canonical_json(Manifest(safe, graph)), indent=1))
    os.replace(temporary, path)
    return path


def without_passwords(settings: Settings) -> Settings:
    """The same, as far as it may be written down or sent somewhere."""
    return msgspec.structs.replace(
        settings,
        runs=_PASSWORD.sub(r"\1@", settings.runs),
        artifacts=_PASSWORD.sub(r"\1@", settings.artifacts),
        tracking=_PASSWORD.sub(r"\1@", settings.tracking),
    )


def with_passwords_of_here(settings: Settings) -> Settings:
    """The other way round: PENSTOCK_RUNS, _ARTIFACTS and _TRACKING, where they name the same place with a password."""
    here = {key: os.environ.get(f"PENSTOCK_{key.upper()}", "") for key in ("runs", "artifacts", "tracking")}
    same = {key: url for key, url in here.items() if url and _PASSWORD.sub(r"\1@", url) == getattr(settings, key)}
    return msgspec.structs.replace(settings, **same)


def read_manifest(uri: str) -> Manifest:
    """Read one from a path or a file:// URL. PENSTOCK_RUNS, _ARTIFACTS, _TRACKING, _HOME: where else things are."""
    path = Path(uri.removeprefix("file://"))
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise NotFoundError(f"there is no manifest at {uri}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PenstockError(f"{uri} is not a penstock manifest: {error}", hint="write it again") from error
    places = {
        key: value
        for key in ("runs", "artifacts", "tracking", "home", "root")
        if (value := os.environ.get(f"PENSTOCK_{key.upper()}")) is not None
    }
    return Manifest(msgspec.structs.replace(manifest.settings, **places), manifest.graph)
