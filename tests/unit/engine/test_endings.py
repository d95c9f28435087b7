"""How a process ended, and the kernel's count behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.core.errors import StepKilledError, StepOutOfMemoryError, StepPreemptedError
from penstock.engine.endings import OutOfMemoryKills, ending


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    file = tmp_path / "memory.events"
    file.write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n")
    return file


def count_to(file: Path, number: int) -> None:
    file.write_text(
        file.read_text().replace("oom_kill 2", f"oom_kill {number}").replace("oom_kill 3", f"oom_kill {number}")
    )


def test_each_kill_that_the_kernel_counts_explains_one_death(counter: Path) -> None:
    kills = OutOfMemoryKills(str(counter))
    before = kills.count()
    assert before == 2
    assert kills.rose_since(before) is False
    count_to(counter, 3)
    assert [kills.rose_since(before), kills.rose_since(before)] == [True, False]
    count_to(counter, 4)
    assert kills.rose_since(before) is True
    assert kills.rose_since(kills.count()) is False


def test_where_the_kernel_does_not_say_nobody_knows(tmp_path: Path) -> None:
    absent = OutOfMemoryKills(str(tmp_path / "memory.events"))
    assert (absent.count(), absent.rose_since(None), absent.rose_since(0)) == (None, None, None)
    (tmp_path / "old").write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert OutOfMemoryKills(str(tmp_path / "old")).count() is None


@pytest.mark.parametrize(
    ("code", "for_memory", "error", "hint"),
    [
        (-15, None, StepPreemptedError, "preempted"),
        (143, None, StepPreemptedError, "preempted"),
        (-9, True, StepOutOfMemoryError, "give it more"),
        (137, True, StepOutOfMemoryError, "give it more"),
        (-9, False, StepKilledError, "not for memory"),
        (-9, None, StepKilledError, "perhaps for memory"),
        (-11, True, StepKilledError, "penstock logs churn-1"),
        (3, None, StepKilledError, "penstock logs churn-1"),
    ],
)
def test_an_ending_is_told_apart_by_signal_and_count(
    code: int, for_memory: bool | None, error: type[Exception], hint: str
) -> None:
    found = ending("fit", code, for_memory=for_memory, run_id="churn-1")
    assert type(found) is error
    assert hint in (found.hint or "")
