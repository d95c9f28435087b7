"""Statistics of stored tables: what pandas would say, in slices, bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ports.statistics import ColumnStatistics, TableStatistics
from penstock.stores import statistics as module
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs
from penstock.stores.statistics import of_table, statistics


def stored(folder: Path, value: Any) -> TableStatistics | None:
    store = ArtifactStore(open_blobs(str(folder / "blobs"), home=folder))
    return statistics(store, store.save(value))


FRAME = pd.DataFrame({"amount": [1.0, 2.0, 4.5, None], "n": [1, 2, 3, 4], "kind": ["a", "b", "a", None]})


@pytest.mark.parametrize("make", [lambda: FRAME, lambda: pl.from_pandas(FRAME), lambda: pa.Table.from_pandas(FRAME)])
def test_every_kind_of_table_has_the_same_statistics(tmp_path: Path, make: Any) -> None:
    found = stored(tmp_path, make())
    assert found is not None
    assert found.rows == 4
    amount, n, kind = found.columns
    assert (amount.nulls, amount.minimum, amount.maximum, amount.mean) == (1, 1.0, 4.5, 2.5)
    assert amount.std == pytest.approx(FRAME.amount.std())
    assert (n.mean, n.quantiles[2]) == (2.5, 2.5)
    assert (kind.nulls, kind.distinct, kind.top, kind.mean) == (1, 2, (("a", 2), ("b", 1)), None)


def test_an_array_has_a_column_per_column_and_other_values_have_none(tmp_path: Path) -> None:
    found = stored(tmp_path, np.array([[1.0, 10.0], [3.0, 30.0]]))
    assert found is not None
    assert [(each.name, each.mean) for each in found.columns] == [("[0]", 2.0), ("[1]", 20.0)]
    assert stored(tmp_path, np.zeros((2, 2, 2))) is None
    assert stored(tmp_path, {"a": 1}) is None


def test_a_table_whose_bytes_are_gone_has_no_statistics(tmp_path: Path) -> None:
    store = ArtifactStore(open_blobs(str(tmp_path / "blobs"), home=tmp_path))
    ref = store.save(FRAME)
    store.blobs.delete(ref.digest)
    assert statistics(store, ref) is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6) | st.none() | st.just(float("nan")), min_size=1, max_size=60))
def test_merging_slices_changes_nothing(values: list[float | None]) -> None:
    table = pa.table({"x": pa.array(values, pa.float64())})
    whole = of_table(table).columns[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLICE", 7)
        sliced = of_table(table).columns[0]
    known = pd.Series(values, dtype="float64").dropna()
    assert whole.nulls == sliced.nulls == len(values) - len(known)
    if len(known):
        assert sliced.mean == pytest.approx(known.mean(), abs=1e-6)
        assert sliced.std == pytest.approx(known.std() if len(known) > 1 else 0.0, abs=1e-4)
        assert (sliced.minimum, sliced.maximum) == (known.min(), known.max())


def test_infinite_numbers_do_not_hide_the_others(tmp_path: Path) -> None:
    found = of_table(pa.table({"x": [1.0, float("inf"), 3.0]})).columns[0]
    assert (found.mean, found.maximum) == (2.0, 3.0)


def test_more_distinct_values_than_are_kept_are_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_DISTINCT", 3)
    found = of_table(pa.table({"id": ["a", "b", "c", "d"]})).columns[0]
    assert found == ColumnStatistics("id", "string")


def test_dates_have_a_first_and_a_last(tmp_path: Path) -> None:
    days = pd.DataFrame({"day": pd.to_datetime(["2026-01-03", "2026-01-01"])})
    found = of_table(pa.Table.from_pandas(days)).columns[0]
    assert (str(found.minimum)[:10], str(found.maximum)[:10]) == ("2026-01-01", "2026-01-03")
