"""Tables at a step's boundary: good rows pass as the model says, bad rows leave with every reason, too many stop it."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Annotated, Any

import pandas
import pandera.pandas as pa
import pandera.polars as pp
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.typing import DataFrame
from pandera.typing.polars import DataFrame as PolarsFrame

from penstock.core.errors import InvalidDataError
from penstock.data import boundary_checks
from penstock.data.schemas import PanderaCheck
from penstock.graph import Quarantine
from penstock.ports.boundary import Checked

WHERE = "step 'clean', input 'cells'"


class Cells(pa.DataFrameModel):
    radius: float = pa.Field(ge=0)
    count: int
    kind: str = pa.Field(isin=["x", "y"])
    seen: bool

    class Config:
        coerce = True
        strict = True

    @pa.dataframe_check
    def small(cls, table: pandas.DataFrame) -> pandas.Series:  # type: ignore[type-arg]
        return table["radius"] < 100


class Uncoerced(pa.DataFrameModel):
    radius: float = pa.Field(ge=0)
    count: int = pa.Field(unique=True)


CLEAN = "radius,count,kind,seen\n1.5,2,x,True\n9,8,y,False\n"
DIRTY = """radius,count,kind,seen
1.5,2,x,True
-1,3,y,False
abc,4,x,True
,5,q,maybe
200,6,x,True
7,,y,False
8,1.5,x,False
9,8,y,False
"""


def table(text: str) -> pandas.DataFrame:
    return pandas.read_csv(io.StringIO(text))


def checked(value: Any, annotation: Any, policy: Quarantine | None = None) -> Checked:
    (check,) = [each for each in boundary_checks() if each.handles(annotation)]
    return check.check(value, annotation, where=WHERE, policy=policy)


def refused(value: Any, annotation: Any, policy: Quarantine | None = None) -> str:
    with pytest.raises(InvalidDataError) as caught:
        checked(value, annotation, policy)
    return str(caught.value)


def test_good_rows_pass_coerced_as_the_model_says() -> None:
    value = table(CLEAN).astype({"count": float})
    result = checked(value, DataFrame[Cells])
    assert (result.rows, result.bad_rows, result.quarantined) == (2, 0, None)
    assert [str(dtype) for dtype in result.value.dtypes] == ["float64", "int64", "str", "bool"]
    assert str(value["count"].dtype) == "float64"  # the step's caller keeps its own table


def test_bad_rows_leave_with_their_original_values_labels_and_every_reason() -> None:
    result = checked(table(DIRTY), DataFrame[Cells], Quarantine())
    assert result.value.index.tolist() == [0, 7]
    assert [str(dtype) for dtype in result.value.dtypes] == ["float64", "int64", "str", "bool"]
    assert result.value["seen"].tolist() == [True, False]
    assert (result.rows, result.bad_rows) == (8, 6)
    bad = result.quarantined
    assert bad["reasons"].to_dict() == {
        1: "radius: greater_than_or_equal_to(0) (got -1.0)",
        2: "radius: not a number (got 'abc')",
        3: "seen: not true or false (got 'maybe'); radius: missing; kind: isin(['x', 'y']) (got 'q')",
        4: "small",
        5: "count: missing",
        6: "count: not a whole number (got 1.5)",
    }
    assert bad.drop(columns="reasons").equals(table(DIRTY).iloc[1:7])


def test_without_a_policy_every_kind_of_bad_row_is_listed() -> None:
    assert refused(table(DIRTY), DataFrame[Cells]) == (
        "step 'clean', input 'cells': 6 of 8 rows break Cells (rows count from 0)\n"
        "  radius: greater_than_or_equal_to(0): 1 row (row 1 has -1.0)\n"
        "  radius: not a number: 1 row (row 2 has 'abc')\n"
        "  seen: not true or false: 1 row (row 3 has 'maybe')\n"
        "  radius: missing: 1 row (row 3)\n"
        "  kind: isin(['x', 'y']): 1 row (row 3 has 'q')\n"
        "  small: 1 row (row 4)\n"
        "  count: missing: 1 row (row 5)\n"
        "  count: not a whole number: 1 row (row 6 has 1.5)\n"
        "  hint: fix the data, or set bad rows aside: @step(on_invalid=Quarantine(max_fraction=0.05))"
    )


def test_too_many_bad_rows_stop_the_step() -> None:
    assert checked(table(DIRTY), DataFrame[Cells], Quarantine(max_fraction=0.75)).bad_rows == 6
    assert checked(table(DIRTY), DataFrame[Cells], Quarantine(max_rows=6)).bad_rows == 6
    text = refused(table(DIRTY), DataFrame[Cells], Quarantine(max_fraction=0.5))
    assert text.splitlines()[0] == (
        "step 'clean', input 'cells': 6 of 8 rows break Cells, more than the quarantine's max_fraction=0.5 "
        "(rows count from 0)"
    )
    assert "radius: not a number: 1 row (row 2 has 'abc')" in text
    assert "max_rows=5" in refused(table(DIRTY), DataFrame[Cells], Quarantine(max_rows=5))


def test_a_wrong_shape_always_fails_and_names_near_columns() -> None:
    renamed = table(DIRTY).rename(columns={"radius": "radiu"})
    assert refused(renamed, DataFrame[Cells], Quarantine()) == (
        "step 'clean', input 'cells': not Cells\n"
        "  column 'radiu' is not in the model; did you mean 'radius'?\n"
        "  column 'radius' is missing; did you mean 'radiu'?"
    )
    assert refused([1], DataFrame[Cells]) == (
        "step 'clean', input 'cells': not Cells\n  expected a pandas DataFrame, got list"
    )


def test_a_text_column_in_a_model_that_does_not_coerce_names_the_culprit_and_the_way_out() -> None:
    assert refused(table(DIRTY), DataFrame[Uncoerced], Quarantine()) == (
        "step 'clean', input 'cells': not Uncoerced\n"
        "  column 'radius' is str (row 2 has 'abc'), expected float64, and the model does not coerce it\n"
        "  column 'count' is float64, expected int64, and the model does not coerce it\n"
        "  hint: with `class Config: coerce = True` in the model, values that do not fit become bad rows"
    )


def test_repeated_and_named_labels_are_kept_and_rows_are_told_apart() -> None:
    value = table(DIRTY)
    value.index = pandas.Index([5, 5, 6, 7, 8, 9, 9, 1], name="cell")
    result = checked(value, DataFrame[Cells], Quarantine())
    assert (result.value.index.tolist(), result.value.index.name) == ([5, 1], "cell")
    assert result.quarantined.index.tolist() == [5, 6, 7, 8, 9, 9]


def test_duplicates_are_bad_rows() -> None:
    value = pandas.DataFrame({"radius": [1.0, 2, -1, 3], "count": [1, 1, 2, 3]}, index=[7, 7, 7, 7])
    result = checked(value, DataFrame[Uncoerced], Quarantine())
    assert result.value["count"].tolist() == [3]
    assert result.quarantined["reasons"].tolist() == [
        "count: not unique (got 1)",
        "count: not unique (got 1)",
        "radius: greater_than_or_equal_to(0) (got -1.0)",
    ]


class Whole(pa.DataFrameModel):
    a: float = pa.Field(ge=0)

    class Config:
        coerce = True

    @pa.check("a")
    def low_mean(cls, column: pandas.Series) -> bool:  # type: ignore[type-arg]
        return bool(column.mean() < 10)


def test_a_check_of_the_whole_column_judges_the_rows_that_stay() -> None:
    assert checked(pandas.DataFrame({"a": ["1", "x", "-900"]}), DataFrame[Whole], Quarantine()).bad_rows == 2
    assert refused(pandas.DataFrame({"a": ["1", "x", "900"]}), DataFrame[Whole], Quarantine()) == (
        "step 'clean', input 'cells': not Whole\n  column 'a': low_mean failed"
    )


class Silent(pa.DataFrameModel):
    a: float = pa.Field(ge=0, n_failure_cases=1)

    class Config:
        drop_invalid_rows = True


def test_no_row_is_dropped_without_a_word_even_if_the_model_asks_for_it() -> None:
    value = pandas.DataFrame({"a": [1.0, -1.0, -2.0]})
    assert "2 of 3 rows break Silent" in refused(value, DataFrame[Silent])
    assert checked(value, DataFrame[Silent], Quarantine()).quarantined["a"].tolist() == [-1.0, -2.0]


def test_a_cell_of_mixed_types_is_kept_as_text_so_that_the_quarantine_can_be_stored(tmp_path: Any) -> None:
    value = pandas.DataFrame({"a": [1.0, "x", -2, None, [3]]})
    result = checked(value, DataFrame[Whole], Quarantine())
    assert result.quarantined["a"].tolist() == ["x", "-2", None, "[3]"]
    result.quarantined.to_parquet(tmp_path / "q.parquet")


class PolarsCells(pp.DataFrameModel):
    radius: float = pp.Field(ge=0)
    count: int

    class Config:
        coerce = True


def test_polars_tables_are_checked_the_same_way() -> None:
    value = polars.DataFrame({"radius": ["1.5", "-1", "abc", None, "2"], "count": [1.0, 2.0, 3.0, 4.0, 5.5]})
    for each in (value, value.lazy()):
        result = checked(each, PolarsFrame[PolarsCells], Quarantine())
        assert result.value.to_dicts() == [{"radius": 1.5, "count": 1}]
        assert result.quarantined["row"].to_list() == [1, 2, 3, 4]
        assert result.quarantined["reasons"].to_list() == [
            "radius: greater_than_or_equal_to(0) (got '-1')",
            "radius: not Float64 (got 'abc')",
            "radius: missing",
            "count: not a whole number (got 5.5)",
        ]


def test_an_annotation_is_recognised_through_annotated_and_unions() -> None:
    check = PanderaCheck()
    assert check.handles(DataFrame[Cells])
    assert check.handles(Annotated[DataFrame[Cells], "raw"])
    assert check.handles(DataFrame[Cells] | None)
    assert not any(check.handles(each) for each in (pandas.DataFrame, int, list[int], Any, None, "DataFrame[Cells]"))
    assert check.check(None, DataFrame[Cells] | None, where=WHERE, policy=None).value is None
    assert "expected a pandas DataFrame, got NoneType" in refused(None, DataFrame[Cells])


def test_saying_no_imports_no_validation_library() -> None:
    code = (
        "import sys\nfrom penstock.data import boundary_checks\n"
        "assert not any(each.handles(list[int]) for each in boundary_checks())\n"
        "print([m for m in ('pandas', 'pandera', 'great_expectations', 'fsspec', 'polars') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


CELL = st.one_of(
    st.floats(-10, 200).map(str),
    st.integers(-3, 3).map(str),
    st.sampled_from(["", "abc", "True", "nan", "1_0", " 2 "]),
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "radius": CELL,
                "count": CELL,
                "kind": st.sampled_from(["x", "y", "q", ""]),
                "seen": st.sampled_from(["True", "False", "", "maybe", "1"]),
            }
        ),
        min_size=1,
        max_size=12,
    ),
    labels=st.integers(1, 12),
)
def test_quarantine_partitions_the_rows_exactly(rows: list[dict[str, str]], labels: int) -> None:
    value = pandas.read_csv(io.StringIO(pandas.DataFrame(rows).to_csv(index=False)))
    value.index = pandas.Index([row % labels for row in range(len(value))])
    value["place"] = range(len(value))
    annotation = DataFrame[Placed]
    result = checked(value, annotation, Quarantine())
    good = result.value["place"].tolist()
    bad = result.quarantined["place"].tolist() if result.quarantined is not None else []
    assert sorted(good + bad) == list(range(len(value)))
    assert good == sorted(good)
    assert bad == sorted(bad)
    assert (result.rows, result.bad_rows) == (len(value), len(bad))
    if bad:
        assert all(result.quarantined["reasons"])
        assert result.quarantined.drop(columns="reasons").equals(value.iloc[bad])
    assert result.value.index.equals(value.index[good])
    again = checked(result.value, annotation)  # what stayed is valid, and stays as it is
    assert again.value.equals(result.value)


class Placed(Cells):
    place: int
