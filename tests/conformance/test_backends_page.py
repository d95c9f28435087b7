"""docs/backends.md is about this code, and says what its results say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def conformance(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.testing.conformance", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_the_committed_page_is_about_this_code_or_it_is_time_to_run_make_conformance() -> None:
    told = conformance("--check", "--output", "docs/backends.md")
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_page_that_somebody_wrote_into_or_of_other_code_is_told(tmp_path: Path) -> None:
    page, results = tmp_path / "backends.md", tmp_path / "backends.json"
    shutil.copyfile(ROOT / "docs" / "backends.json", results)
    page.write_text((ROOT / "docs" / "backends.md").read_text(encoding="utf-8") + "Airflow keeps everything.\n")
    told = conformance("--check", "--output", str(page))
    assert told.returncode == 1
    assert "it is not what backends.json says" in told.stdout
    assert conformance("--render", "--output", str(page)).returncode == 0
    assert page.read_text(encoding="utf-8") == (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    content = json.loads(results.read_text(encoding="utf-8"))
    content["engines"]["local"]["code"]["engine"] = "0" * 12
    results.write_text(json.dumps(content), encoding="utf-8")
    assert (
        "local: the code of engine has changed since it was tried"
        in conformance("--check", "--output", str(page)).stdout
    )
