"""Code that is edited while its run goes on: what a process imported late is not kept under the older code's key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .engine_lab import wait_for

FLOW = """
import time
from pathlib import Path
from penstock import pipeline, step

here = Path(__file__).parent

@step(cache=False)
def first() -> list[int]:
    (here / "began").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
    return [1, 2, 3]

@step
def second(x: int) -> str:
    return f"old {x}"

@step
def joined(all: list[str]) -> str:
    return ", ".join(all)

@pipeline
def main() -> str:
    return joined(second.map(x=first()))
"""


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "penstock.toml").touch()
        self.write(FLOW)
        self.environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def write(self, text: str) -> None:
        (self.folder / "flow.py").write_text(text)

    def start(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "penstock", "run", "flow.py", "--workers", "2", "--json", *more]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, text=True)

    def end(self, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
        (self.folder / "go").touch()
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        return [json.loads(line) for line in out.splitlines()]

    def edited_meanwhile(self, text: str, *more: str) -> dict[str, Any]:
        """A run whose code becomes another one before a worker has imported it. -> its summary"""
        process = self.start(*more)
        wait_for(lambda: (self.folder / "began").exists())
        self.write(text)
        return self.end(process)[-1]


@pytest.mark.parametrize("how", [(), ("--one-process-per-step",)], ids=["workers", "processes"])
def test_what_newer_code_made_is_no_hit_for_the_older_code(tmp_path: Path, how: tuple[str, ...]) -> None:
    place = Place(tmp_path)
    told = place.edited_meanwhile(FLOW.replace("old", "new"), *how)
    if not how:  # a process of its own looks at the code as it is then, and has a key of its own
        assert [note["step"] for note in told["hidden"]] == ["second"]
        assert told["hidden"][0]["note"] == "may have run newer code: flow.py was edited meanwhile"
    place.write(FLOW)
    again = place.end(place.start())[-1]
    assert again["output"] == '"old 1, old 2, old 3"'
    assert again["counts"] == {"succeeded": 5}


def test_an_edit_that_means_nothing_to_a_step_keeps_nothing_out_of_the_cache(tmp_path: Path) -> None:
    place = Place(tmp_path)
    told = place.edited_meanwhile(FLOW + "\n# nothing\ndef beside():\n    return 1\n")
    assert told["hidden"] == []
    assert place.end(place.start())[-1]["counts"] == {"cached": 4, "succeeded": 1}
