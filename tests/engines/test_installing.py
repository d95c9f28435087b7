"""An engine that cannot be had is a failure, every time; one that is there costs a look at its stamp."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engines import installing
from engines.places import CHECKOUT, home


def engines(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engines", *arguments], cwd=checkout, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A checkout where nothing is installed yet."""
    shutil.copytree(CHECKOUT / "engines", tmp_path / "engines", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_an_engine_that_cannot_be_downloaded_fails_by_name_and_is_not_taken_for_installed_the_next_time(
    elsewhere: Path,
) -> None:
    for _ in range(2):
        done = engines(elsewhere, "install", "kubeflow", UV_OFFLINE="1", UV_CACHE_DIR=str(elsewhere / "cache"))
        assert done.returncode == 1
        assert "kubeflow.txt" in done.stderr
        assert "exit code" in done.stderr
    assert "kfp 2" not in engines(elsewhere, "versions").stdout


def test_starting_what_is_not_installed_says_what_to_do(elsewhere: Path) -> None:
    done = engines(elsewhere, "start", "prefect")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Prefect is not installed here")
    assert "hint: make engines" in done.stderr


def test_an_engine_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = engines(CHECKOUT, "install", "dagster")
    assert done.returncode == 2
    assert "no such engine: dagster (there are airflow, prefect, kubeflow, cluster, podman)" in done.stderr


@pytest.mark.parametrize("name", ["airflow", "prefect", "kubeflow"])
def test_an_engine_that_is_there_is_left_as_it_is(name: str) -> None:
    stamp = home(name) / "installed"
    before = stamp.stat().st_mtime_ns
    said: list[str] = []
    installing.install([name], said.append)
    assert len(said) == 1
    assert said[0].startswith(f"{name}: is there")
    assert stamp.stat().st_mtime_ns == before
