"""One law for every blob store: local directory, S3 (a real server), and fsspec's memory."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.errors import ArtifactCorruptError, ArtifactMissingError, StoreUnavailableError
from penstock.ports.artifacts import BlobStore
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs
from penstock.stores.blobs.remote import RemoteBlobs
from penstock.stores.gc import apply, plan_gc

from .s3 import s3_bucket, s3_server

__all__ = ["s3_bucket", "s3_server"]


class TurnedClock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_us(self) -> int:
        return int((time.time() + self.ahead_s) * 1e6)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


class Place:
    """A store's URL, and ways to harm what is in it from outside."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        self.url = url
        self.tmp_path = tmp_path
        self.clock = TurnedClock()

    def open(self, home: str = "home") -> BlobStore:
        return open_blobs(self.url, home=self.tmp_path / home, clock=self.clock)

    def harm(self, digest: str, change: Callable[[bytes], bytes | None]) -> None:
        import fsspec

        options = {"skip_instance_cache": True} if self.url.startswith("s3") else {}
        fs, root = fsspec.core.url_to_fs(self.url, **options)
        key = f"{root}/objects/{digest[:2]}/{digest[2:]}"
        changed = change(fs.cat_file(key))
        if "://" not in self.url:
            os.chmod(key, 0o644)
        if changed is None:
            fs.rm_file(key)
        else:
            fs.pipe_file(key, changed)


@pytest.fixture(params=["local", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        yield Place(str(tmp_path / "store"), tmp_path)
    elif request.param == "s3":
        yield Place(request.getfixturevalue("s3_bucket"), tmp_path)
    else:
        yield Place(f"memory://{uuid.uuid4().hex}", tmp_path)


def put(blobs: BlobStore, content: bytes) -> str:
    staged = blobs.staging() / "blob"
    staged.write_bytes(content)
    digest, size = blobs.put_file(staged)
    assert not staged.exists()
    assert size == len(content)
    return digest


def test_what_is_put_is_found_under_its_digest_by_another_opener(place: Place) -> None:
    digest = put(place.open(), b"water")
    assert digest == digest_bytes(b"water")
    other = place.open("another-machine")
    assert other.size(digest) == 5
    assert other.open_local(digest, 5).read_bytes() == b"water"


def test_a_stored_blob_is_read_only(place: Place) -> None:
    digest = put(place.open(), b"water")
    assert place.open("other").open_local(digest, 5).stat().st_mode & 0o222 == 0


def test_nothing_is_there_before_it_is_put(place: Place) -> None:
    blobs = place.open()
    absent = digest_bytes(b"absent")
    assert blobs.size(absent) is None
    assert list(blobs.list()) == []
    blobs.delete(absent)
    with pytest.raises(ArtifactMissingError, match=absent[:12]):
        blobs.open_local(absent, 6)


def test_the_same_bytes_twice_are_one_blob(place: Place) -> None:
    blobs = place.open()
    assert put(blobs, b"water") == put(blobs, b"water")
    assert [(digest, size) for digest, size, _ in blobs.list()] == [(digest_bytes(b"water"), 5)]


def test_an_empty_blob_is_a_blob(place: Place) -> None:
    digest = put(place.open(), b"")
    assert place.open("other").open_local(digest, 0).read_bytes() == b""


def test_a_deleted_blob_is_missing_on_read(place: Place) -> None:
    digest = put(place.open(), b"water")
    place.harm(digest, lambda _: None)
    with pytest.raises(ArtifactMissingError, match=digest[:12]) as raised:
        place.open("other").open_local(digest, 5)
    assert "run" in (raised.value.hint or "")


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda content: b"", lambda content: b"W" + content[1:]]
)
def test_a_truncated_or_altered_blob_is_never_returned(place: Place, change: Callable[[bytes], bytes]) -> None:
    digest = put(place.open(), b"water")
    place.harm(digest, change)
    other = place.open("other")
    for _ in range(2):
        with pytest.raises(ArtifactCorruptError, match=digest[:12]):
            other.open_local(digest, 5)


def test_storing_the_bytes_again_heals_a_truncated_blob(place: Place) -> None:
    digest = put(place.open(), b"water")
    place.harm(digest, lambda content: content[:2])
    put(place.open("other"), b"water")
    assert place.open("third").open_local(digest, 5).read_bytes() == b"water"


def test_an_artifact_whose_blob_was_harmed_is_not_intact_and_not_loaded(place: Place) -> None:
    value = b"x" * 20_000
    ref = ArtifactStore(place.open()).save(value)
    other = ArtifactStore(place.open("other"))
    assert other.intact(ref)
    assert other.load(ref) == value
    place.harm(ref.blobs[0].digest, lambda content: content[:-1])
    third = ArtifactStore(place.open("third"))
    assert not third.intact(ref)
    with pytest.raises(ArtifactCorruptError):
        third.load(ref)


