"""What is known of a run under kfp.local from the files that its process leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from penstock.backends.kubeflow.here import Here
from penstock.ports.backend import Places
from penstock.ports.records import RunState


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(Places(work=str(tmp_path)), tmp_path, tmp_path / "local.py")


def test_a_run_that_nobody_started_here_is_not_taken_for_a_running_one(here: Here) -> None:
    told = here.state("churn-1")
    assert told.state is RunState.INTERRUPTED
    assert "churn-1" in told.note


def test_a_run_whose_starter_was_killed_before_it_had_a_process_is_over_after_a_while(
    here: Here, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "churn-1"
    folder.mkdir(parents=True)
    assert here.state("churn-1").state is RunState.RUNNING
    os.utime(folder, (time.time() - 3600,) * 2)
    told = here.state("churn-1")
    assert told.state is RunState.FAILED
    assert "left no log" in told.note
