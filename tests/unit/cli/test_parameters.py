"""Texts become values of their annotation, or are refused."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional

import pytest

from penstock.authoring.options import Static
from penstock.authoring.parameters import fit_value, parse_flags, parse_text
from penstock.core.errors import ParameterError


class Kind(enum.Enum):
    TREE = "tree"
    FOREST = 2


class Span(NamedTuple):
    low: int
    high: int


Depth = NewType("Depth", int)


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("4", int, 4),
        ("-4", int, -4),
        ("4", float, 4.0),
        ("1e-3", float, 0.001),
        ("4", str, "4"),
        ("none", str, "none"),
        ("yes", bool, True),
        ("Off", bool, False),
        ("none", int | None, None),
        ("4", Optional[int], 4),  # noqa: UP045 - the old spelling is what is tested
        ("4", int | str, 4),
        ("four", int | str, "four"),
        ("1", bool | int, 1),
        ("true", bool | int, True),
        ("4", Static[int], 4),
        ("4", Annotated[int, "deep"], 4),
        ("4", Depth, 4),
        ("b", Literal["a", "b"], "b"),
        ("2", Literal[1, 2], 2),
        ("TREE", Kind, Kind.TREE),
        ("2", Kind, Kind.FOREST),
        ("4,6, 8", list[int], [4, 6, 8]),
        ("[4, 6]", list[int], [4, 6]),
        ("", list[int], []),
        ("a,b", list[str], ["a", "b"]),
        ('["a,b"]', list[str], ["a,b"]),
        ("1,2", tuple[int, ...], (1, 2)),
        ("1,x", tuple[int, str], (1, "x")),
        ("1,2,1", set[int], {1, 2}),
        ("[[1, 2], [3]]", list[list[int]], [[1, 2], [3]]),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ('{"low": 1, "high": 2}', Span, Span(1, 2)),
        ("2026-01-31", date, date(2026, 1, 31)),
        ("2026-01-31T08:00:00+00:00", datetime, datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("1h30m", timedelta, timedelta(minutes=90)),
        ("data/x.csv", Path, Path("data/x.csv")),
        ("0.10", Decimal, Decimal("0.10")),
        ('{"a": [1]}', Any, {"a": [1]}),
        ("plain", Any, "plain"),
    ],
)
def test_a_text_is_read_by_the_annotation(text: str, annotation: Any, value: Any) -> None:
    found = parse_text("--p", text, annotation)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("four", int),
        ("1.5", int),
        ("", int),
        ("maybe", bool),
        ("c", Literal["a", "b"]),
        ("SHRUB", Kind),
        ("4,six", list[int]),
        ("[4, 6", list[int]),
        ('["x"]', list[int]),
        ("1", tuple[int, str]),
        ('{"a": "x"}', dict[str, int]),
        ("[1]", dict[str, int]),
        ('{"low": 1}', Span),
        ("31.1.2026", date),
        ("few", int | None),
        ("ten", Decimal),
    ],
)
def test_a_text_that_does_not_fit_is_refused_with_its_flag_and_value(text: str, annotation: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_text("--p", text, annotation)
    assert caught.value.problem.startswith(f"--p is {text!r}, but ")


def test_a_value_of_a_file_keeps_its_type_or_is_refused() -> None:
    assert fit_value("p", [1, 2], list[int]) == [1, 2]
    assert fit_value("p", ["2026-01-31"], list[date]) == [date(2026, 1, 31)]
    assert fit_value("p", [1, 2], tuple[int, ...]) == (1, 2)
    assert fit_value("p", {"low": 1, "high": 2}, Span) == Span(1, 2)
    for value, annotation in ((1, str), (True, int), ("x", int), ([1, "x"], list[int]), (1.5, int)):
        with pytest.raises(ParameterError):
            fit_value("p", value, annotation)


def test_flags_are_told_from_values_and_from_the_commands_own() -> None:
    annotations = {"depth": int, "fast": bool, "base_uri": str}
    values, rest = parse_flags(["--depth=4", "--no-fast", "--base-uri", "x=y", "--other", "z"], annotations, [])
    assert values == {"depth": 4, "fast": False, "base_uri": "x=y"}
    assert rest == ["--other", "z"]
    assert parse_flags(["--fast", "--base_uri", "--x"], annotations, [])[0] == {"fast": True, "base_uri": "--x"}
    with pytest.raises(ParameterError, match="needs a value"):
        parse_flags(["--base-uri", "--fast"], annotations, [])
