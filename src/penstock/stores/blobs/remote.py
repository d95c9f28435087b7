"""Blobs behind any fsspec URL (s3://, gs://, memory://): one object per digest, fetched once and kept locally.

An object store's put is atomic, so an upload goes straight to its name. A write that succeeded but whose answer was
lost is simply done again: the name is the digest of the bytes. Credentials and the endpoint come from the usual
environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL).
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ...core.canonical import digest_file
from ...core.clock import Clock
from ...core.errors import ArtifactCorruptError, MissingExtraError, StoreUnavailableError
from .local import Stamp, check, fresh_folder, missing, stamp, sweep_folder

T = TypeVar("T")
_EXTRAS = {"s3": "s3", "s3a": "s3"}
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
_ATTEMPTS = 4
_FRESH_S = 12 * 3600.0  # a blob younger than this is not uploaded again only to start its age anew


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
            self._ask("write", lambda fs: fs.put_file(str(path), self._key(digest)))
            there = self.size(digest)
            if there != size:
                raise StoreUnavailableError(
                    f"{self._where(digest)} has {there} bytes after {size} were written to it",
                    hint="check the bucket's quota and lifecycle rules, then resume the run",
                )
        self._keep(path, digest)
        return digest, size

    def open_local(self, digest: str, size_bytes: int) -> Path:
        place = self._place(digest)
        try:
            now = stamp(digest, place.stat())
            if now not in self._verified:
                check(digest, size_bytes, place, str(place))
                self._verified.add(now)
        except (FileNotFoundError, ArtifactCorruptError):  # the copy is only a cache: what counts is the store
            self._fetch(digest, size_bytes)
        return place

    def size(self, digest: str) -> int | None:
        try:
            found: int = self._ask("look at", lambda fs: fs.info(self._key(digest)))["size"]
        except FileNotFoundError:
            return None
        return found

    def list(self) -> Iterator[tuple[str, int, float]]:
        now = self._clock.now_us() / 1_000_000
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
            try:
                self._ask("read from", lambda fs: fs.get_file(self._key(digest), str(part)))
            except FileNotFoundError:
                raise missing(digest, self._where(digest)) from None
            check(digest, size_bytes, part, self._where(digest))
            self._keep(part, digest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fresh(self, digest: str, size: int) -> bool:
        """Whether the store has the same bytes and has had them for so short a time that `gc` leaves them alone."""
        try:
            about = self._ask("look at", lambda fs: fs.info(self._key(digest)))
        except FileNotFoundError:
            return False
        now = self._clock.now_us() / 1_000_000
        return bool(about["size"] == size and now - _written(about, 0.0) < _FRESH_S)

    # -- the other side -------------------------------------------------------------------------------------------

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
            self._wait(0.1 * 3 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _unavailable(self, verb: str, error: BaseException, attempts: int) -> StoreUnavailableError:
        tried = "once" if attempts == 1 else f"{attempts} times"
        text = str(error) or type(error).__name__
        endpoint = os.environ.get("AWS_ENDPOINT_URL") if self.url.startswith("s3") else None
        through = f" (endpoint {endpoint})" if endpoint else ""
        return StoreUnavailableError(
            f"cannot {verb} {self.url}{through}, tried {tried}: {text}", hint=_advice(self.url)
        )


def _open(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    import fsspec

    scheme = url.partition("://")[0]
    if scheme in _EXTRAS:
        # Few and short attempts below ours; no listing cache, because another process may write.
        config = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2, "mode": "standard"}}
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
        fs.retries = 2  # s3fs's own count, per part of an upload
    return fs, str(root).rstrip("/")


def _trouble() -> tuple[type[BaseException], ...]:
    """What the libraries that are loaded raise when the other side does not answer as it should."""
    found: list[type[BaseException]] = [OSError]
    for module, names in (("botocore.exceptions", ("BotoCoreError", "ClientError")), ("gcsfs.retry", ("HttpError",))):
        loaded = sys.modules.get(module)
        found += [getattr(loaded, name) for name in names if hasattr(loaded, name)]
    return tuple(found)


_SETTLED = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError", "NoRegionError")


def _may_pass(error: BaseException) -> bool:
    return not isinstance(error, PermissionError) and type(error).__name__ not in _SETTLED


def _no_bucket(error: BaseException) -> bool:
    return "bucket" in str(error).lower() and "not exist" in str(error).lower()


def _advice(url: str) -> str:
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
