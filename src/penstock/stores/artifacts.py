"""Values in, references out: the artifact store, over a blob store and codecs.

A small JSON value lives inside its reference and touches no file at all. Anything else becomes blobs: they are durable
before the reference exists. What comes back is always a value of the reader's own.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

from ..core import jsonvalue
from ..core.canonical import digest_bytes, digest_json
from ..core.errors import ArtifactCorruptError, ArtifactMissingError, CodecError, StoreUnavailableError
from ..ports.artifacts import ArtifactRef, Blob, BlobStore, Codec
from .paths import is_path, no_content

_NO_ROOM = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "no space left in your quota",
    errno.EFBIG: "the file is larger than this system allows",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the device reports an input/output error",
}
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
_EMPTY = digest_bytes(b"")
_COPIED = ("file", "folder")  # what a user's code gets to hold as a path, and might write to
_STAMP_NS = 946_684_800_000_000_000  # the time every copied file carries; another one shows that somebody wrote


class ArtifactStore:
    """Implements `ports.artifacts.Artifacts`. `blobs` may be a function, called when the first blob is needed."""

    def __init__(self, blobs: BlobStore | Callable[[], BlobStore], *, inline_limit: int = 8192) -> None:
        self._source = blobs
        self._opened: BlobStore | None = None
        self._codecs: Sequence[Codec] | None = None
        self._inline_limit = inline_limit

    @property
    def blobs(self) -> BlobStore:
        if self._opened is None:
            self._opened = self._source() if callable(self._source) else self._source
        return self._opened

    def save(self, value: Any, annotation: Any = Any) -> ArtifactRef:
        kind = type(value)
        if (kind is str or kind is bytes) and len(value) > self._inline_limit:
            return self._save_encoded(value, annotation)
        text = self._text_of(value)
        if text is None:
            return self._save_encoded(value, annotation)
        content = text.encode()
        if len(content) > self._inline_limit:
            return self._save_text(value, text, content)
        return ArtifactRef(
            digest=digest_bytes(content),
            codec="json",
            size_bytes=len(content),
            inline=text,
            meta={"type": kind.__qualname__},
        )

    def load(self, ref: ArtifactRef, annotation: Any = Any) -> Any:
        if ref.inline is not None:
            if digest_bytes(ref.inline.encode()) != ref.digest:
                raise ArtifactCorruptError(
                    f"the value {ref.digest[:12]} in the run log is not what was stored",
                    hint="run the step again with --no-cache",
                )
            return jsonvalue.loads(ref.inline, annotation, restore=_restore)
        codec = self._codec(ref.codec)
        if len(ref.blobs) == 1 and not ref.blobs[0].path:
            return codec.decode(self.blobs.open_local(ref.blobs[0].digest, ref.blobs[0].size_bytes), annotation)
        if ref.codec in _COPIED or ref.meta.get("paths"):
            return codec.decode(self._copied_tree(ref), annotation)
        return self._decode_linked(ref, codec, annotation)

    def intact(self, ref: ArtifactRef) -> bool:
        return all(blob.path.endswith("/") or self.blobs.keep(blob.digest, blob.size_bytes) for blob in ref.blobs)

    def weed(self, ref: ArtifactRef) -> bool:
        if ref.inline is not None:
            return digest_bytes(ref.inline.encode()) != ref.digest
        gone = False
        for blob in ref.blobs:
            if blob.path.endswith("/"):
                continue
            try:
                self.blobs.open_local(blob.digest, blob.size_bytes)
            except ArtifactMissingError:
                gone = True
            except ArtifactCorruptError:
                self.blobs.delete(blob.digest)
                gone = True
        return gone

    # -- saving -----------------------------------------------------------------------------------------------------

    def _text_of(self, value: Any) -> str | None:
        """The value as exact JSON, or None where it is or holds a file, a table, an array, a model."""
        if is_path(value):
            return None
        if jsonvalue.accepts(value):
            try:
                return jsonvalue.dumps(value, foreign=no_content)
            except CodecError:
                pass
        elif type(value).__module__ != "numpy":
            return None
        from .codecs.plain import write_part

        try:
            return jsonvalue.dumps(value, foreign=write_part)
        except CodecError:
            return None

    def _save_text(self, value: Any, text: str, content: bytes) -> ArtifactRef:
        from .codecs.plain import json_meta

        staging = self.blobs.staging()
        try:
            part = staging / "value"
            with self._writing(staging):
                part.write_bytes(content)
            return self._commit(part, "json", True, json_meta(value, text))
        finally:
            _discard(staging)

    def _save_encoded(self, value: Any, annotation: Any) -> ArtifactRef:
        refusals: list[str] = []
        for codec in self._all():
            if not codec.accepts(value, annotation):
                continue
            staging = self.blobs.staging()
            try:
                with self._writing(staging):
                    meta = codec.encode(value, staging / "value")
                if refusals:
                    meta = meta | {"why": refusals}
                return self._commit(staging / "value", codec.name, codec.canonical, meta)
            except CodecError as error:
                refusals.append(f"{codec.name}: {error.problem}")
            finally:
                _discard(staging)
        kind = type(value)
        reasons = "; ".join(refusals) or "no codec takes it"
        raise CodecError(
            f"a {kind.__module__}.{kind.__qualname__} cannot be stored: {reasons}",
            hint="return plain values, tables, arrays, models or a Path; connections, locks, generators and open "
            "files belong inside the step that uses them",
        )

    @contextmanager
    def _writing(self, staging: Path) -> Iterator[None]:
        """A disk that takes no more is the store's trouble; every other OSError is about the user's value."""
        try:
            yield
        except OSError as error:
            why = _NO_ROOM.get(error.errno or 0)
            if why is None and _SHORT_WRITE.search(str(error)):  # numpy's own words, without an error number
                why = "not everything could be written, as with no space left on the device"
            if why is None:
                raise
            raise StoreUnavailableError(
                f"the artifact store at {self.blobs.url} cannot be written: {why} ({staging.parent})",
                hint="make room or raise the limit there, or set `artifacts` in penstock.toml to another place; then "
                "penstock resume",
            ) from error

    def _commit(self, made: Path, codec: str, canonical: bool, meta: dict[str, Any]) -> ArtifactRef:
        if not made.is_dir():
            digest, size = self.blobs.put_file(made)
            return ArtifactRef(
                digest=digest,
                codec=codec,
                size_bytes=size,
                blobs=(Blob("", digest, size),),
                canonical=canonical,
                meta=meta,
            )
        entries: list[Blob] = []
        for folder, folders, files in os.walk(made):
            inside = Path(folder).relative_to(made)
            for name in files:
                entries.append(Blob((inside / name).as_posix(), *self.blobs.put_file(Path(folder) / name)))
            if not folders and not files and folder != str(made):
                entries.append(Blob(inside.as_posix() + "/", _EMPTY, 0))
        entries.sort(key=lambda blob: blob.path)
        return ArtifactRef(
            digest=tree_digest(entries),
            codec=codec,
            size_bytes=sum(blob.size_bytes for blob in entries),
            blobs=tuple(entries),
            canonical=canonical,
            meta=meta,
        )

    # -- loading ----------------------------------------------------------------------------------------------------

    def _copied_tree(self, ref: ArtifactRef) -> Path:
        """A read-only copy of a tree under the cache, shared on this machine, made anew when it was altered."""
        place = self.blobs.cache / "trees" / ref.digest
        if _unaltered(place, ref):
            os.utime(place)  # used: `gc` leaves it alone
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.parent / f".{ref.digest}-{os.getpid()}-{get_ident():x}"
        try:
            self.unpack(ref, fresh, _copy)
            if _unaltered(place, ref):  # another reader was faster
                return place
            _discard(place)  # readers that have files open keep them
            try:
                os.rename(fresh, place)
            except OSError:
                if not _unaltered(place, ref):
                    raise
        finally:
            _discard(fresh)
        return place

    def _decode_linked(self, ref: ArtifactRef, codec: Codec, annotation: Any) -> Any:
        staging = self.blobs.staging()
        try:
            self.unpack(ref, staging / "value", _link)
            return codec.decode(staging / "value", annotation)
        finally:
            _discard(staging)

    def unpack(self, ref: ArtifactRef, folder: Path, take: Callable[[Path, Path], object]) -> None:
        """A tree's files in a folder of their own, each brought there by `take`."""
        folder.mkdir(parents=True, exist_ok=True)
        for blob in ref.blobs:
            place = folder / blob.path
            if not place.resolve().is_relative_to(folder.resolve()):
                raise ArtifactCorruptError(f"the artifact {ref.digest[:12]} names a path outside itself: {blob.path!r}")
            if blob.path.endswith("/"):
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                take(self.blobs.open_local(blob.digest, blob.size_bytes), place)

    # -- codecs -----------------------------------------------------------------------------------------------------

    def _all(self) -> Sequence[Codec]:
        if self._codecs is None:
            from .codecs import default_codecs  # a run of small values never needs them

            self._codecs = default_codecs()
        return self._codecs

    def _codec(self, name: str) -> Codec:
        for codec in self._all():
            if codec.name == name:
                return codec
        raise CodecError(
            f"the value was stored with the codec {name!r}, which is not known here",
            hint="it was written by a newer penstock, or by a plugin that is not installed",
        )


