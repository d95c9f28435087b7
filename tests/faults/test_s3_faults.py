"""S3 behind a proxy that spoils answers: what was put is there and right, what is read is right, or the error is clear.

Below the store are the real s3fs, aiobotocore and sockets; behind the proxy is a real S3 server (moto's).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.clock import SystemClock
from penstock.core.errors import ArtifactCorruptError, ArtifactMissingError, StoreUnavailableError
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs.remote import RemoteBlobs
from penstock.testing import FaultyProxy, Spoil

from ..conformance.s3 import s3_bucket, s3_server
from ..e2e.engine_lab import Lab

__all__ = ["s3_bucket", "s3_server"]

CONTENT = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(200)) * 10
DIGEST = digest_bytes(CONTENT)
OBJECT = DIGEST[2:]
PASSING = [Spoil.RESET, Spoil.LOSE_ANSWER, 500, 503]


class S3:
    """A store behind the proxy. `direct` opens the same bucket without it."""

    def __init__(self, url: str, server: str, proxy: FaultyProxy, tmp_path: Path) -> None:
        self.url, self.server, self.proxy, self._home = url, server, proxy, tmp_path
        self.waits: list[float] = []

    def open(self, home: str = "home", *, read_timeout: float = 20) -> RemoteBlobs:
        config = {"connect_timeout": 5, "read_timeout": read_timeout, "retries": {"total_max_attempts": 1}}
        return RemoteBlobs(
            self.url,
            home=self._home / home,
            clock=SystemClock(),
            wait=self.waits.append,
            options={"config_kwargs": config},
        )

    def direct(self) -> RemoteBlobs:
        options = {"client_kwargs": {"endpoint_url": self.server}}
        return RemoteBlobs(self.url, home=self._home / "direct", clock=SystemClock(), options=options)

    def put(self, blobs: RemoteBlobs, content: bytes = CONTENT) -> str:
        staged = blobs.staging() / "blob"
        staged.write_bytes(content)
        digest, size = blobs.put_file(staged)
        assert size == len(content)
        return digest

    def spoil(self, fault: Spoil | int, method: str, times: int) -> None:
        if isinstance(fault, Spoil):
            self.proxy.spoil(fault, method=method, path=OBJECT, times=times)
        else:
            self.proxy.answer(fault, "SlowDown" if fault == 503 else "", method=method, path=OBJECT, times=times)

    def is_there(self) -> bool:
        return self.direct().open_local(DIGEST, len(CONTENT)).read_bytes() == CONTENT


@pytest.fixture
def s3(s3_bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with FaultyProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield S3(s3_bucket, s3_server, proxy, tmp_path)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", PASSING)
def test_a_put_that_returned_is_there_and_right_whatever_passed_on_the_way(
    s3: S3, fault: Spoil | int, times: int
) -> None:
    blobs = s3.open()
    s3.spoil(fault, "PUT", times)
    assert s3.put(blobs) == DIGEST
    assert s3.proxy.count("PUT") == times + 1
    assert s3.is_there()
    assert [(digest, size) for digest, size, _ in blobs.list()] == [(DIGEST, len(CONTENT))]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", [*PASSING, Spoil.TRUNCATE, Spoil.BREAK_BODY, Spoil.ALTER])
def test_what_is_read_is_right_whatever_passed_on_the_way(s3: S3, fault: Spoil | int, times: int) -> None:
    s3.put(s3.direct())
    s3.spoil(fault, "GET", times)
    assert s3.open().open_local(DIGEST, len(CONTENT)).read_bytes() == CONTENT
    assert s3.proxy.count("GET", "passed") >= 1


@pytest.mark.parametrize("fault", [Spoil.RESET, 500, 503])
def test_a_look_that_was_not_answered_is_repeated(s3: S3, fault: Spoil | int) -> None:
    s3.put(s3.direct())
    s3.spoil(fault, "HEAD", 3)
    assert s3.open().size(DIGEST) == len(CONTENT)


@pytest.mark.parametrize("fault", [Spoil.TRUNCATE, Spoil.BREAK_BODY, Spoil.RESET, 500, 503])
def test_a_body_that_never_comes_whole_is_never_returned_and_the_error_says_what_was_tried(
    s3: S3, fault: Spoil | int, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put(s3.direct())
    s3.spoil(fault, "GET", 1000)
    with caplog.at_level(logging.WARNING, "penstock"), pytest.raises(StoreUnavailableError) as raised:
        s3.open().open_local(DIGEST, len(CONTENT))
    assert re.search(r"s3://bucket-.*http://127.0.0.1.*tried 6 times", raised.value.problem)
    assert "resume" in (raised.value.hint or "")
    assert s3.waits == sorted(s3.waits)
    assert (len(s3.waits), sum(s3.waits) < 15) == (5, True)
    assert [record.getMessage().partition("; attempt ")[2][:6] for record in caplog.records] == [
        f"{number} of 6" for number in range(2, 7)
    ]
    assert not list((s3.open()._kept).rglob("*")), "nothing half is kept"


def test_bytes_that_arrive_altered_every_time_are_altered_and_are_not_returned(s3: S3) -> None:
    s3.put(s3.direct())
    s3.spoil(Spoil.ALTER, "GET", 1000)
    with pytest.raises(ArtifactCorruptError, match=DIGEST[:12]):
        s3.open().open_local(DIGEST, len(CONTENT))


def test_a_put_whose_answers_are_all_lost_fails_and_is_done_all_the_same(s3: S3) -> None:
    s3.spoil(Spoil.LOSE_ANSWER, "PUT", 1000)
    with pytest.raises(StoreUnavailableError, match="tried 6 times"):
        s3.put(s3.open())
    assert s3.is_there(), "which does no harm: nothing refers to it"
    s3.proxy.heal()
    assert s3.put(s3.open()) == DIGEST


def test_an_object_that_does_not_show_right_after_it_was_written_is_asked_for_again(s3: S3) -> None:
    blobs = s3.open()
    s3.put(blobs, b"opens the connection")
    s3.proxy.answer(404, method="HEAD", path=OBJECT, times=2)  # before the write, and right after it
    s3.proxy.answer(404, "NoSuchKey", method="GET", path="prefix", times=1)
    assert s3.put(blobs) == DIGEST
    assert s3.proxy.count("PUT") == 3
    assert s3.is_there()


def test_an_object_that_never_shows_is_no_success(s3: S3) -> None:
    blobs = s3.open()
    s3.proxy.answer(404, method="HEAD", path=OBJECT, times=1000)
    s3.proxy.answer(404, "NoSuchKey", method="GET", times=1000)
    with pytest.raises(StoreUnavailableError, match="and then it is not there"):
        s3.put(blobs)


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
def test_what_is_not_allowed_fails_at_once_and_says_so(s3: S3, method: str) -> None:
    s3.proxy.answer(403, "AccessDenied", method=method, path=OBJECT, times=1000)
    with pytest.raises(StoreUnavailableError, match=r"s3://.*tried once") as raised:
        s3.put(s3.open())
    assert s3.waits == []
    assert s3.proxy.count(method, "403") == 1
    assert "credentials must be allowed" in (raised.value.hint or "")


def test_a_bucket_that_is_gone_fails_at_once_and_says_so(s3: S3) -> None:
    s3.proxy.answer(404, "NoSuchBucket", method="PUT", path=OBJECT, times=1000)
    with pytest.raises(StoreUnavailableError, match=r"s3://.*tried once.*bucket") as raised:
        s3.put(s3.open())
    assert s3.waits == []
    assert "bucket's name" in (raised.value.hint or "")


def test_an_object_that_is_gone_is_missing_and_not_unavailable(s3: S3) -> None:
    with pytest.raises(ArtifactMissingError, match=DIGEST[:12]):
        s3.open().open_local(DIGEST, len(CONTENT))
    assert s3.waits == []


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_an_answer_that_does_not_come_is_asked_for_again(s3: S3, method: str) -> None:
    s3.put(s3.direct(), CONTENT if method != "PUT" else b"other")
    blobs = s3.open(read_timeout=0.3)
    s3.spoil(Spoil.STALL, method, 1)
    if method == "PUT":
        assert s3.put(blobs) == DIGEST
    elif method == "GET":
        assert blobs.open_local(DIGEST, len(CONTENT)).read_bytes() == CONTENT
    else:
        assert blobs.size(DIGEST) == len(CONTENT)
    assert s3.proxy.count(method, "stall") == 1


def test_an_object_altered_in_the_bucket_is_seen_weeded_and_stored_anew(s3: S3) -> None:
    import boto3

    value = CONTENT.decode("latin-1")
    ref = ArtifactStore(s3.open()).save(value)
    (blob,) = ref.blobs
    bucket, _, prefix = s3.url.removeprefix("s3://").partition("/")
    client = boto3.client("s3", endpoint_url=s3.server)
    key = f"{prefix}/objects/{blob.digest[:2]}/{blob.digest[2:]}"
    stored = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=bytes([stored[0] ^ 1]) + stored[1:])
    client.close()
    other = ArtifactStore(s3.open("other"))
    assert other.intact(ref), "existence and size are all that a hit looks at"
    with pytest.raises(ArtifactCorruptError):
        other.load(ref)
    assert other.weed(ref)
    assert not other.intact(ref)
    assert other.save(value) == ref
    assert ArtifactStore(s3.open("third")).load(ref) == value


def test_the_proxy_passes_what_it_was_not_told_to_spoil(s3: S3) -> None:
    blobs = s3.open()
    s3.put(blobs)
    blobs.delete(DIGEST)
    assert blobs.size(DIGEST) is None
    assert {each.done for each in s3.proxy.seen} == {"passed"}
    assert os.environ["AWS_ENDPOINT_URL"] == s3.proxy.url


def test_a_run_whose_input_is_altered_in_the_bucket_makes_it_again(s3: S3, tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        (tmp_path / "penstock.toml").write_text(f'artifacts = "{s3.url}"\n')
        lab.write(
            """
@step
def source() -> str:
    mark("source")
    return "spring" * 5000

@step
def harmer(text: str) -> int:
    import boto3, shutil
    bucket, _, prefix = BUCKET.partition("/")
    client = boto3.client("s3")
    for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
        client.put_object(Bucket=bucket, Key=found["Key"], Body=b"f" * found["Size"])
    client.close()
    shutil.rmtree(HERE / ".penstock" / "cache")
    return 1

@step
def reader(text: str, seen: int) -> int:
    return len(text) + seen

@pipeline
def main() -> int:
    text = source()
    return reader(text, harmer(text))
""".replace("BUCKET", repr(s3.url.removeprefix("s3://")))
        )
        run = lab.run()
        assert run.state.value == "succeeded", [(each.step, each.failure) for each in run.steps]
        assert run.output == 30_001
        assert lab.ran() == ["source", "source"]
