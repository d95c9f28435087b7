"""A crash before and after every step of storing a file: no reader ever sees half a blob, and storing again works."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.clock import SystemClock
from penstock.core.errors import ArtifactCorruptError, ArtifactMissingError, StoreUnavailableError
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs.local import LocalBlobs

CONTENT = b"water" * 10_000
DIGEST = digest_bytes(CONTENT)


class CrashError(BaseException):
    """The process ends here; nothing may catch it on the way."""


@contextmanager
def crash(monkeypatch: pytest.MonkeyPatch, at: int, before: bool) -> Iterator[list[str]]:
    """Count the system calls that change something; end the process at number `at`, before or after its work."""
    made: list[str] = []

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == at and before:
                raise CrashError(name)
            result = real(*arguments, **options)
            if len(made) == at:
                raise CrashError(name)
            return result

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "chmod", "rename", "mkdir", "unlink", "utime", "link"):
            patch.setattr(os, name, watched(name))
        yield made


def open_store(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "store", cache=tmp_path / "cache", full=True, clock=SystemClock())


def stage(blobs: LocalBlobs) -> Path:
    staged = blobs.staging() / "blob"
    staged.write_bytes(CONTENT)
    return staged


def calls_of_a_calm_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calm = open_store(tmp_path / "calm")
    staged = stage(calm)
    with crash(monkeypatch, 0, True) as made:
        calm.put_file(staged)
    return made


@pytest.mark.parametrize("before", [True, False])
def test_a_crash_at_any_step_leaves_all_of_a_blob_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    calm = calls_of_a_calm_put(tmp_path, monkeypatch)
    assert calm.index("fsync") < calm.index("rename")
    for at in range(1, len(calm) + 1):
        home = tmp_path / str(at)
        blobs = open_store(home)
        staged = stage(blobs)
        with crash(monkeypatch, at, before), pytest.raises(CrashError):
            blobs.put_file(staged)
        after = open_store(home)
        assert after.size(DIGEST) in (None, len(CONTENT))
        if after.size(DIGEST) is None:
            with pytest.raises(ArtifactMissingError):
                after.open_local(DIGEST, len(CONTENT))
            assert list(after.list()) == []
        else:
            assert after.open_local(DIGEST, len(CONTENT)).read_bytes() == CONTENT
        assert after.put_file(stage(after)) == (DIGEST, len(CONTENT))
        assert open_store(home).open_local(DIGEST, len(CONTENT)).read_bytes() == CONTENT


def test_a_crash_while_a_folder_is_stored_gives_no_reference_and_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for number in range(3):
        (made / f"{number}.bin").write_bytes(CONTENT + bytes([number]))
    for at in range(1, 12, 2):
        blobs = open_store(tmp_path / str(at))
        with crash(monkeypatch, at, True), pytest.raises(CrashError):
            ArtifactStore(blobs).save(made)
        again = ArtifactStore(open_store(tmp_path / str(at)))
        ref = again.save(made)
        assert [each.read_bytes() for each in sorted(again.load(ref).iterdir())] == [
            CONTENT + bytes([number]) for number in range(3)
        ]


def test_a_crash_while_a_folder_is_copied_out_is_made_good_by_the_next_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "report.txt"
    made.write_bytes(CONTENT)
    store = ArtifactStore(open_store(tmp_path))
    ref = store.save(made)
    for at in range(1, 5):
        with crash(monkeypatch, at, True):
            try:
                store.load(ref)
            except CrashError:
                pass
        assert store.load(ref).read_bytes() == CONTENT


def test_bytes_altered_in_place_after_they_were_read_once_are_seen(tmp_path: Path) -> None:
    blobs = open_store(tmp_path)
    blobs.put_file(stage(blobs))
    place = blobs.open_local(DIGEST, len(CONTENT))
    os.chmod(place, 0o644)
    place.write_bytes(b"W" + CONTENT[1:])
    os.utime(place, (time.time() + 5, time.time() + 5))
    with pytest.raises(ArtifactCorruptError):
        blobs.open_local(DIGEST, len(CONTENT))
    blobs.put_file(stage(blobs))
    assert blobs.open_local(DIGEST, len(CONTENT)).read_bytes() == CONTENT


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailableError, match="store"):
        open_store(tmp_path).staging()
