"""A request becomes exactly the model's columns, or is refused with its row and column named."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.ports.models import Column
from penstock.serving.rows import RequestError, RowReader

READER = RowReader(
    (
        Column("mean radius", "double"),
        Column("visits", "long"),
        Column("plan", "string"),
        Column("spend", "double", optional=True),
        Column("active", "boolean"),
    ),
    max_rows=3,
)
GOOD = {"mean radius": 1.5, "visits": 2, "plan": "a", "spend": None, "active": True}


def body(*rows: object) -> bytes:
    return json.dumps({"rows": list(rows)}).encode()


def refusal(content: bytes, reader: RowReader = READER) -> RequestError:
    with pytest.raises(RequestError) as caught:
        reader.read(content)
    return caught.value


def test_columns_come_in_the_models_order_and_others_are_dropped() -> None:
    shuffled = {"extra": [1], **dict(reversed(GOOD.items()))}
    table = READER.read(body(shuffled))
    assert list(table.columns) == ["mean radius", "visits", "plan", "spend", "active"]
    assert [str(each) for each in table.dtypes] == ["float64", "int64", "str", "float64", "bool"]


def test_rows_keep_their_order() -> None:
    table = READER.read(body(*(GOOD | {"visits": each} for each in (3, 1, 2))))
    assert table["visits"].tolist() == [3, 1, 2]


def test_a_whole_number_is_a_number() -> None:
    assert READER.read(body(GOOD | {"mean radius": 3}))["mean radius"].tolist() == [3.0]


def test_the_table_form_is_the_same_request() -> None:
    columns = [*GOOD, "extra"]
    content = json.dumps({"columns": columns, "data": [[*GOOD.values(), 9]]}).encode()
    assert READER.read(content).equals(READER.read(body(GOOD)))


def test_null_is_accepted_only_where_the_model_saw_missing_values() -> None:
    assert math.isnan(READER.read(body(GOOD))["spend"][0])
    without = {name: value for name, value in GOOD.items() if name != "spend"}
    assert math.isnan(READER.read(body(without))["spend"][0])
    said = refusal(body(GOOD, GOOD | {"visits": None}))
    assert (said.status, said.kind) == (422, "bad_values")
    assert said.problem == "row 1, column 'visits': null, but the model was fitted without missing values here"


def test_missing_columns_are_all_named_with_what_is_near() -> None:
    said = refusal(body({"mean_radius": 1.0, "plan": "a", "active": True}))
    assert (said.status, said.kind) == (422, "missing_columns")
    assert said.problem == "row 0 has no column 'mean radius', 'visits'"
    assert said.hint == "did you mean 'mean_radius'?"


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("mean radius", "abc", "expected a number, got the text 'abc'"),
        ("mean radius", True, "expected a number, got true"),
        ("visits", 1.5, "expected a whole number of 64 bits, got the number 1.5"),
        ("visits", 2**63, f"expected a whole number of 64 bits, got the number {2**63}"),
        ("plan", 3, "expected text, got the number 3"),
        ("plan", ["a"], "expected text, got a list"),
        ("active", 1, "expected true or false, got the number 1"),
        ("spend", {}, "expected a number, got an object"),
    ],
)
def test_a_wrong_type_names_its_row_and_column(column: str, value: object, problem: str) -> None:
    said = refusal(body(GOOD, GOOD | {column: value}))
    assert said.status == 422
    assert said.problem == f"row 1, column '{column}': {problem}"
    assert said.details == ({"row": 1, "column": column, "problem": problem},)


@pytest.mark.parametrize(
    ("content", "status", "problem"),
    [
        (b"", 400, "is not JSON"),
        (b"{", 400, "is not JSON"),
        (b"\xff\xfe", 400, "is not JSON"),
        (b'{"rows": [{"mean radius": NaN}]}', 400, "is not JSON"),
        (b"[" * 100_000, 400, "is not JSON"),
        (b"[]", 422, "the request is a list"),
        (b'"rows"', 422, "the request is the text 'rows'"),
        (b"{}", 422, "has no 'rows'"),
        (b'{"rows": 3}', 422, "'rows' is the number 3"),
        (b'{"rows": [[1]]}', 422, "row 0 is a list"),
        (b'{"columns": ["a"], "data": [[1, 2]]}', 422, "row 0 has 2 values for 1 columns"),
        (b'{"columns": ["a", "a"], "data": []}', 422, "a column is named twice"),
        (b'{"columns": [1], "data": []}', 422, "Expected `str`"),
    ],
)
def test_what_is_no_request_is_refused_in_words(content: bytes, status: int, problem: str) -> None:
    said = refusal(content)
    assert said.status == status
    assert problem in said.problem


def test_nan_is_explained() -> None:
    assert "send null" in str(refusal(b'{"rows": [{"mean radius": NaN}]}').hint)


def test_too_many_rows_are_refused_in_either_form() -> None:
    assert refusal(body(*[GOOD] * 4)).status == 413
    assert refusal(json.dumps({"columns": list(GOOD), "data": [list(GOOD.values())] * 4}).encode()).status == 413


def test_an_empty_request_is_an_empty_table() -> None:
    assert READER.read(body()).shape == (0, 5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "rows", "data"]), inner),
    max_leaves=8,
)


@given(JSON | st.fixed_dictionaries({"rows": st.lists(st.fixed_dictionaries(dict.fromkeys(GOOD, JSON)))}))
def test_any_json_is_a_table_or_a_refusal(request_json: object) -> None:
    columns, refused = list(GOOD), None
    try:
        columns = list(READER.read(json.dumps(request_json).encode()).columns)
    except RequestError as error:
        refused = error
    assert columns == list(GOOD)
    assert refused is None or (refused.status in (400, 413, 422) and refused.problem)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_table_or_a_refusal(content: bytes) -> None:
    with pytest.raises(RequestError):
        READER.read(content)
