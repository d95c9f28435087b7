"""Blobs behind any fsspec URL (s3://, gs://, memory://): one object per digest, fetched once and kept locally.

An object store's put is atomic, so an upload goes straight to its name. A write that succeeded but whose answer was
lost is simply done again: the name is the digest of the bytes. Trouble that may pass (no answer, a broken connection, a
5xx, a body cut short) is met with six attempts over about ten seconds, each of which is logged; what will not pass (no
permission, no such bucket) fails at once. What arrives is digested before it counts. Credentials and the endpoint come
from the usual environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL).
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...core.canonical import digest_file
from ...core.clock import Clock
from ...core.errors import ArtifactCorruptError, MissingExtraError, StoreUnavailableError
from .local import Stamp, altered, check, fresh_folder, missing, stamp, sweep_folder

T = TypeVar("T")
_LOG = logging.getLogger("penstock.stores")
_EXTRAS = {"s3": "s3", "s3a": "s3"}
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
_ATTEMPTS = 6
_FIRST_WAIT_S, _WAIT_FACTOR = 0.1, 3
_USED_S = 3600.0  # how exactly it is known when a copy was used
_FRESH_S = 12 * 3600.0  # a blob younger than this is not uploaded again only to start its age anew


class _NotThereError(OSError):
    """The place for objects does not exist, and will not come into being by asking again."""


class _NotShownError(OSError):
    """What was written does not show yet."""


class RemoteBlobs:
    """An object store of blobs with a verified local cache under `home/cache/blobs`."""

    def __init__(
        self,
        url: str,
        *,
        home: Path,
        clock: Clock,
        wait: Callable[[float], None] = time.sleep,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.cache = home / "cache"
        self._kept = self.cache / "blobs"
        self._staging = self.cache / "staging"
        self._clock = clock
        self._wait = wait
        self._options = options or {}
        self._verified: set[Stamp] = set()
        self._connected: tuple[Any, str] | None = None
        self._connecting = threading.Lock()

    def put_file(self, path: Path) -> tuple[str, int]:
        digest, size = digest_file(str(path))
        if not self._fresh(digest, size):
            self._ask("write", partial(self._put, path, digest, size))
        self._keep(path, digest)
        return digest, size

    def open_local(self, digest: str, size_bytes: int) -> Path:
        place = self._place(digest)
        try:
            found = place.stat()
            now = stamp(digest, found)
            if self.now_s() - found.st_atime > _USED_S:
                os.utime(place, ns=(time.time_ns(), found.st_mtime_ns))  # used: `gc` leaves the copy alone
            if now not in self._verified:
                check(digest, size_bytes, place, str(place))
                self._verified.add(now)
        except (FileNotFoundError, ArtifactCorruptError):  # the copy is only a cache: what counts is the store
            self._fetch(digest, size_bytes)
        return place

    def size(self, digest: str) -> int | None:
        about = self._about(digest)
        return None if about is None else int(about["size"])

    def keep(self, digest: str, size_bytes: int) -> bool:
        return self.size(digest) == size_bytes  # an object's age cannot be set; a put of it writes it anew

    def list(self) -> Iterator[tuple[str, int, float]]:
        now = self.now_s()
        try:
            found = self._ask("list", lambda fs: fs.find(f"{self._root()}/objects", detail=True))
        except FileNotFoundError:
            return
        for key, about in sorted(found.items()):
            shard, name = key.rsplit("/", 2)[1:]
            yield shard + name, about["size"], now - _written(about, now)

    def delete(self, digest: str) -> None:
        try:
            self._ask("delete from", lambda fs: fs.rm_file(self._key(digest)))
        except FileNotFoundError:
            pass
        self._place(digest).unlink(missing_ok=True)

    def collect(self, digest: str, older_than_s: float) -> bool:
        about, now = self._about(digest), self.now_s()
        if about is None or now - _written(about, now) < older_than_s:
            return False
        self.delete(digest)
        return True

    def now_s(self) -> float:
        return self._clock.now_us() / 1_000_000

    def staging(self) -> Path:
        try:
            return fresh_folder(self._staging)
        except OSError as error:
            raise StoreUnavailableError(
                f"the local folder for half-written artifacts cannot be written: {error}",
                hint=f"check free space and permissions of {self._staging}",
            ) from error

    def sweep(self, older_than_s: float) -> int:
        return sweep_folder(self._staging, older_than_s, self._clock)

    # -- local copies ---------------------------------------------------------------------------------------------

    def _place(self, digest: str) -> Path:
        return self._kept / digest[:2] / digest[2:]

    def _keep(self, path: Path, digest: str) -> None:
        place = self._place(digest)
        os.makedirs(place.parent, exist_ok=True)
        os.chmod(path, 0o444)
        os.rename(path, place)
        self._verified.add(stamp(digest, place.stat()))

    def _fetch(self, digest: str, size_bytes: int) -> None:
        folder = self.staging()
        try:
            part = folder / "blob"
            self._take(digest, part)
            try:
                check(digest, size_bytes, part, self._where(digest))
            except ArtifactCorruptError:  # on its way here, or there? The second time it is altered there
                self._take(digest, part)
                check(digest, size_bytes, part, self._where(digest))
            self._keep(part, digest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _take(self, digest: str, part: Path) -> None:
        try:
            self._ask("read from", lambda fs: fs.get_file(self._key(digest), str(part)))
        except FileNotFoundError:
            raise missing(digest, self._where(digest)) from None
        except StoreUnavailableError as error:
            if type(error.__cause__).__name__ not in _ALTERED:
                raise
            raise altered(
                digest, self._where(digest), f"the store's own checksum says so: {error.__cause__}"
            ) from error

    def _put(self, path: Path, digest: str, size: int, fs: Any) -> None:
        """Upload, and look whether it is there: a store that does not show it yet is asked, and told, again."""
        key = self._key(digest)
        try:
            fs.put_file(str(path), key)
        except FileNotFoundError as error:
            if not path.exists():
                raise
            raise _NotThereError(f"the bucket is not there: {error}") from error
        try:
            there = fs.info(key)["size"]
        except FileNotFoundError:
            there = None
        if there != size:
            found = "it is not there" if there is None else f"it has {there} bytes"
            raise _NotShownError(f"{size} bytes were written to {self._where(digest)}, and then {found}")

    def _fresh(self, digest: str, size: int) -> bool:
        """Whether the store has the same bytes and has had them for so short a time that `gc` leaves them alone."""
        about, now = self._about(digest), self.now_s()
        return about is not None and about["size"] == size and now - _written(about, 0.0) < _FRESH_S

    # -- the other side -------------------------------------------------------------------------------------------

    def _about(self, digest: str) -> dict[str, Any] | None:
        """What the store says of an object; None where it is not there."""
        try:
            found: dict[str, Any] = self._ask("look at", lambda fs: fs.info(self._key(digest)))
        except FileNotFoundError:
            return None
        return found

    def _where(self, digest: str) -> str:
        return f"{self.url}/objects/{digest[:2]}/{digest[2:]}"

    def _key(self, digest: str) -> str:
        return f"{self._root()}/objects/{digest[:2]}/{digest[2:]}"

    def _root(self) -> str:
        return self._connect()[1]

    def _connect(self) -> tuple[Any, str]:
        with self._connecting:
            if self._connected is None:
                self._connected = _open(self.url, self._options)
            return self._connected

    def _ask(self, verb: str, call: Callable[[Any], T]) -> T:
        """Ask the store, again after a pause while the trouble may pass. FileNotFoundError goes through."""
        try:
            fs, _ = self._connect()
        except _trouble() as error:
            raise self._unavailable(verb, error, 1) from error
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return call(fs)
            except FileNotFoundError as error:
                if _no_bucket(error):
                    raise self._unavailable(verb, error, attempt) from error
                raise
            except _trouble() as error:
                if attempt == _ATTEMPTS or not _may_pass(error):
                    raise self._unavailable(verb, error, attempt) from error
                # A little less than the full wait, at random: many processes do not come back at the same instant.
                pause = _FIRST_WAIT_S * _WAIT_FACTOR ** (attempt - 1) * random.uniform(0.7, 1.0)
                _LOG.warning(
                    "cannot %s %s: %s; attempt %d of %d in %.1f s",
                    verb, self.url, _text(error), attempt + 1, _ATTEMPTS, pause,
                )  # fmt: skip
            self._wait(pause)
        raise AssertionError("unreachable")

    def _unavailable(self, verb: str, error: BaseException, attempts: int) -> StoreUnavailableError:
        tried = "once" if attempts == 1 else f"{attempts} times"
        endpoint = os.environ.get("AWS_ENDPOINT_URL") if self.url.startswith("s3") else None
        through = f" (endpoint {endpoint})" if endpoint else ""
        return StoreUnavailableError(
            f"cannot {verb} {self.url}{through}, tried {tried}: {_text(error)}", hint=_advice(self.url, error)
        )


def _open(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    import fsspec

    scheme = url.partition("://")[0]
    if scheme in _EXTRAS:
        # Attempts are made here, where they are counted and told, and not again in each of the two layers below;
        # no listing cache, because another process may write.
        config = {"connect_timeout": 5, "read_timeout": 60, "retries": {"total_max_attempts": 1, "mode": "standard"}}
        options = {"use_listings_cache": False, "skip_instance_cache": True, "config_kwargs": config} | options
    try:
        fs, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        raise MissingExtraError(
            f"the artifact store {url} needs a library that is not installed: {error}",
            extra=_EXTRAS.get(scheme),
            hint=f"pip install {package}" if package else None,
        ) from error
    except ValueError as error:
        raise StoreUnavailableError(
            f"{url} is not a place artifacts can be kept: {error}",
            hint="use a folder, or a URL such as s3://bucket/prefix",
        ) from error
    if scheme in _EXTRAS:
        fs.retries = 1  # s3fs's own count, per part of an upload
    return fs, str(root).rstrip("/")


def _trouble() -> tuple[type[BaseException], ...]:
    """What the libraries that are loaded raise when the other side does not answer as it should."""
    found: list[type[BaseException]] = [OSError]
    for module, names in _TROUBLE:
        loaded = sys.modules.get(module)
        found += [getattr(loaded, name) for name in names if hasattr(loaded, name)]
    return tuple(found)


_TROUBLE = (
    ("botocore.exceptions", ("BotoCoreError", "ClientError")),
    ("aiohttp", ("ClientError",)),  # a body that breaks off comes from the layer below botocore
    ("gcsfs.retry", ("HttpError",)),
)
_ALTERED = ("FlexibleChecksumError", "ChecksumError")
_SETTLED = (
    "_NotThereError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "ParamValidationError",
    "NoRegionError",
)


def _may_pass(error: BaseException) -> bool:
    return not isinstance(error, PermissionError) and type(error).__name__ not in _SETTLED


def _no_bucket(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None) or {}
    if response.get("Error", {}).get("Code") == "NoSuchBucket":
        return True
    return "bucket" in str(error).lower() and "not exist" in str(error).lower()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _advice(url: str, error: BaseException) -> str:
    if isinstance(error, PermissionError):
        return "these credentials must be allowed to read, write, list and delete there; then resume the run"
    if url.startswith("s3"):
        return "check the bucket's name, AWS_ENDPOINT_URL and the AWS_* credentials, then resume the run"
    return "check the URL and its credentials, then resume the run"


def _written(about: dict[str, Any], unknown: float) -> float:
    """When an object was written, as every file system calls it differently."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "created"):
        at = about.get(name)
        if isinstance(at, str):
            at = datetime.fromisoformat(at)
        if isinstance(at, datetime):
            return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
        if isinstance(at, (int, float)):
            return float(at)
    return unknown
