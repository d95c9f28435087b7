"""Two values side by side: what counts as equal, by type, and where they differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from penstock.ports.agreement import EXACT, Agreement, Tolerance, Verdict
from penstock.stores import agreement
from penstock.stores.agreement import compare, compare_stored
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs

Make = Callable[[Any], Any]
# How each kind of value holds one number, and what the number's place is called.
HOLDERS: dict[str, tuple[Make, str]] = {
    "json": (lambda x: {"auc": [0.5, x]}, "['auc'][1]"),
    "array": (lambda x: np.array([[0.5, 1.5], [2.5, x]]), "[1, 1]"),
    "scalar": (np.float64, ""),
    "pandas": (lambda x: pd.DataFrame({"n": [1, 2], "amount": [0.5, x]}), "column 'amount', row 1"),
    "series": (lambda x: pd.Series([0.5, x]), "column 'value', row 1"),
    "polars": (lambda x: pl.DataFrame({"n": [1, 2], "amount": [0.5, x]}), "column 'amount', row 1"),
    "arrow": (lambda x: pa.table({"amount": [0.5, x]}), "column 'amount', row 1"),
    "nulls": (lambda x: pa.table({"amount": [None, x]}), "column 'amount', row 1"),
    "tuple of tables": (lambda x: (1, pd.DataFrame({"amount": [x]})), "[1] column 'amount', row 0"),
}


@pytest.mark.parametrize("kind", HOLDERS)
def test_numbers_are_equal_within_the_tolerance_of_their_type_and_different_beyond_it(kind: str) -> None:
    make, place = HOLDERS[kind]
    near = compare(make(10.0), make(10.0 + 1e-12), Tolerance())
    assert near.verdict is Verdict.EQUAL
    assert near.max_abs == pytest.approx(1e-12, rel=0.2)
    far = compare(make(10.0), make(10.5), Tolerance())
    assert (far.verdict, far.where, far.count) == (Verdict.DIFFERENT, place, 1)
    assert far.max_abs == 0.5
    assert compare(make(10.0), make(10.5), Tolerance(atol=0.5)).verdict is Verdict.EQUAL
    assert compare(make(10.0), make(10.5), Tolerance(rtol=0.05)).verdict is Verdict.EQUAL
    assert compare(make(10.0), make(10.0 + 1e-12), EXACT).verdict is Verdict.DIFFERENT
    assert compare(make(float("nan")), make(float("nan")), EXACT).verdict is Verdict.EQUAL
    assert compare(make(float("nan")), make(1.0), Tolerance(rtol=9.0)).verdict is Verdict.DIFFERENT
    assert compare(make(float("inf")), make(float("-inf")), Tolerance(rtol=9.0)).verdict is Verdict.DIFFERENT


def test_a_number_of_32_bits_is_held_to_what_32_bits_can_say() -> None:
    def of(kind: str) -> Agreement:
        return compare(np.array([1.0], kind), np.array([1.0 + 1e-6], kind), Tolerance())

    assert (of("f4").verdict, of("f8").verdict) == (Verdict.EQUAL, Verdict.DIFFERENT)


@pytest.mark.parametrize(
    ("left", "right", "place", "told"),
    [
        ({"a": 1}, {"a": 2}, "['a']", "1 → 2"),
        ([1, 2], [1], "", "2 → 1 elements"),
        ({"a": 1}, {"b": 1}, "", "'a' is gone, 'b' is new"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "", "the same keys in another order"),
        (1, 1.0, "", "a int → a float"),
        (True, 1, "", "a bool → a int"),
        (np.array([1, 2]), np.array([1, 4]), "[1]", "2 → 4"),
        (np.array([1]), np.array([1], "i2"), "", "int64[1] → int16[1]"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), "", "column 'a' is gone, column 'b' is new"),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1, 2]}), "", "1 → 2 rows"),
        (pd.DataFrame({"a": ["x", "y"]}), pd.DataFrame({"a": ["x", "z"]}), "column 'a', row 1", "'y' → 'z'"),
        (pa.table({"a": ["x"]}), pa.table({"a": ["z"]}), "column 'a', row 0", "'x' → 'z'"),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1.0]}), "column 'a'", "int64 → double"),
    ],
)
def test_what_is_no_floating_point_number_must_be_equal_exactly(left: Any, right: Any, place: str, told: str) -> None:
    found = compare(left, right, Tolerance(rtol=1.0, atol=1e9))
    assert (found.verdict, found.where, found.text) == (Verdict.DIFFERENT, place, told)


def test_missing_values_are_equal_to_missing_values_only() -> None:
    for make in (lambda *x: pd.DataFrame({"a": x}), lambda *x: pd.DataFrame({"a": pd.array(x, "string")})):
        assert compare(make("x", None), make("x", None), EXACT).verdict is Verdict.EQUAL
        assert compare(make("x", None), make("x", "y"), EXACT).verdict is Verdict.DIFFERENT
    late = np.array(["2026-01-01", "NaT"], "M8[s]")
    assert compare(late, late.copy(), EXACT).verdict is Verdict.EQUAL


def test_models_are_compared_by_what_they_learned() -> None:
    rows, labels = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    one, other = LogisticRegression().fit(rows, labels), LogisticRegression().fit(rows, labels)
    other.coef_ = other.coef_ + 1e-13
    assert compare(one, other, Tolerance()).verdict is Verdict.EQUAL
    other.coef_ = other.coef_ + 0.1
    found = compare(one, other, Tolerance())
    assert (found.verdict, found.where, found.count) == (Verdict.DIFFERENT, "coef_[0, 0]", 3)
    forests = [RandomForestClassifier(n_estimators=3, random_state=seed).fit(rows, labels) for seed in (1, 1, 2)]
    assert compare(forests[0], forests[1], EXACT).verdict is Verdict.EQUAL
    assert compare(forests[0], forests[2], Tolerance()).verdict is Verdict.DIFFERENT


def test_files_and_folders_are_compared_byte_by_byte(tmp_path: Path) -> None:
    for name, content in (("a", "one\ntwo\n"), ("b", "one\ntwO\n"), ("c", "one\ntwo\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lines.txt").write_text(content)
    assert compare(tmp_path / "a", tmp_path / "c", EXACT).verdict is Verdict.EQUAL
    found = compare(tmp_path / "a", tmp_path / "b", Tolerance(rtol=1.0))
    assert (found.where, found.text) == ("lines.txt", "its bytes differ from byte 6 on")


def test_differences_in_later_slices_are_found_with_their_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_ROWS", 4)
    numbers = np.arange(11.0)
    other = numbers.copy()
    other[[6, 9]] += 1
    for make, place in (
        (lambda x: x, "[6]"),
        (lambda x: pd.DataFrame({"a": x}), "column 'a', row 6"),
        (lambda x: pa.table({"a": x}), "column 'a', row 6"),
    ):
        found = compare(make(numbers), make(other), Tolerance())
        assert (found.where, found.count) == (place, 2)


ATOMS = st.none() | st.integers() | st.floats() | st.text()


@given(st.recursive(ATOMS, lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_every_value_is_exactly_equal_to_a_copy_of_itself(value: Any) -> None:
    import copy

    assert compare(value, copy.deepcopy(value), EXACT).verdict is Verdict.EQUAL


def test_stored_values_are_compared_across_stores_and_a_lost_one_is_told(tmp_path: Path) -> None:
    stores = [ArtifactStore(open_blobs(str(tmp_path / name), home=tmp_path / name)) for name in "ab"]
    frames = [pd.DataFrame({"a": [1.0, x]}) for x in (2.0, 2.0, 3.0)]
    left, same, other = stores[0].save(frames[0]), stores[1].save(frames[1]), stores[1].save(frames[2])
    assert compare_stored(left, same, *stores, Tolerance()).verdict is Verdict.IDENTICAL
    assert compare_stored(left, other, *stores, Tolerance()).where == "column 'a', row 1"
    stores[1].blobs.delete(other.digest)
    assert compare_stored(left, other, *stores, Tolerance()).verdict is Verdict.UNKNOWN
