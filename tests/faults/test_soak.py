"""The soak: its report is about this code, and a seeded sample of it holds here and now."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from penstock.testing.codedigest import shape

from ..conformance import postgres

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ("--seed", "309", "--kills", "12")  # six cells, every kind of blow


def soak(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "soak", *words], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """soak.code and soak.report; the package lies beside the tests, not in what is installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    import soak.code
    import soak.report

    return soak.code, soak.report


def test_the_committed_report_is_about_this_code_or_it_is_time_to_run_make_soak() -> None:
    told = soak("--check")
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.slow
def test_a_seeded_sample_of_kills_in_every_cell_ends_as_the_calm_run_does() -> None:
    if postgres.binaries() is None:
        pytest.skip("missing capability: a PostgreSQL server (initdb and postgres) on this machine")
    told = soak(*SAMPLE, "--no-page")
    assert told.returncode == 0, told.stdout + told.stderr
    (kills, runs) = re.findall(r"^\*\*(\d+) kills\*\* .* in (\d+) runs, 0 laws broken", told.stdout, re.MULTILINE)[0]
    assert int(kills) >= 12
    assert int(runs) >= 6


def test_a_report_of_other_code_of_too_few_kills_or_of_a_broken_law_is_refused(
    parts: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, report = parts
    table = "\n".join(f"| `{room}` | `{digest}` |" for room, digest in code.digests().items())
    good = f"**300 kills** and 40 restarts of PostgreSQL in 200 runs, 0 laws broken.\n\n{table}\n"
    page = tmp_path / "soak.md"
    monkeypatch.setattr(report, "PAGE", page)
    assert report.stale() == "soak.md is missing"
    other = code.digests()["engine"]
    for text, why in (
        (good, None),
        (good.replace(other, "0" * 12), "the code of engine has changed since it was soaked"),
        (good.replace("**300", "**60"), "it tells of 60 kills, not of 300"),
        (good.replace("0 laws", "2 laws"), "2 laws were broken"),
    ):
        page.write_text(text)
        assert report.stale() == why


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("def f():\n    'says'\n    return 1  # one", "def f(): return 1", True),
        ("x = {'a': 1}", "x = {\n    'a': 1,\n}", True),
        ("x = 1", "x = 2", False),
        ("x = 1", "x = True", False),
        ("x = 1", "x = 'int:1'", False),
        ("x = f(1)", "x = f(1, 1)", False),
        ("a = b", "b = a", False),
    ],
)
def test_what_a_digest_sees_is_the_meaning_of_code_not_its_words(before: str, after: str, same: bool) -> None:
    assert (shape(ast.parse(before)) == shape(ast.parse(after))) is same
