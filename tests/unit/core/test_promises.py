"""What plain annotations promise: shallow, and lenient where Python and numpy are."""

from __future__ import annotations

import timeit
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict

import numpy as np
import pandas as pd
import pytest

from penstock.core.promises import keeps, promised, shown

Depth = NewType("Depth", int)


class Pair(NamedTuple):
    left: int
    right: int


class Row(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (int, np.int64(3)),
        (int, np.bool_(True)),
        (float, 3),
        (float, np.float32(3)),
        (float, np.int8(3)),
        (float, Fraction(1, 3)),
        (complex, np.complex64(3)),
        (bool, np.float64(3) > 2),
        (str, np.str_("a")),
        (bytes, bytearray(b"a")),
        (list[str], [1]),  # shallow
        (dict[str, int], OrderedDict()),
        (tuple[int, ...], Pair(1, 2)),
        (set[int], {1}),
        (None, None),
        (int | None, None),
        (Optional[list[str]], None),  # noqa: UP045 - the older form
        (Annotated[int, "metres"], 3),
        (Depth, 3),
    ],
)
def test_what_python_and_numpy_take_for_it_is_taken(annotation: Any, value: object) -> None:
    assert keeps(value, promised(annotation))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[str], "abc"),
        (list[float], (1.0,)),
        (list[float], np.zeros(3)),
        (dict[str, int], [("a", 1)]),
        (int, 3.0),
        (int, "3"),
        (int, None),
        (float, "3"),
        (float, Decimal(3)),
        (bool, 1),
        (str, Path("a")),
        (str, b"a"),
        (None, 3),
        (int | None, "3"),
        (tuple[int, int], [1, 2]),
        (Annotated[list[int], "metres"], {1}),
    ],
)
def test_a_value_of_another_class_breaks_the_promise(annotation: Any, value: object) -> None:
    assert promised(annotation)
    assert not keeps(value, promised(annotation))


@pytest.mark.parametrize(
    "annotation",
    [Any, object, pd.DataFrame, Pair, Row, Path, Literal["a"], list[str] | pd.DataFrame, Annotated[Any, []], "list"],
)
def test_other_annotations_promise_nothing_here(annotation: Any) -> None:
    assert promised(annotation) == ()


def test_annotations_are_shown_as_they_are_written() -> None:
    assert [shown(each) for each in (int, list[str], dict[str, int] | None, None, type(None))] == [
        "int", "list[str]", "dict[str, int] | None", "None", "None",
    ]  # fmt: skip


def test_asking_costs_less_than_a_microsecond() -> None:
    classes, value = promised(list[str]), ["a"]
    fastest = min(timeit.repeat(lambda: keeps(value, classes), number=1000, repeat=50))
    assert fastest / 1000 < 1e-6


def test_a_number_that_numpy_left_in_an_array_without_dimensions_is_one() -> None:
    assert keeps(np.array(1.5), promised(float))
    assert not keeps(np.array(1.5), promised(int))
    assert not keeps(np.array([1.5]), promised(float))
