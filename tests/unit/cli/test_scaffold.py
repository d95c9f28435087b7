"""What `penstock init` writes is an example to follow: it must satisfy a strict type checker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.app import main


def test_the_scaffold_is_typed_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mything"]) == 0, capsys.readouterr()
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    told = subprocess.run(
        [*command, "pipeline.py", "test_pipeline.py"],
        cwd=tmp_path / "mything",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stdout + told.stderr