def test_a_folder_comes_back_file_by_file(place: Place, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "sub" / "empty").mkdir(parents=True)
    (made / "a.txt").write_text("a")
    (made / "sub" / "b.bin").write_bytes(bytes(1000))
    ref = ArtifactStore(place.open()).save(made)
    back = ArtifactStore(place.open("other")).load(ref)
    assert (back / "a.txt").read_text() == "a"
    assert (back / "sub" / "b.bin").read_bytes() == bytes(1000)
    assert (back / "sub" / "empty").is_dir()
    assert ref.size_bytes == 1001


def test_gc_deletes_what_is_old_and_not_referred_to_and_nothing_else(place: Place) -> None:
    blobs = place.open()
    live, dead = put(blobs, b"live"), put(blobs, b"dead!")
    assert plan_gc(blobs, {live}).delete == ()  # too young
    place.clock.ahead_s = 2 * 86_400
    plan = plan_gc(blobs, {live})
    assert plan.delete == ((dead, 5),)
    assert (plan.bytes, plan.kept) == (5, 1)
    assert apply(plan, blobs).delete == plan.delete
    assert {digest for digest, _, _ in blobs.list()} == {live}
    assert blobs.size(dead) is None


def test_gc_spares_a_blob_that_was_referred_to_after_the_plan(place: Place) -> None:
    blobs = place.open()
    digest = put(blobs, b"again")
    place.clock.ahead_s = 2 * 86_400
    plan = plan_gc(blobs, set())
    assert plan.delete == ((digest, 5),)
    assert apply(plan, blobs, live=lambda: {digest}).delete == ()
    assert blobs.size(digest) == 5


def test_gc_sweeps_what_a_crashed_writer_left(place: Place) -> None:
    blobs = place.open()
    left = blobs.staging()
    (left / "half").write_bytes(b"ha")
    blobs.sweep(86_400)
    assert left.exists()
    place.clock.ahead_s = 2 * 86_400
    assert blobs.sweep(86_400) == 1
    assert not left.exists()


def test_storing_again_makes_a_local_blob_young_again(tmp_path: Path) -> None:
    blobs = open_blobs(str(tmp_path / "store"), home=tmp_path)
    digest = put(blobs, b"again")
    old = time.time() - 3 * 86_400
    os.utime(blobs.open_local(digest, 5), (old, old))
    assert plan_gc(blobs, set()).delete == ((digest, 5),)
    put(blobs, b"again")
    assert plan_gc(blobs, set()).delete == ()


def test_a_bucket_that_is_not_there_is_named_with_what_was_tried(s3_bucket: str, tmp_path: Path) -> None:
    blobs = open_blobs("s3://no-such-bucket-here/x", home=tmp_path)
    staged = blobs.staging() / "blob"
    staged.write_bytes(b"water")
    with pytest.raises(StoreUnavailableError, match="s3://no-such-bucket-here/x") as raised:
        blobs.put_file(staged)
    assert "AWS_ENDPOINT_URL" in (raised.value.hint or "")


def test_an_unreachable_server_is_tried_a_few_times_then_named(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    waits: list[float] = []
    blobs = RemoteBlobs("s3://bucket/x", home=tmp_path, clock=TurnedClock(), wait=waits.append)
    with pytest.raises(StoreUnavailableError, match=r"http://127.0.0.1:1.*tried 6 times"):
        blobs.size(digest_bytes(b"water"))
    assert waits == sorted(waits)
    assert len(waits) == 5
    assert sum(waits) < 15


def test_a_write_whose_answer_was_lost_is_repeated_without_harm(tmp_path: Path) -> None:
    blobs = RemoteBlobs(f"memory://{uuid.uuid4().hex}", home=tmp_path, clock=TurnedClock(), wait=lambda _: None)
    fs, root = blobs._connect()

    class Flaky:
        """The real file system; the first two answers to a put are lost after the write."""

        lost = 0

        def __getattr__(self, name: str) -> object:
            return getattr(fs, name)

        def put_file(self, *arguments: str) -> None:
            fs.put_file(*arguments)
            if Flaky.lost < 2:
                Flaky.lost += 1
                raise ConnectionResetError("the answer was lost")

    blobs._connected = (Flaky(), root)
    digest = put(blobs, b"water")
    assert Flaky.lost == 2
    assert [(each, size) for each, size, _ in blobs.list()] == [(digest, 5)]
