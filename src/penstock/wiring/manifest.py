"""A manifest: a graph with the places it runs on, in one JSON file. What `exec-step` starts from. Holds no password."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from ..core.canonical import canonical_json, digest_bytes
from ..core.errors import NotFoundError, PenstockError, StoreUnavailableError, UsageError
from ..core.files import put_text
from ..graph import Graph
from .config import Settings

_USER = re.compile(r"^([A-Za-z][\w+.-]*://)([^/?#]*)@")  # up to the last @: a password may hold some
_SECRET = re.compile(r"pass|pwd|secret|token|signature|sig|credential|key|auth", re.IGNORECASE)


class Manifest(msgspec.Struct, frozen=True):
    """The graph, and the settings that bind it."""

    settings: Settings
    graph: Graph
    deployment: str = ""  # its name in an engine
    waived: tuple[str, ...] = ()  # what somebody accepted to do without there


def without_password(url: str) -> str:
    """A URL as it may be written down: the user stays, the password and every parameter that may be one goes.

    >>> without_password("postgresql://ml:p@ss@db/shop?sslmode=require&password=hunter2")
    'postgresql://ml@db/shop?sslmode=require'
    >>> without_password("postgresql://:hunter2@db/shop"), without_password("s3://ml/penstock")
    ('postgresql://db/shop', 's3://ml/penstock')
    """
    found = _USER.match(url)
    if found is not None:
        user = found[2].partition(":")[0]
        url = found[1] + (f"{user}@" if user else "") + url[found.end() :]
    address, mark, query = url.partition("?")
    kept = [each for each in query.split("&") if each and not _SECRET.search(each.partition("=")[0])]
    return address + (mark + "&".join(kept) if kept else "")


def manifest_text(settings: Settings, graph: Graph, deployment: str = "", waived: tuple[str, ...] = ()) -> str:
    """Readable; a password in a URL is left out and comes from PENSTOCK_RUNS or PGPASSWORD where it runs."""
    safe = without_passwords(settings)
    return msgspec.json.format(canonical_json(Manifest(safe, graph, deployment, waived)), indent=1).decode()


def write_manifest(settings: Settings, graph: Graph, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    put_text(path, manifest_text(settings, graph))
    return path


def without_passwords(settings: Settings) -> Settings:
    """The same, as far as it may be written down or sent somewhere."""
    return msgspec.structs.replace(
        settings,
        runs=without_password(settings.runs),
        artifacts=without_password(settings.artifacts),
        tracking=without_password(settings.tracking),
        endpoint=without_password(settings.endpoint),
    )


def with_passwords_of_here(settings: Settings) -> Settings:
    """The other way round: PENSTOCK_RUNS, _ARTIFACTS and _TRACKING, where they name the same place with a password."""
    here = {key: os.environ.get(f"PENSTOCK_{key.upper()}", "") for key in ("runs", "artifacts", "tracking")}
    same = {key: url for key, url in here.items() if url and without_password(url) == getattr(settings, key)}
    return msgspec.structs.replace(settings, **same)


def place_of(settings: Settings, text: str) -> str:
    """Where in the artifact store a manifest lies: under its digest."""
    return f"{without_password(settings.artifacts_url).rstrip('/')}/manifests/{digest_bytes(text.encode())}.json"


def publish_manifest(settings: Settings, text: str) -> str:
    """Put it where processes on other machines find it. Gives its URL."""
    import fsspec

    url = place_of(settings, text)
    try:
        with fsspec.open(url, "wb", auto_mkdir=True) as file:
            file.write(text.encode())
    except Exception as error:
        # Whatever a client of some object store raises: many of them have a root of their own for that.
        raise StoreUnavailableError(
            f"the manifest cannot be written to {url}: {error}",
            hint="check the setting `artifacts` and its credentials",
        ) from error
    return url


def _content(uri: str) -> bytes:
    if "://" not in uri or uri.startswith("file://"):
        return Path(uri.removeprefix("file://")).read_bytes()
    import fsspec

    try:
        with fsspec.open(uri, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StoreUnavailableError(
            f"the manifest at {uri} cannot be read: {error}",
            hint="can this process reach that store? In a container 127.0.0.1 is the container itself",
        ) from error


def read_manifest(uri: str, digest: str = "") -> Manifest:
    """Read one from a path or URL. PENSTOCK_RUNS, _ARTIFACTS, _TRACKING, _HOME, _ROOT: where else things are.

    `digest`: what its bytes must have. Raises UsageError where they have another one.
    """
    try:
        content = _content(uri)
        if digest and digest_bytes(content) != digest:
            raise UsageError(
                f"{uri} is not the manifest that was deployed: it was altered",
                hint="deploy the pipeline again: penstock deploy FILE.py --on …",
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except FileNotFoundError:
        raise NotFoundError(f"there is no manifest at {uri}", hint="`penstock deploy` puts it there") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PenstockError(f"{uri} is not a penstock manifest: {error}", hint="write it again") from error
    places = {
        key: value
        for key in ("runs", "artifacts", "tracking", "home", "root")
        if (value := os.environ.get(f"PENSTOCK_{key.upper()}")) is not None
    }
    return msgspec.structs.replace(manifest, settings=msgspec.structs.replace(manifest.settings, **places))
