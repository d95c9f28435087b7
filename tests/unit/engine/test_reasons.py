"""What a table that changed is said to have become."""

from __future__ import annotations

import pytest

from penstock.engine.reasons import _table_pair
from penstock.ports.statistics import ColumnStatistics, TableStatistics


def table(mean: float, std: float) -> TableStatistics:
    return TableStatistics(100, (ColumnStatistics("ab", "double", mean=mean, std=std, minimum=-8.0),))


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (0.009, 2.0, "std of ab 1 → 2"),
        (0.5, 1.0, "mean of ab 0.009 → 0.5"),
        (0.009, 1.001, "other values, with nearly the same statistics of ab"),
        (0.009, 1.0, "other values, with the same statistics"),
    ],
)
def test_a_spread_that_changed_is_told_like_a_mean_that_moved(mean: float, std: float, text: str) -> None:
    assert _table_pair("load", "output", table(0.009, 1.0), table(mean, std)).text == text
