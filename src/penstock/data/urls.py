"""Files behind a URL (s3, gs, https, memory, whatever fsspec knows), fetched to a private copy and read as local ones.

A URL's version is what its server vouches for the bytes with: a strong etag, a version id or a generation. Where there
is none it is the digest of the bytes, and looking again means fetching again.
"""

from __future__ import annotations

import contextlib
import posixpath
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..core.errors import MissingExtraError, SourceError, SourceUnavailableError, did_you_mean
from .extras import need
from .files import GoneError, version_of
from .redaction import MASK, has_secret, redacted, scrubbed

T = TypeVar("T")

CONNECT_S = 4
_READ_S = 10
_LISTED = 200
# What this process knows of a name beyond the name: the URL with its secrets, and the options it was read with.
_reached: dict[str, tuple[str, dict[str, Any]]] = {}


def read_url(url: str, options: Mapping[str, Any], load: Callable[[Path], T]) -> tuple[T, str, str]:
    """What `load` makes of the fetched file, the name it goes by, and the version of exactly those bytes."""
    shown = redacted(url)
    _reached[shown] = (url, dict(options))
    with _translated(url, options), tempfile.TemporaryDirectory(prefix="penstock-read-") as folder:
        filesystem, path = _open(url, options)
        before = _vouched(filesystem.info(path))
        copy = Path(folder, posixpath.basename(urlsplit(path).path) or "file")
        filesystem.get_file(path, str(copy))
        filesystem.invalidate_cache()
        if _vouched(filesystem.info(path)) != before:
            raise SourceError(f"'{shown}' changed while it was read", hint="run again when its writer is done")
        return load(copy), shown, before or version_of(copy)


class UrlObserver:
    """Looks at URLs again.

    A name whose secrets were taken out is looked at with the URL that this process has read; another process does not
    have it, cannot look, and calls the source gone: the step runs again rather than trust what nobody saw.
    """

    is_far = True

    def version(self, name: str) -> str | None:
        url, options = _reached.get(name, (name, {}))
        if MASK in url:
            return None
        try:
            with _translated(url, options):
                filesystem, path = _open(url, options)
                vouched = _vouched(filesystem.info(path))
                if vouched is not None:
                    return vouched
                with tempfile.TemporaryDirectory(prefix="penstock-read-") as folder:
                    filesystem.get_file(path, str(Path(folder, "file")))
                    return version_of(Path(folder, "file"))
        except GoneError:
            return None


def _open(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    shown = redacted(url)
    protocol = url.partition("://")[0].rpartition("::")[2]
    if protocol in ("s3", "s3a") and url.partition("://")[2].startswith("/"):
        raise SourceError(f"'{shown}' names no bucket", hint="write s3://bucket/path/to/file")
    try:
        filesystem, path = url_to_fs(url, **{**_bounded(protocol), **options})
    except ImportError as error:
        if protocol in ("s3", "s3a"):
            raise MissingExtraError(f"reading '{shown}' needs 's3fs', which is not installed", extra="s3") from error
        raise MissingExtraError(f"reading '{shown}' needs another library", hint=str(error)) from error
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise
        from fsspec.registry import known_implementations

        raise SourceError(
            f"'{shown}': there is no protocol '{protocol}'", hint=did_you_mean(protocol, list(known_implementations))
        ) from error
    if protocol in ("s3", "s3a"):
        filesystem.retries = 1  # on this instance; a step's own retry policy decides about more
    return filesystem, path


def _bounded(protocol: str) -> dict[str, Any]:
    """Options that make an unreachable server fail in seconds and a cached answer impossible."""
    if protocol in ("s3", "s3a"):
        config = {"connect_timeout": CONNECT_S, "read_timeout": _READ_S, "retries": {"max_attempts": 1}}
        return {"config_kwargs": config, "use_listings_cache": False, "skip_instance_cache": True}
    if protocol in ("http", "https"):
        aiohttp = need("aiohttp", extra="s3", purpose="reading http")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=_READ_S)
        return {"client_kwargs": {"timeout": timeout}, "skip_instance_cache": True}
    return {}


