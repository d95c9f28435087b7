"""Many processes want the same keys: each is computed once, and a holder that dies gives its key up at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.ids import run_id as make_run_id
from penstock.ports.records import RunRecord, RunState
from penstock.ports.runlog import RunQuery
from penstock.stores.runlog import SqlStore, open_store

from ..e2e.engine_lab import Lab, finish, last_json, wait_for

AT = 1_795_414_725_000_000
Open = Callable[[], SqlStore]


@pytest.fixture(params=["sqlite", "postgres"])
def runs_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/.penstock/runs.db"
    import psycopg

    url: str = request.getfixturevalue("postgres_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS penstock CASCADE")
    return url


@pytest.fixture
def lab(tmp_path: Path, runs_url: str) -> Iterator[Lab]:
    with Lab(tmp_path) as found:
        (tmp_path / "penstock.toml").write_text(f'runs = "{runs_url}"\n')
        yield found


@pytest.fixture
def open_here(tmp_path: Path, runs_url: str) -> Iterator[Open]:
    opened: list[SqlStore] = []

    def open_one() -> SqlStore:
        store = open_store(runs_url, home=tmp_path / ".penstock")
        assert isinstance(store, SqlStore)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


HOUR = 3600.0  # no lease runs out while a test runs: whoever takes a key has another reason

FLOW = """
@step
def big(n: int) -> list[int]:
    mark(f"big-{n}"); threading.Event().wait(0.1)
    return list(range(n * 5000))

@step
def even(n: int) -> int:
    mark(f"even-{n}")
    return n * 2

@step
def total(numbers: list[int], evens: list[int]) -> int:
    mark("total")
    return len(numbers) + sum(evens)

@pipeline
def main() -> int:
    return total(big(1), even.map(n=[1, 2, 3]))
"""

HOWS = ("workers=1", "workers=2", "one_process_per_step=True")


def test_of_twenty_processes_that_start_together_one_computes_each_key_and_the_others_take_it(lab: Lab) -> None:
    lab.write(FLOW)
    ready = "lab.arrive(f'ready-{os.getpid()}'); lab.await_file('go'); "
    started = "print(json.dumps(lab.main.using({}, echo=False).run().output))"
    hows = [HOWS[2] if n % 10 == 9 else HOWS[n % 2] for n in range(20)]
    processes = [lab.start(ready + started.format(how)) for how in hows]
    wait_for(lambda: len(list(lab.root.glob("ready-*"))) == 20)
    (lab.root / "go").touch()
    for process in processes:
        status, out, err = finish(process)
        assert status == 0, err
        assert last_json(out) == 5012
    assert Counter(lab.ran()) == {"big-1": 1, "even-1": 1, "even-2": 1, "even-3": 1, "total": 1}
    store = lab.project().store
    runs = store.list_runs(RunQuery())
    assert [run.state for run in runs] == [RunState.SUCCEEDED] * 20
    ended = Counter(
        step.state.value for run in runs for step in store.step_runs(run.record.id) if not step.state.has_output
    )
    assert not ended
    assert Counter(each.state for run in runs for each in store.attempts(run.record.id)) == {"succeeded": 5}
    assert leases(lab) == []
    assert [path.name for path in (lab.root / ".penstock" / "locks").iterdir()] == []


SLOW = """
@step
def slow() -> str:
    mark("slow"); arrive("there")
    if not (HERE / "go").exists():
        await_file("go", 600)
    return "made"

@pipeline
def main() -> str:
    return slow()
