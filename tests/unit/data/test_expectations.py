"""A Great Expectations suite stands where a pandera model stands: same good rows, same quarantine, same refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pandas
import pytest

from penstock.core.errors import InvalidDataError
from penstock.data import Expectations, boundary_checks
from penstock.data.expectations import ExpectationsCheck, _library
from penstock.graph import Quarantine
from penstock.ports.boundary import Checked
from penstock.ports.context import CURRENT, Context

WHERE = "step 'clean', input 'cells'"
SUITE: dict[str, Any] = {
    "name": "cells",
    "expectations": [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "radius", "min_value": 0, "max_value": 100},
        },
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "radius"}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "kind", "value_set": ["x", "y"]}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "radius", "max_value": 50}},
    ],
}
DIRTY = pandas.DataFrame(
    {"radius": ["1.5", "-1", "abc", None, "200", "7"], "kind": ["x", "y", "q", "q", "x", "y"]}, index=[3, 3, 4, 5, 6, 7]
)


def checked(value: Any, suite: Any, policy: Quarantine | None = None) -> Checked:
    annotation = Annotated[pandas.DataFrame, Expectations(suite)]
    (check,) = [each for each in boundary_checks() if each.handles(annotation)]
    return check.check(value, annotation, where=WHERE, policy=policy)


def refused(value: Any, suite: Any, policy: Quarantine | None = None) -> str:
    with pytest.raises(InvalidDataError) as caught:
        checked(value, suite, policy)
    return str(caught.value)


def test_bad_rows_leave_with_their_original_values_labels_and_every_reason(capfd: pytest.CaptureFixture[str]) -> None:
    result = checked(DIRTY, SUITE, Quarantine())
    assert result.value["radius"].tolist() == [1.5, 7]
    assert result.value.index.tolist() == [3, 7]
    assert (result.rows, result.bad_rows) == (6, 4)
    between = "radius: expect_column_values_to_be_between(min_value=0.0, max_value=100.0)"
    assert result.quarantined["reasons"].tolist() == [
        f"{between} (got -1.0)",
        "radius: not a number (got 'abc'); kind: expect_column_values_to_be_in_set(value_set=['x', 'y']) (got 'q')",
        "radius: expect_column_values_to_not_be_null; kind: expect_column_values_to_be_in_set(value_set=['x', 'y']) "
        "(got 'q')",
        f"{between} (got 200.0)",
    ]
    assert result.quarantined.drop(columns="reasons").equals(DIRTY.iloc[1:5])
    assert capfd.readouterr() == ("", "")  # no progress bars


def test_the_suite_may_be_an_object_a_dict_or_a_json_file_and_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(SUITE))
    built = _library().ExpectationSuite(**SUITE)
    before = built.to_json_dict()
    for suite in (SUITE, str(path), path, built):
        assert checked(DIRTY, suite, Quarantine()).bad_rows == 4
    step = Context()
    token = CURRENT.set(step)
    checked(DIRTY, path, Quarantine())
    CURRENT.reset(token)
    assert [(each.kind, each.name) for each in step.observations] == [("file", str(path))]
    assert built.to_json_dict() == before


def test_without_a_policy_every_kind_of_bad_row_is_listed() -> None:
    assert refused(DIRTY, SUITE) == (
        "step 'clean', input 'cells': 4 of 6 rows break cells (rows count from 0)\n"
        "  radius: expect_column_values_to_be_between(min_value=0.0, max_value=100.0): 2 rows "
        "(row 1 has -1.0, row 4 has 200.0)\n"
        "  kind: expect_column_values_to_be_in_set(value_set=['x', 'y']): 2 rows (row 2 has 'q', row 3 has 'q')\n"
        "  radius: not a number: 1 row (row 2 has 'abc')\n"
        "  radius: expect_column_values_to_not_be_null: 1 row (row 3)\n"
        "  hint: fix the data, or set bad rows aside: @step(on_invalid=Quarantine(max_fraction=0.05))"
    )
    assert "more than the quarantine's max_rows=1" in refused(DIRTY, SUITE, Quarantine(max_rows=1))


def test_a_missing_column_and_a_failed_whole_always_stop_the_step() -> None:
    assert refused(DIRTY.rename(columns={"radius": "radiu"}), SUITE, Quarantine()) == (
        "step 'clean', input 'cells': not cells\n  column 'radius' is missing; did you mean 'radiu'?"
    )
    high = pandas.DataFrame({"radius": [60.0, 70.0, 500.0], "kind": ["x", "x", "x"]})
    assert refused(high, SUITE, Quarantine()) == (
        "step 'clean', input 'cells': not cells\n"
        "  column 'radius': expect_column_mean_to_be_between(max_value=50.0) failed: observed 65.0"
    )


def test_what_mostly_holds_leaves_its_exceptions_in() -> None:
    suite = {
        "name": "mostly",
        "expectations": [
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0, "mostly": 0.5}}
        ],
    }
    assert checked(pandas.DataFrame({"a": [1, 2, -1]}), suite).bad_rows == 0
    assert checked(pandas.DataFrame({"a": [1, -2, -1]}), suite, Quarantine()).bad_rows == 2


def test_a_suite_that_is_not_there_or_not_one_is_explained(tmp_path: Path) -> None:
    (tmp_path / "cells.json").write_text("{half")
    assert refused(DIRTY, tmp_path / "cell.json") == (
        f"{WHERE}: there is no suite '{tmp_path}/cell.json'\n  hint: did you mean 'cells.json'?"
    )
    assert f"'{tmp_path}/cells.json' is not a suite" in refused(DIRTY, tmp_path / "cells.json")
    unknown = {"name": "odd", "expectations": [{"type": "expect_wonders", "kwargs": {}}]}
    assert "the suite 'odd' holds expectations that Great Expectations does not accept: expect_wonders" in refused(
        DIRTY, unknown
    )


def test_an_annotation_is_recognised_through_unions_and_others_are_not() -> None:
    check = ExpectationsCheck()
    annotation = Annotated[pandas.DataFrame, Expectations(SUITE)] | None
    assert check.handles(annotation)
    assert check.check(None, annotation, where=WHERE, policy=None).value is None
    assert not any(check.handles(each) for each in (pandas.DataFrame, Annotated[pandas.DataFrame, "x"], int, None))
