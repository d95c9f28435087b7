"""A full disk, a read-only one, a locked database, a clock that goes back: said by name, and nothing done is lost."""

from __future__ import annotations

import os
import select
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.ports.events import AttemptFailed
from penstock.ports.records import RunState
from penstock.wiring.runner import find_run

from ..e2e.engine_lab import Lab, finish, last_json, states, wait_for


class Disk:
    """A file system of its own for a project's `.penstock`."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def mount(self, options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "none", str(self.place)]
        subprocess.run(words, check=True, capture_output=True, timeout=60)


@pytest.fixture
def disk(lab: Lab) -> Iterator[Disk]:
    place = lab.root / ".penstock"
    place.mkdir()
    found = Disk(place)
    try:
        found.mount("size=4m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("missing capability: mounting a file system (root on Linux)")
    yield found
    for project in lab._projects:
        if "store" in vars(project):
            project.store.close()
    lab._projects.clear()
    subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=60)


def command(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "penstock", *words], cwd=lab.root, capture_output=True, text=True, timeout=60
    )


FULL = """
@step
def first() -> int:
    mark("first")
    return 1

@step(isolation={isolation!r})
def fills(x: int) -> bytes:
    mark("fills")
    {body}

@step
def last(x: bytes) -> int:
    mark("last")
    return len(x)

@pipeline
def main() -> int:
    return last(fills(first()))
"""


@pytest.mark.parametrize("isolation", ["auto", "process"])
def test_a_disk_that_is_full_while_an_artifact_is_stored_fails_the_step_by_name_and_resume_stores_it(
    lab: Lab, disk: Disk, isolation: str
) -> None:
    lab.write(FULL.format(isolation=isolation, body="return os.urandom(1 << 20) * 8"))
    run = lab.run(workers=1)
    assert states(run) == {"first": "succeeded", "fills": "failed", "last": "upstream_failed"}
    failure = run.step("fills").failure
    assert failure is not None
    assert "no space left" in failure.message.lower()
    assert "artifacts" in failure.message
    assert failure.hint is not None
    assert not [path for path in (disk.place / "artifacts" / "objects").rglob("*") if path.is_file()]
    disk.mount("remount,size=64m")
    assert lab.resume(run.id, workers=1).output == 8 << 20
    assert Counter(lab.ran()) == {"first": 1, "fills": 2, "last": 1}


BALLAST = """with open(HERE / ".penstock" / "ballast", "wb", buffering=0) as ballast:
        try:
            while not (HERE / "room").exists():
                ballast.write(b"x" * 4096)
        except OSError:
            pass
    print("as good as done")
    return b"made" * 4000"""


def test_a_disk_that_is_full_when_the_run_log_commits_ends_the_run_by_name_and_resume_finishes_it(
    lab: Lab, disk: Disk
) -> None:
    lab.write(FULL.format(isolation="auto", body=BALLAST))
    code, _, err = finish(lab.start("lab.main.using(workers=1).run()"))
    assert code == 1
    assert "StoreUnavailableError" in err
    assert "runs.db cannot" in err
    assert "disk" in err
    (disk.place / "ballast").unlink()
    (lab.root / "room").touch()
    assert find_run(lab.project(), "last").state is RunState.INTERRUPTED
    assert lab.resume("last", workers=1).output == 16_000
    assert Counter(lab.ran()) == {"first": 1, "fills": 2, "last": 1}
    with sqlite3.connect(disk.place / "runs.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_store_that_is_read_only_is_named_before_anything_runs(lab: Lab, disk: Disk) -> None:
    lab.write(FULL.format(isolation="auto", body='return b"made"'))
    assert command(lab, "run", lab.file.name).returncode == 0
    assert lab.ran() == ["first", "fills", "last"]
    disk.mount("remount,ro")
    for words in (["run", lab.file.name, "--no-cache"], ["ls"], ["show"]):
        told = command(lab, *words)
        assert told.returncode == 5, (words, told)
        assert "Traceback" not in told.stderr
        assert str(disk.place) in told.stderr
        assert "check that" in told.stderr
    assert lab.ran() == ["first", "fills", "last"]
    disk.mount("remount,rw")
    assert command(lab, "run", lab.file.name).returncode == 0
    assert lab.ran() == ["first", "fills", "last"], "three hits"


LOCKED = """
@step
def first() -> int:
    mark("first")
    return 1