"""


# Only a step process holds its key for itself; a worker computes for its engine, which would notice.
@pytest.mark.parametrize(("how", "victim"), [*((how, "engine") for how in HOWS), (HOWS[2], "step")])
def test_a_key_whose_holder_is_killed_is_computed_by_who_waits_for_it_though_the_lease_has_not_run_out(
    lab: Lab, how: str, victim: str
) -> None:
    lab.write(SLOW)
    holder = lab.start(f"lab.main.using({how}, echo=False).run()")
    wait_for(lambda: (lab.root / "there").exists(), "the first one never began")
    waiter = lab.start("print(json.dumps(lab.main.using(workers=1, echo=False).run().output))")
    store = lab.project().store
    wait_for(lambda: len(store.list_runs(RunQuery())) == 2, "the second one never began")
    owner = prolonged(lab)
    if victim == "engine":
        holder.kill()
    else:
        (attempt,) = store.attempts(owner)
        os.kill(attempt.pid, signal.SIGKILL)
    wait_for(lambda: lab.ran() == ["slow", "slow"], "nobody took the key over")
    (lab.root / "go").touch()
    status, out, err = finish(waiter)
    assert (status, last_json(out)) == (0, "made"), err
    finish(holder)


HOLDER = """
import os, sys
from pathlib import Path
from penstock.core.canonical import digest_bytes
from penstock.ports.records import RunRecord
from penstock.stores.runlog import open_store

url, home, kind, owner = sys.argv[1:]
store = open_store(url, home=Path(home))
if kind == "run":
    record = RunRecord(id=owner, pipeline="p", project="p", manifest=digest_bytes(b"{}"), parameters={}, created_at=1,
                       host=os.uname().nodename, pid=os.getpid())
    store.hold(store.create(record, b"{}", 1).id, 1)
print(store.lease("k", owner, 3600.0), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["run", "step"])
def test_a_lease_ends_with_its_holder_and_not_before(open_here: Open, runs_url: str, tmp_path: Path, kind: str) -> None:
    run = make_run_id("p", AT)
    owner = run if kind == "run" else f"{run}/fit/2.0"
    home = tmp_path / ".penstock"
    words = [sys.executable, "-c", HOLDER, runs_url, str(home), kind, owner]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    here = open_here()
    assert not here.lease("k", "other/fit/", HOUR)
    holder.kill()
    holder.communicate()
    assert here.lease("k", "other/fit/", HOUR)
    assert not open_here().lease("k", "third/fit/", HOUR)
    here.unlease("k", "other/fit/")
    assert open_here().lease("k", "third/fit/", HOUR)


def test_where_nothing_is_known_of_a_holder_its_lease_has_to_run_out(
    open_here: Open, runs_url: str, tmp_path: Path
) -> None:
    here = open_here()
    elsewhere = open_store(runs_url, home=tmp_path / "other-host")
    assert elsewhere.lease("k", "far/fit/", HOUR)
    assert not here.lease("k", "near/fit/", HOUR)
    elsewhere.close()
    assert not here.lease("k", "near/fit/", HOUR)


def test_a_run_that_was_resumed_keeps_its_key_from_who_saw_it_dead(open_here: Open) -> None:
    """The waiter looked while the holder was dead; by the time it wants the key, the holder is back and has renewed."""
    holder, waiter = open_here(), open_here()
    record = RunRecord(
        id=make_run_id("p", AT), pipeline="p", project="p", manifest=digest_bytes(b"{}"), parameters={},
        created_at=AT, host=os.uname().nodename, pid=os.getpid(),
    )  # fmt: skip
    run = holder.create(record, b"{}", AT).id
    holder.hold(run, 1)
    assert holder.lease("k", run, HOUR)
    holder.release(run)
    looked = waiter._is_gone

    def look_and_wait(owner: str) -> bool:
        gone = looked(owner)
        holder.hold(run, 1)
        holder.lease("k", run, HOUR + 1)
        return gone

    waiter._is_gone = look_and_wait  # type: ignore[method-assign]
    assert not waiter.lease("k", "other", HOUR)
    del waiter._is_gone
    assert not waiter.lease("k", "other", HOUR)


def leases(lab: Lab) -> list[tuple[str, int]]:
    database = lab.project().store.database  # type: ignore[attr-defined]
    return [(row[0], row[1]) for row in database.connection.execute("SELECT owner, until FROM cache_leases")]


def prolonged(lab: Lab) -> str:
    """The run that computes the key, with a lease that does not run out by itself."""
    database = lab.project().store.database  # type: ignore[attr-defined]
    database.connection.execute("UPDATE runs SET lease_until = lease_until + 3600000000")
    ((owner,),) = database.connection.execute(
        "SELECT r.id FROM runs r JOIN step_runs s ON s.run_no = r.no WHERE s.claim IS NOT NULL"
    ).fetchall()
    return str(owner)
