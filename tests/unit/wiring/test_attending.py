"""What a cluster's machine refuses to begin, and says why."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.engine.far import Order
from penstock.engine.tasks import TASK_ENCODER, StepOutcome, StepTask
from penstock.graph import Graph
from penstock.ports.records import Failure
from penstock.wiring.attending import attend, far_boot
from penstock.wiring.config import Settings, load_settings
from penstock.wiring.project import Project

Change = Callable[[dict[str, Any]], None]


class Letters:
    """A Post that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: bytes) -> None:
        self.sent += msgspec.msgpack.decode(message)

    def unwanted(self) -> bool:
        return False


def boot_of(settings: Settings) -> dict[str, Any]:
    project = Project(settings)
    services = project.services(Graph("p", "p.py:p"))
    far_boot(services, project, "r-1")
    return services.boot


def refusal(boot: dict[str, Any], run_id: str, effect: Any = None) -> Failure:
    """What an attempt of this order comes to; it must not begin."""
    task = StepTask(run_id, "p", "fit", "", 1, "p.py:fit", {}, ("output",), effect=effect)
    letters = Letters()
    attend(msgspec.msgpack.encode(Order(boot, TASK_ENCODER.encode(task))), letters)
    ((kind, content),) = letters.sent
    assert kind == "done"
    failure = msgspec.msgpack.decode(content, type=StepOutcome).failure
    assert failure is not None
    return failure


def another_store(boot: dict[str, Any]) -> None:
    boot["settings"]["artifacts"] += "-of-another-machine"


def another_version(boot: dict[str, Any]) -> None:
    boot["far"]["version"] = "0.0.1"


def another_root(boot: dict[str, Any]) -> None:
    boot["settings"]["root"] += "/nowhere"


def another_folder(boot: dict[str, Any]) -> None:
    boot["far"]["cwd"] = "/no/such/folder"


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (another_store, "-of-another-machine on", "PENSTOCK_ARTIFACTS"),
        (another_version, "is penstock 0.0.1 on Python", "the same versions"),
        (another_root, "/nowhere of", "at the same path"),
        (another_folder, "the working folder /no/such/folder of", "at the same path"),
    ],
)
def test_a_machine_that_cannot_do_it_says_what_is_missing(
    tmp_path: Path, change: Change, message: str, hint: str
) -> None:
    boot = boot_of(load_settings(str(tmp_path)))
    change(boot)
    failure = refusal(boot, f"r-{change.__name__}")
    assert message in failure.message
    assert f"'{os.uname().nodename}'" in failure.message
    assert hint in (failure.hint or "")


def test_an_effect_needs_the_run_log_of_its_run_and_makes_no_other(tmp_path: Path) -> None:
    boot = boot_of(load_settings(str(tmp_path)))
    failure = refusal(boot, "r-effect", "at-least-once")
    assert "does not know run r-effect" in failure.message
    assert "PENSTOCK_RUNS" in (failure.hint or "")
    assert not (tmp_path / ".penstock" / "runs.db").exists()


def test_an_order_holds_no_password_and_means_the_same_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    boot = boot_of(load_settings(str(tmp_path), runs="postgresql://ml:hush@db/x", artifacts="store"))
    assert "hush" not in repr(boot)
    assert boot["settings"]["artifacts"] == str(tmp_path / "store")
    assert boot["far"]["prefix"] == sys.prefix
    relative = boot_of(load_settings(str(tmp_path), runs="sqlite:///runs.db"))
    assert relative["settings"]["runs"] == f"sqlite:///{tmp_path}/runs.db"
