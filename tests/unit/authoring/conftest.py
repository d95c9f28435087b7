"""User files, written where a user would have them, loaded as `penstock run` loads them, and forgotten again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from penstock.authoring.identity import load_file

WriteFile = Callable[..., ModuleType]


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteFile]:
    """Write a file below tmp_path, which is the working directory and the project, and import it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.toml").touch()
    path = list(sys.path)

    def write(source: str, name: str = "churn.py", *, load: bool = True) -> ModuleType:
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(source, encoding="utf-8")
        return load_file(str(place)) if load else ModuleType("unloaded")

    yield write
    sys.path[:] = path
    for known, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[known]
