"""gc beside pipelines: what a writer kept, hit or stored while blobs were collected is there when both are done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.cli.app import main
from penstock.core.canonical import digest_bytes
from penstock.core.clock import SystemClock
from penstock.ports.records import RunState
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs.local import LocalBlobs
from penstock.stores.gc import DAY_S, apply, grace_s, plan_gc

from ..e2e.engine_lab import Lab, finish, wait_for

COUNT = 600
OLD_S = 3 * DAY_S


def content(number: int) -> bytes:
    return f"blob {number} ".encode() * 20


def open_store(root: Path) -> LocalBlobs:
    return LocalBlobs(root / "store", cache=root / "cache", full=False, clock=SystemClock())


def put(blobs: LocalBlobs, number: int) -> str:
    staged = blobs.staging() / "blob"
    staged.write_bytes(content(number))
    return blobs.put_file(staged)[0]


def grow_old(blobs: LocalBlobs) -> None:
    at = time.time() - OLD_S
    for digest, size, _ in list(blobs.list()):
        os.utime(blobs.open_local(digest, size), (at, at))


# Takes hits on some old blobs and stores others again, in an order of its own, and says which are its own now.
WRITER = """
import random, sys
from pathlib import Path
from penstock.core.canonical import digest_bytes
from penstock.core.clock import SystemClock
from penstock.stores.blobs.local import LocalBlobs