@step
def during(x: int) -> int:
    arrive("there")
    if not (HERE / "go").exists():
        await_file("go")
    print("x" * 100_000)
    mark("during")
    return x + 1

@pipeline
def main() -> int:
    return during(first())
"""
IMPATIENT = """
from penstock.stores.runlog.sqlite import SqliteDatabase
SqliteDatabase.__init__.__kwdefaults__["busy_seconds"] = 0.2
"""
RUN = "print(json.dumps(lab.main.using(workers=1, echo=False).run().output))"


def locked(lab: Lab) -> sqlite3.Connection:
    """Another process's writing transaction, as it were, that does not end."""
    wait_for(lambda: (lab.root / "there").exists(), "the step never began")
    blocker = sqlite3.connect(lab.root / ".penstock" / "runs.db", isolation_level=None, timeout=30)
    blocker.execute("BEGIN IMMEDIATE")
    (lab.root / "go").touch()
    return blocker


def test_a_run_waits_for_a_database_that_somebody_else_has_locked(lab: Lab) -> None:
    engine = lab.write(LOCKED).start(RUN)
    blocker = locked(lab)
    select.select([], [], [], 0.3)  # for that long it is locked; how long the engine waits is its own affair
    assert engine.poll() is None
    blocker.close()
    code, out, err = finish(engine)
    assert (code, last_json(out)) == (0, 2), err
    assert lab.text(lab.last_run(), "during").startswith("x" * 100_000)


def test_a_database_locked_for_too_long_ends_the_run_by_name_not_the_step_and_resume_finishes_it(lab: Lab) -> None:
    engine = lab.write(LOCKED).start(IMPATIENT + RUN)
    blocker = locked(lab)
    code, _, err = finish(engine)
    assert code == 1
    assert "is locked: another process has been writing to it for more than 0.2 s" in err
    blocker.close()
    store = lab.project().store
    assert find_run(lab.project(), "last").state is RunState.INTERRUPTED
    assert not [event for _, event in store.events(lab.last_run()) if isinstance(event, AttemptFailed)]
    assert lab.resume("last", workers=1).output == 2
    assert lab.ran() == ["first", "during", "during"]


BACKWARDS = """
import penstock.core.clock as clock
real = clock.SystemClock.now_us
clock.SystemClock.now_us = lambda self: real(self) - 3_600_000_000 * (lab.HERE / "back").exists()
"""
FLOW = """
@step
def first() -> int:
    mark("first"); arrive("back")
    return 1

@step(retry=Retry(3, base="20ms"))
def flaky(x: int) -> int:
    mark("flaky")
    if context().attempt < 3:
        raise OSError("no")
    return x

@step
def each(n: int, x: int) -> int:
    return n + x

@step
def stops(xs: list[int]) -> int:
    mark("stops")
    if not (HERE / "go").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(xs)

@pipeline
def main() -> int:
    return stops(each.partial(x=flaky(first())).map(n=[1, 2, 3]))
"""


@pytest.mark.parametrize("how", ["workers=1", "workers=2", "one_process_per_step=True"])
def test_a_clock_that_goes_back_an_hour_changes_no_outcome_also_over_a_crash_and_a_resume(lab: Lab, how: str) -> None:
    lab.write(FLOW)
    finish(lab.start(BACKWARDS + f"lab.main.using({how}, echo=False).run()"))
    assert (lab.root / "back").exists()
    assert find_run(lab.project(), "last").state in (RunState.INTERRUPTED, RunState.FAILED)
    (lab.root / "go").touch()
    again = (
        "from penstock.wiring.project import Project\nfrom penstock.wiring.config import load_settings\n"
        "from penstock.wiring.runner import LocalRunner\n"
        f"run = LocalRunner().resume('last', {str(lab.root)!r}, {how}, echo=False)\nprint(json.dumps(run.output))"
    )
    code, out, err = finish(lab.start(BACKWARDS + again))
    assert (code, last_json(out)) == (0, 9), err
    assert lab.ran() == ["first", "flaky", "flaky", "flaky", "stops", "stops"]
    store = lab.project().store
    attempts = store.attempts(lab.last_run())
    assert all(each.seconds >= 0 for each in attempts)
    assert sorted(each.number for each in attempts if each.step == "flaky") == [1, 2, 3]
    assert command(lab, "show").returncode == 0
    assert os.path.isdir(lab.root / ".penstock")
