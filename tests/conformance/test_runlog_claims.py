"""A cache key is claimed by the attempt that computes it, in the transaction that starts the attempt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.canonical import digest_bytes
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunResumed,
    StepSucceeded,
)
from penstock.ports.records import Failure, FailureClass, RunRecord
from penstock.ports.runlog import Claim
from penstock.stores.runlog import SqlStore
from penstock.stores.runlog.packing import packed_text, unpacked_text

from .conftest import TurnedClock

AT = 1_795_414_725_000_000
KEY = digest_bytes(b"key")
FIT = ("fit", "")


def a_record(run_id: str) -> RunRecord:
    return RunRecord(
        id=run_id, pipeline="p", project="shop", manifest=digest_bytes(b"{}"), parameters={}, created_at=AT,
        host=os.uname().nodename, pid=os.getpid(),
    )  # fmt: skip


def a_run(store: SqlStore, run_id: str) -> str:
    store.create(a_record(run_id), b"{}", AT)
    store.hold(run_id, 1)
    return run_id


def start(step: str = "fit", attempt: int = 1, key: str = KEY) -> AttemptStarted:
    return AttemptStarted(at=AT, step=step, attempt=attempt, key=key)


def end(step: str = "fit", attempt: int = 1, key: str | None = KEY) -> StepSucceeded:
    return StepSucceeded(at=AT, step=step, attempt=attempt, outputs={"output": ArtifactRef("d", "json")}, key=key)


def lost(step: str = "fit", attempt: int = 1) -> AttemptFailed:
    return AttemptFailed(at=AT, step=step, attempt=attempt, failure=Failure(FailureClass.ERROR, "no"))


def test_a_key_that_a_living_run_computes_is_refused_and_nothing_of_the_start_is_kept(store: SqlStore) -> None:
    one, two = a_run(store, "one"), a_run(store, "two")
    assert store.append(one, 1, [start()], {FIT: Claim(0)}) == {}
    assert store.append(two, 1, [start(), start("other", key="free")], {FIT: Claim(0), ("other", ""): Claim(0)}) == {
        FIT: "one"
    }
    assert [run.step for run in store.step_runs(two)] == ["other"]
    assert [seq for seq, _ in store.events(two)] == [1, 2]


@pytest.mark.parametrize("over", [end(key=None), lost()], ids=["succeeded", "failed"])
def test_a_key_is_free_again_once_its_attempt_is_over(store: SqlStore, over: Event) -> None:
    one, two = a_run(store, "one"), a_run(store, "two")
    store.append(one, 1, [start()], {FIT: Claim(0)})
    store.append(one, 1, [over])
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {}


def test_who_saw_fewer_entries_than_there_are_is_refused_and_looks_again(store: SqlStore) -> None:
    one, two = a_run(store, "one"), a_run(store, "two")
    store.append(one, 1, [start()], {FIT: Claim(0)})
    store.append(one, 1, [end()])
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {FIT: ""}
    assert store.append(two, 1, [start()], {FIT: Claim(len(store.entries(KEY)))}) == {}


def test_only_the_start_that_claims_is_refused_not_another_one_with_the_same_key(store: SqlStore) -> None:
    one, two = a_run(store, "one"), a_run(store, "two")
    store.append(one, 1, [start()], {FIT: Claim(0)})
    assert store.append(two, 1, [start("forced"), start()], {FIT: Claim(0)}) == {FIT: "one"}
    assert [run.step for run in store.step_runs(two)] == ["forced"]
    store.append(one, 1, [lost()])
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {}, "the forced one claims nothing"


def test_who_waited_for_what_kept_nothing_goes_on_beside_all_who_waited(store: SqlStore) -> None:
    one, two, three = (a_run(store, name) for name in ("one", "two", "three"))
    store.append(one, 1, [start()], {FIT: Claim(0)})
    store.append(one, 1, [end(key=None)])
    for waiter in (two, three):
        assert store.append(waiter, 1, [start()], {FIT: Claim(0, has_waited=True)}) == {}


def test_of_those_who_waited_for_a_dead_run_one_computes(store: SqlStore) -> None:
    one, two, three = (a_run(store, name) for name in ("one", "two", "three"))
    store.append(one, 1, [start()], {FIT: Claim(0)})
    store.release(one)
    assert store.append(two, 1, [start()], {FIT: Claim(0, has_waited=True)}) == {}
    assert store.append(three, 1, [start()], {FIT: Claim(0, has_waited=True)}) == {FIT: "two"}


def test_a_run_whose_owner_is_gone_holds_no_key(store: SqlStore) -> None:
    one, two = a_run(store, "one"), a_run(store, "two")
    store.append(one, 1, [start()], {FIT: Claim(0)})
    store.release(one)
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {}


def test_a_run_whose_owner_hangs_for_longer_than_its_lease_holds_no_key(place) -> None:
    clock = TurnedClock()
    store = place.open(clock)
    one, two = a_run(store, "one"), a_run(store, "two")
    store.append(one, 1, [start()], {FIT: Claim(0)})
    clock.turn(29)
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {FIT: "one"}
    clock.turn(2)
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {}


def test_a_start_without_a_claim_neither_waits_nor_makes_others_wait(store: SqlStore) -> None:
    one, two, three = (a_run(store, name) for name in ("one", "two", "three"))
    store.append(one, 1, [start()])
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {}
    assert store.append(three, 1, [start()]) == {}


def test_the_next_attempt_of_the_same_step_may_claim_its_own_key(store: SqlStore) -> None:
    one = a_run(store, "one")
    store.append(one, 1, [start()], {FIT: Claim(0)})
    assert store.append(one, 1, [start(attempt=2)], {FIT: Claim(0)}) == {}
    twin = ("twin", "")
    assert store.append(one, 1, [start("twin")], {twin: Claim(0)}) == {twin: "one"}


def test_a_resumed_run_has_let_go_of_what_it_claimed(store: SqlStore) -> None:
    one, two = a_run(store, "one"), a_run(store, "two")
    store.append(one, 1, [start()], {FIT: Claim(0)})
    store.append(one, 1, [RunResumed(at=AT, epoch=2)])
    assert store.append(two, 1, [start()], {FIT: Claim(0)}) == {}


HOLDER = """
import sys, time
from pathlib import Path
from penstock.stores.runlog import open_store
sys.path.insert(0, sys.argv[3])
from tests.conformance.test_runlog_claims import FIT, Claim, a_run, start
store = open_store(sys.argv[1], home=Path(sys.argv[2]))
store.append(a_run(store, "holder"), 1, [start()], {FIT: Claim(0)})
print("held", flush=True)
time.sleep(600)
"""


def test_a_holder_that_is_killed_lets_go_at_once(shared_place) -> None:
    store = shared_place.open()
    arguments = [sys.executable, "-c", HOLDER, shared_place.url, str(shared_place.home), str(Path(__file__).parents[2])]
    holder = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    mine = a_run(store, "mine")
    assert store.append(mine, 1, [start()], {FIT: Claim(0)}) == {FIT: "holder"}
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert store.append(mine, 1, [start()], {FIT: Claim(0)}) == {}


# how events lie -------------------------------------------------------------------------------------------------------


@given(st.text(), st.binary(min_size=32, max_size=32), st.dictionaries(st.text(), st.text()))
def test_what_is_packed_comes_back_byte_for_byte(text: str, digest: bytes, more: dict[str, str]) -> None:
    value = {"type": "attempt_started", "at": 1, "step": text, "key": digest.hex(), "parts": {"code": digest.hex()}}
    for written in (value, more, [text, digest.hex(), "," + '"seconds":']):
        content = msgspec.json.encode(written)
        assert unpacked_text(packed_text(content)) == content


def test_json_of_the_first_stores_is_read_as_it_is() -> None:
    content = msgspec.json.encode({"type": "run_started", "at": 5})
    assert unpacked_text(content) == content