def tree_digest(entries: Sequence[Blob]) -> str:
    """The digest of a tree: of every (path, digest, size), sorted by path."""
    return digest_json([[blob.path, blob.digest, blob.size_bytes] for blob in sorted(entries, key=lambda b: b.path)])


def _restore(tag: str, content: Any) -> Any:
    from .codecs.numpy import read_scalar

    return read_scalar(tag, content)


def _unaltered(place: Path, ref: ArtifactRef) -> bool:
    if not place.is_dir():
        return False
    count = sum(len(files) for _, _, files in os.walk(place))
    stored = [blob for blob in ref.blobs if not blob.path.endswith("/")]
    if count != len(stored):
        return False
    for blob in stored:
        try:
            found = (place / blob.path).stat()
        except OSError:
            return False
        if found.st_size != blob.size_bytes or found.st_mtime_ns != _STAMP_NS:
            return False
    return True


def _discard(folder: Path) -> None:
    import shutil  # 5 ms with what it brings; a run of small values never needs it

    shutil.rmtree(folder, ignore_errors=True)


def _copy(blob: Path, place: Path) -> None:
    import shutil

    shutil.copyfile(blob, place)
    os.utime(place, ns=(_STAMP_NS, _STAMP_NS))
    os.chmod(place, 0o444)


def _link(blob: Path, place: Path) -> None:
    try:
        os.link(blob, place)
    except OSError:  # another file system, or one without links
        import shutil

        shutil.copyfile(blob, place)
