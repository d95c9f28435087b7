"""What a test with real processes runs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .engine_lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as found:
        yield found
