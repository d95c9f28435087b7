"""Resuming with other code, and what no fingerprint sees: what the record, `show`, `why` and `plan` then say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FLOW = """
import os
from penstock import pipeline, step

@step
def gen() -> int:
    return 1

@step(cache=False)
def note(x: int) -> int:
    return x

@step(env=("CITY",))
def fit(x: int, y: int) -> int:
    os.environ.get("CITY")
    os.environ.get("TOWN")
    raise ValueError("no")

@pipeline
def flow() -> int:
    x = gen()
    return fit(x, note(x))
"""


def penstock(folder: Path, *words: str, code: int = 0) -> str:
    environ = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "penstock", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environ, timeout=120)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


def facts(folder: Path, *words: str) -> Any:
    return json.loads(penstock(folder, *words, "--json"))


def edit(folder: Path, *pairs: tuple[str, str]) -> None:
    text = (folder / "flow.py").read_text()
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    (folder / "flow.py").write_text(text)


def test_a_resume_with_current_code_renews_the_record_and_says_what_older_code_made(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    penstock(tmp_path, "run", "flow.py", "--workers", "1", code=1)
    before = facts(tmp_path, "show")["code"]["steps"]
    edit(tmp_path, ("return 1", "return 1 + 1"), ("    return x\n", "    return x + 1\n"), ('"no"', '"still no"'))
    penstock(tmp_path, "resume", "last", code=1)
    told = penstock(tmp_path, "resume", "last", "--with-current-code", "--workers", "1", code=1)
    assert "kept from older code: gen, note" in told
    after = facts(tmp_path, "show")["code"]["steps"]
    assert all(before[target] != digest for target, digest in after.items())
    # The record is of the code that ran last, so nothing has changed since: no word of it is needed.
    again = penstock(tmp_path, "resume", "last", "--workers", "1", code=1)
    assert "kept from older code: gen, note" in again
    edit(tmp_path, ('raise ValueError("still no")', "return x + y"))
    penstock(tmp_path, "resume", "last", "--with-current-code", "--workers", "1")
    assert "kept from older code: gen, note" in penstock(tmp_path, "show")
    why = penstock(tmp_path, "why", "last", "fit")
    assert "the step's own code changed" in why
    assert '-    raise ValueError("still no")' in why
    assert "+    return x + y" in why


def test_a_resume_goes_on_where_changed_code_reaches_nothing_that_is_finished_and_records_it(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    penstock(tmp_path, "run", "flow.py", "--workers", "1", code=1)
    before = facts(tmp_path, "show")
    edit(tmp_path, ('raise ValueError("no")', "return x + y"))
    told = penstock(tmp_path, "resume", "last", "--workers", "1")
    assert "ran with changed code: flow.py:fit" in told
    assert "kept from older code" not in told
    assert ": 1 succeeded, 2 finished before" in told
    assert "resumed with changed code: flow.py:fit" in penstock(tmp_path, "show")
    after = facts(tmp_path, "show")
    codes = before["code"]["steps"], after["code"]["steps"]
    assert {target for target in codes[1] if codes[0][target] != codes[1][target]} == {"flow.py:fit"}
    assert before["code"]["sources"] != after["code"]["sources"]
    for step in ("gen", "fit"):
        assert facts(tmp_path, "show", "last", step)[0]["code"] == codes[1][f"flow.py:{step}"]
    assert "the step's own code changed" in penstock(tmp_path, "why", "last", "fit")


def test_one_finished_element_of_a_map_is_enough_to_refuse_its_changed_code(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from penstock import pipeline, step\n"
        "@step\ndef fit(x: int) -> int:\n    return 1 // x\n"
        "@pipeline\ndef flow(xs: list[int] = [0, 1]) -> list[int]:\n    return fit.map(x=xs)\n"
    )
    penstock(tmp_path, "run", "flow.py", "--workers", "1", code=1)
    edit(tmp_path, ("1 // x", "1 // (x or 1)"))
    told = penstock(tmp_path, "resume", "last", "--workers", "1", code=1)
    assert "error[code-changed]" in told
    assert "fit finished with the code of then" in told


def test_why_compares_with_the_attempt_before_the_resume(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    penstock(tmp_path, "run", "flow.py", "--workers", "1", code=1)
    penstock(tmp_path, "resume", "last", "--workers", "1", code=1)
    found = facts(tmp_path, "why", "last", "fit")
    assert found["compared_with"] == found["run"]
    assert "before the run was resumed did not finish (failed); nothing changed since" in found["why"]


def test_what_no_fingerprint_sees_is_told_by_plan_why_and_show(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    edit(
        tmp_path,
        ('raise ValueError("no")', "return x"),
        ("    return x\n", "    open('flow.py').close()\n    return x\n"),
    )
    said = "reads environment variable TOWN"
    for words in (("plan", "flow.py"), ("run", "flow.py", "--workers", "1"), ("plan", "flow.py")):
        told = penstock(tmp_path, *words)
        if words[0] == "plan":
            assert "cannot be seen: flow.py:" in told
            assert said in told
            assert "CITY" not in told
            assert told.count("open opens a file") == 1  # `fit`; `note` is never a hit
    for command in ("why", "show"):
        told = penstock(tmp_path, command, "last", "fit")
        assert "cannot be seen" in told
        assert said in told
        assert "CITY" not in told
        found = facts(tmp_path, command, "last", "fit")
        assert any(said in each for each in (found[0] if command == "show" else found)["unseen"])
