"""The lock of the registry in a project's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.core.errors import RegistryError
from penstock.tracking.connecting import file_lock


def test_who_waits_for_a_process_that_never_lets_go_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.lock"
    said = r"another process has held .*mlflow\.lock for more than 0 s"
    with file_lock(path), pytest.raises(RegistryError, match=said), file_lock(path, patience_s=0):
        raise AssertionError("two hold it")
    with file_lock(path, patience_s=0):
        pass