def _vouched(info: Mapping[str, Any]) -> str | None:
    """The version that the server itself gives, when it stands for the exact bytes."""
    for key in ("VersionId", "version_id", "generation"):
        if info.get(key) not in (None, "", "null"):
            return f"version:{info[key]}"
    for key in ("ETag", "etag"):
        etag = str(info.get(key) or "").strip()
        if etag and not etag.startswith("W/"):
            return f"etag:{etag.strip(chr(34))}"
    return None


@contextlib.contextmanager
def _translated(url: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what fsspec and its servers' libraries raise into SourceError, without the URL's secrets."""
    shown = redacted(url)
    try:
        yield
    except FileNotFoundError as error:
        # fsspec says "not found" of every http failure and keeps the real one as its cause.
        cause = error.__cause__ if shown.startswith("http") else None
        if isinstance(cause, _transport_errors()) and getattr(cause, "status", None) not in (404, 410):
            raise _unreachable(url, cause) from (None if has_secret(url) else error)
        raise _absent(url, options) from (None if has_secret(url) else error)
    except PermissionError as error:
        raise SourceError(
            f"'{shown}' may not be read: {_said(error, url)}", hint="check the credentials and their permissions"
        ) from (None if has_secret(url) else error)
    except _transport_errors() as error:
        raise _unreachable(url, error) from (None if has_secret(url) else error)


def _transport_errors() -> tuple[type[Exception], ...]:
    """What a server that does not answer looks like, in the words of the libraries that are loaded."""
    found: list[type[Exception]] = [OSError]
    for module, name in (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
        ("gcsfs.retry", "HttpError"),
    ):
        if (loaded := sys.modules.get(module)) is not None:
            found.append(getattr(loaded, name))
    return tuple(found)


def _unreachable(url: str, error: Exception) -> SourceError:
    shown = redacted(url)
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return SourceError(
            f"'{shown}' cannot be read: there are no AWS credentials",
            hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket pass "
            'storage_options={"anon": True}',
        )
    if getattr(error, "status", 0) in (401, 403):
        return SourceError(f"'{shown}' may not be read: HTTP {error.status}", hint="check the credentials")  # type: ignore[attr-defined]
    return SourceUnavailableError(
        f"'{shown}' cannot be reached: {_said(error, url)}",
        hint="check the address, the network and the proxy (for a private S3 server: AWS_ENDPOINT_URL)",
    )


def _absent(url: str, options: Mapping[str, Any]) -> SourceError:
    """What exactly is not there: the bucket or the file, with what is near."""
    shown = redacted(url)
    protocol, _, rest = shown.partition("://")
    if protocol in ("http", "https"):
        return GoneError(f"there is nothing at '{shown}' (HTTP 404)", hint="check the address in a browser")
    bucket, _, key = rest.partition("/")
    if protocol in ("s3", "s3a"):
        return _absent_in_s3(url, options, shown, bucket, key)
    names: list[str] = []
    with contextlib.suppress(*_transport_errors()):
        filesystem, path = _open(url, options)
        names = [posixpath.basename(each.rstrip("/")) for each in filesystem.ls(posixpath.dirname(path), detail=False)]
    return GoneError(f"there is no file '{shown}'", hint=_near(posixpath.basename(rest), names))


def _absent_in_s3(url: str, options: Mapping[str, Any], shown: str, bucket: str, key: str) -> SourceError:
    filesystem, _ = _open(url, options)
    folder, _, name = key.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    try:
        listing = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=_LISTED)
    except FileNotFoundError:
        buckets: list[str] = []
        with contextlib.suppress(*_transport_errors()):
            buckets = [each["Name"] for each in filesystem.call_s3("list_buckets").get("Buckets", ())]
        hint = did_you_mean(bucket, buckets) if buckets else "check the name, the account and AWS_ENDPOINT_URL"
        return GoneError(f"there is no bucket '{bucket}' (in '{shown}')", hint=hint)
    except _transport_errors():
        return GoneError(f"there is no object '{shown}'", hint=f"aws s3 ls s3://{bucket}/{prefix}")
    names = [each["Key"].removeprefix(prefix) for each in listing.get("Contents", ())]
    return GoneError(f"there is no object '{shown}'", hint=_near(name, names))


def _near(name: str, names: list[str]) -> str:
    return did_you_mean(name, names) if names else "nothing is stored beside it: check the folder"


def _said(error: Exception, url: str) -> str:
    text = scrubbed(str(error).strip(), url)
    return text.splitlines()[0] if text else type(error).__name__
