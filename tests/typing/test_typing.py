"""A type checker sees a user's pipeline as its author means it: real types, and mistakes on the line they are made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
Errors = dict[int, list[str]]


def checked_by(checker: str, *arguments: str) -> str:
    pytest.importorskip(checker)
    command = [sys.executable, "-m", checker, *arguments]
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    ).stdout


def mypy(file: Path, scratch: Path) -> Errors:
    told = checked_by("mypy", "--strict", "--show-error-codes", "--no-error-summary", "--no-pretty", str(file))
    errors: Errors = {}
    for line in told.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match is not None:
            assert Path(match[1]).name == file.name, line
            errors.setdefault(int(match[2]), []).append(match[3])
    return errors


def pyright(file: Path, scratch: Path) -> Errors:
    mode = "strict" if file.parent.name == "must_pass" else "standard"
    (scratch / file.name).write_bytes(file.read_bytes())  # it looks at files below its configuration only
    config = {"include": [file.name], "extraPaths": [str(ROOT / "src")], "typeCheckingMode": mode}
    (scratch / "pyrightconfig.json").write_text(json.dumps(config))
    told = checked_by("pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(scratch))
    if not told.startswith("{"):
        pytest.skip("pyright has no Node here: " + told[:100])
    report = json.loads(told)
    assert report["summary"]["filesAnalyzed"] == 1, told
    errors: Errors = {}
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            text = f"{each['message']} [{each.get('rule', '')}]"
            errors.setdefault(each["range"]["start"]["line"] + 1, []).append(text)
    return errors


CHECKERS = [pytest.param(0, mypy, id="mypy"), pytest.param(1, pyright, id="pyright")]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "checker"), CHECKERS)
@pytest.mark.parametrize("file", sorted((HERE / "must_pass").glob("*.py")), ids=lambda file: file.stem)
def test_a_correct_pipeline_passes(
    file: Path, place: int, checker: Callable[[Path, Path], Errors], tmp_path: Path
) -> None:
    assert checker(file, tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("place", "checker"), CHECKERS)
@pytest.mark.parametrize("file", sorted((HERE / "must_fail").glob("*.py")), ids=lambda file: file.stem)
def test_each_mistake_is_told_on_its_line_and_nothing_else_is(
    file: Path, place: int, checker: Callable[[Path, Path], Errors], tmp_path: Path
) -> None:
    expected = {
        number: match[1].split(" | ")[place]
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if (match := re.search(r"  # expect: (.+)$", line)) is not None
    }
    found = checker(file, tmp_path)
    assert set(found) == set(expected), found
    for number, text in expected.items():
        assert any(text in told for told in found[number]), (number, found[number])
