"""A disk that is full: whose trouble it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from penstock.core.errors import ArtifactError, StoreUnavailableError
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs


@pytest.mark.parametrize(
    "value",
    ["x" * 100_000, b"x" * 100_000, np.zeros(100_000), pl.DataFrame({"n": np.zeros(100_000)})],
    ids=["text", "bytes", "array", "table"],
)
def test_a_disk_that_takes_no_more_is_the_stores_trouble_not_the_steps(tmp_path: Path, value: Any) -> None:
    import resource

    store = ArtifactStore(open_blobs(str(tmp_path / "artifacts"), home=tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StoreUnavailableError) as caught:
            store.save(value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"the artifact store at {store.blobs.url} cannot be written" in caught.value.problem
    assert caught.value.hint is not None
    assert store.load(store.save(value)) is not None


def test_a_users_own_file_error_stays_the_users(tmp_path: Path) -> None:
    store = ArtifactStore(open_blobs(str(tmp_path / "artifacts"), home=tmp_path))
    with pytest.raises(ArtifactError, match="no such file"):
        store.save(tmp_path / "nowhere")