root, count, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
blobs = LocalBlobs(root / "store", cache=root / "cache", full=False, clock=SystemClock())
numbers = list(range(count))
chance.shuffle(numbers)
print("ready", flush=True)
for number in numbers[: count * 2 // 3]:
    content = f"blob {number} ".encode() * 20
    if chance.random() < 0.5:
        if not blobs.keep(digest_bytes(content), len(content)):
            continue  # it was gone: a miss
    else:
        staged = blobs.staging() / "blob"
        staged.write_bytes(content)
        blobs.put_file(staged)
    print(number, flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_a_racing_writer_kept_or_stored_is_never_collected(tmp_path: Path, seed: int) -> None:
    blobs = open_store(tmp_path)
    for number in range(COUNT):
        put(blobs, number)
    grow_old(blobs)
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(COUNT), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        done = apply(plan_gc(blobs, set()), blobs, batch=50)
        mine = [int(line) for line in process.stdout]
    assert process.returncode == 0
    assert done.delete
    assert mine
    for number in mine:
        assert open_store(tmp_path).open_local(digest_bytes(content(number)), len(content(number)))


def test_a_collection_broken_off_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    blobs = open_store(tmp_path)
    digests = {put(blobs, number) for number in range(40)}
    grow_old(blobs)
    live = set(list(digests)[:10])

    def told(done: int, of: int) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            apply(plan_gc(blobs, live), blobs, live=lambda: live, batch=8, told=told)
    assert len(list(blobs.list())) == 40 - 2 * 8
    apply(plan_gc(blobs, live), blobs, live=lambda: live, batch=8)
    assert {digest for digest, _, _ in blobs.list()} == live


def test_a_batch_spares_what_was_referred_to_after_the_one_before(tmp_path: Path) -> None:
    blobs = open_store(tmp_path)
    digests = [put(blobs, number) for number in range(20)]
    grow_old(blobs)
    plan = plan_gc(blobs, set())
    last = plan.delete[-1][0]
    referred: set[str] = set()
    done = apply(plan, blobs, live=lambda: referred, batch=5, told=lambda done, of: referred.add(last))
    assert len(done.delete) == 19
    assert [digest for digest, _, _ in blobs.list()] == [last]
    assert last in digests


def test_nothing_written_since_the_oldest_running_run_began_is_deleted(tmp_path: Path) -> None:
    day_us = DAY_S * 1_000_000
    assert grace_s([], now_us=10 * day_us) == DAY_S
    assert grace_s([9 * day_us, 2 * day_us], now_us=10 * day_us) > 8 * DAY_S
    blobs = open_store(tmp_path)
    put(blobs, 1)
    grow_old(blobs)
    assert plan_gc(blobs, set(), min_age_s=grace_s([0], now_us=8 * day_us)).delete == ()
    assert len(plan_gc(blobs, set(), min_age_s=grace_s([], now_us=8 * day_us)).delete) == 1


def test_a_hit_makes_an_old_blob_young_and_a_plan_does_not_touch_it(tmp_path: Path) -> None:
    blobs = open_store(tmp_path)
    store = ArtifactStore(blobs)
    ref = store.save("x" * 10_000)
    grow_old(blobs)
    assert len(plan_gc(blobs, set()).delete) == 1
    assert store.intact(ref)
    assert plan_gc(blobs, set()).delete == ()
    assert store.load(ref) == "x" * 10_000


def test_copies_go_with_their_original_or_when_they_were_not_used_for_long(tmp_path: Path) -> None:
    blobs = open_store(tmp_path)
    store = ArtifactStore(blobs)
    refs = []
    for name in ("kept", "gone", "unused"):
        (tmp_path / name).write_text(name)
        refs.append(store.save(tmp_path / name))
        store.load(refs[-1])
    kept, gone, unused = refs
    trees = blobs.cache / "trees"
    for ref, days in ((kept, 20), (gone, 3), (unused, 40)):
        at = time.time() - days * DAY_S
        os.utime(trees / ref.digest, (at, at))
    live = {kept.digest, unused.digest, *(blob.digest for ref in (kept, unused) for blob in ref.blobs)}
    plan = plan_gc(blobs, live, unused_s=30 * DAY_S)
    assert {copy.path.name for copy in plan.copies} == {gone.digest, unused.digest}
    apply(plan, blobs, live=lambda: live)
    assert [path.name for path in trees.iterdir()] == [kept.digest]
    assert store.load(unused).read_text() == "unused", "a copy is made again while its original is there"
    at = time.time() - 40 * DAY_S
    os.utime(trees / kept.digest, (at, at))
    store.load(kept)
    assert plan_gc(blobs, live, unused_s=30 * DAY_S).copies == (), "used just now"


def test_penstock_gc_beside_a_running_pipeline_takes_nothing_that_it_needs(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(
        """
@step
def source(n: int) -> str:
    return str(n) * 20_000

@step
def reader(text: str) -> int:
    arrive(f"reader-{text[0]}")
    if not (HERE / "calm").exists():
        await_file("go")
    return len(text)

@pipeline
def main(n: int) -> int:
    return reader(source(n))
"""
    )
    (lab.root / "calm").touch()
    assert lab.run(parameters={"n": 1}).output == 20_000
    store = lab.project().artifacts.blobs
    assert isinstance(store, LocalBlobs)
    (lab.root / "calm").unlink()
    (lab.root / "reader-1").unlink()
    process = lab.start("print(lab.main.using(cache=False).run(n=1).output)")
    try:
        wait_for((lab.root / "reader-1").exists)
        grow_old(store)  # as if the run had been going on for days: its source's blob looks as old as any
        monkeypatch.chdir(lab.root)
        assert main(["gc", "--older-than", "1d", "--keep-last", "0", "--yes", "--json"]) == 0
        assert '"blobs": 0' in capsys.readouterr().out.replace('":0', '": 0')
    finally:
        (lab.root / "go").touch()
    code, out, err = finish(process)
    assert (code, out.strip()) == (0, "20000"), err
    assert lab.project().store.find_run(lab.last_run()).state is RunState.SUCCEEDED  # type: ignore[union-attr]


# `gc` as it dies with a blob aside: before it has looked (the blob is as old as it was), or as it puts a kept one back.
DIES = """
import os, signal, sys
from pathlib import Path
from penstock.core.clock import SystemClock
from penstock.stores.blobs.local import LocalBlobs

root, digest, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
rename = os.rename

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def kept_and_renamed(place, aside):
    if when == "kept":
        os.utime(place)  # what `keep` does, between the two looks of `collect`
    rename(place, aside)
    if when == "old":
        die()

os.rename, os.link = kept_and_renamed, die
LocalBlobs(root / "store", cache=root / "cache", full=False, clock=SystemClock()).collect(digest, 86_400)
"""


def die_with_a_blob_aside(root: Path, when: str) -> tuple[LocalBlobs, str]:
    blobs = open_store(root)
    digest = put(blobs, 1)
    grow_old(blobs)
    assert subprocess.run([sys.executable, "-c", DIES, str(root), digest, when]).returncode == -9
    assert list(blobs.list()) == [], "it lies aside"
    return open_store(root), digest


def test_a_kept_blob_that_a_killed_gc_had_aside_is_read_as_if_nothing_had_happened(tmp_path: Path) -> None:
    blobs, digest = die_with_a_blob_aside(tmp_path, "kept")
    assert blobs.open_local(digest, len(content(1))).read_bytes() == content(1)
    assert [found for found, _, _ in blobs.list()] == [digest]


@pytest.mark.parametrize("when", ["kept", "old"])
def test_a_blob_that_a_killed_gc_had_aside_is_there_for_whoever_asks(tmp_path: Path, when: str) -> None:
    blobs, digest = die_with_a_blob_aside(tmp_path, when)
    assert blobs.size(digest) == len(content(1))
    assert blobs.keep(digest, len(content(1)))
    assert plan_gc(blobs, set()).delete == ()


def test_the_next_gc_puts_back_what_a_killed_one_had_aside_before_it_removes_anything(tmp_path: Path) -> None:
    blobs, digest = die_with_a_blob_aside(tmp_path, "kept")
    apply(plan_gc(blobs, set(), min_age_s=0.0), blobs)
    assert [found for found, _, _ in blobs.list()] == [digest]
    assert blobs.open_local(digest, len(content(1))).read_bytes() == content(1)
    blobs.sweep(0.0)
    assert list((tmp_path / "store" / "aside").iterdir()) == []


def test_what_nobody_kept_goes_with_the_gc_after_the_one_that_put_it_back(tmp_path: Path) -> None:
    blobs, digest = die_with_a_blob_aside(tmp_path, "old")
    apply(plan_gc(blobs, set()), blobs)
    done = apply(plan_gc(blobs, set()), blobs)
    assert [found for found, _ in done.delete] == [digest]
    assert list(blobs.list()) == []
