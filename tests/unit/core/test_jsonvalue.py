"""What comes out of exact JSON is what went in: equal, of the same types, in the same order."""

from __future__ import annotations

import enum
import math
import uuid
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import CodecError
from penstock.core.jsonvalue import accepts, dumps, loads


class Colour(enum.Enum):
    RED = "r"
    BLUE = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: frozenset[str]


@dataclass
class Derived:
    a: int
    doubled: int = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.doubled = self.a * 2
        self.made += 1


class Record(msgspec.Struct, frozen=True, kw_only=True):
    when: datetime
    inner: Point | None = None


def same(left: Any, right: Any) -> bool:
    """Equality that sees types, order, the sign of zero and NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left.hex() == right.hex()
    if isinstance(left, (list, tuple, deque)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (set, frozenset)):
        return sorted(map(dumps, left)) == sorted(map(dumps, right))
    if is_dataclass(left):
        return all(same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
    return bool(left == right)


atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text()
    | st.just("$")
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC) | st.just(ZoneInfo("Europe/Paris")))
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from([*Colour, *Level, *Rights])
)
hashable = st.recursive(atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.just("$"), inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.builds(Point, inner, st.tuples(inner))
        | st.builds(Frozen, inner, st.frozensets(hashable, max_size=2))
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_every_value_comes_back_the_same_and_is_written_the_same_again(value: Any) -> None:
    text = dumps(value)
    back = loads(text)
    assert same(value, back)
    assert dumps(back) == text


@pytest.mark.parametrize(
    "value",
    [
        True,
        1,
        1.0,
        -0.0,
        math.inf,
        -math.inf,
        1e22,
        5e-324,
        2**64,
        -(2**63) - 1,
        10**5000,
        (),
        {1: "a", "1": "b", 2: "c"},
        {"$": "tuple", "v": [1]},
        {"b": 1, "a": 2},
        {(1, 2): {3}},
        OrderedDict(b=1, a=2),
        Counter("abca"),
        deque([1, (2,)], maxlen=3),
        range(1, 9, 2),
        bytearray(b"ab"),
        Fraction(1, 3),
        Decimal("1.10"),
        Decimal("Infinity"),
        date(2026, 11, 23),
        time(3, 4, 5, 6, tzinfo=UTC),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2, seconds=1), "X")),
        uuid.UUID(int=7),
        PurePosixPath("a/b"),
        Point(1, (2,)),
        Record(when=datetime(2026, 1, 1, tzinfo=UTC), inner=Point(1)),
        Rights.READ | Rights.WRITE,
        Derived(4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_comes_back_with_its_own_type(value: Any) -> None:
    assert accepts(value)
    assert same(loads(dumps(value)), value)


def test_plain_values_are_plain_json_in_their_own_order() -> None:
    assert dumps({"b": [1, 2.5, None, True], "a": "x"}) == '{"b":[1,2.5,null,true],"a":"x"}'


def test_nan_keeps_its_bits() -> None:
    assert math.isnan(loads(dumps(math.nan)))
    assert math.copysign(1, loads(dumps(-math.nan))) == -1


def test_a_set_is_written_the_same_whatever_its_order() -> None:
    names = [f"name{i}" for i in range(50)]
    backwards: set[str] = set()
    for name in reversed(names):
        backwards.add(name)
    assert dumps(set(names)) == dumps(backwards)
    assert dumps({10, 2, 33}) == '{"$":"set","v":[10,2,33]}'


def test_reading_a_dataclass_runs_no_code_of_its_own() -> None:
    stored = Derived(4)
    assert loads(dumps(stored)).made == 1


@pytest.mark.parametrize("value", [np.float64(1.5), np.int64(1), {"a": [np.bool_(True)]}, object(), print, type])
def test_what_json_would_convert_is_refused(value: Any) -> None:
    with pytest.raises(CodecError):
        dumps(value)


def test_a_subclass_of_a_plain_type_is_refused() -> None:
    class Text(str):
        pass

    for value in (Text("x"), [Text("x")], {Text("x"): 1}):
        with pytest.raises(CodecError):
            dumps(value)


def test_the_refused_type_is_named() -> None:
    with pytest.raises(CodecError, match=r"numpy\.float64"):
        dumps({"metrics": {"auc": np.float64(0.9)}})


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CodecError, match="contains itself"):
        dumps(loop)


def test_text_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(CodecError, match="surrogate"):
        dumps(["\ud800"])


def test_a_class_that_no_process_could_find_again_is_refused() -> None:
    @dataclass
    class Local:
        a: int

    with pytest.raises(CodecError, match="cannot be found again"):
        dumps(Local(1))


def test_a_dataclass_with_more_than_its_fields_is_refused() -> None:
    value = Derived(1)
    value.extra = 2  # type: ignore[attr-defined]
    with pytest.raises(CodecError, match="extra"):
        dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"$":"nonsense","v":1}',
        '{"$":"dataclass","c":"os:system","v":{}}',
        '{"$":"dataclass","c":"no.such.module:X","v":{}}',
        '{"$":"enum","c":"enum:Gone","v":"A"}',
        '{"$":"datetime","v":["never",0,null]}',
        '{"$":"path","v":["Path.unlink","x"]}',
        '{"$":"tuple"}',
    ],
)
def test_altered_text_is_refused_and_runs_nothing(text: str) -> None:
    with pytest.raises(CodecError):
        loads(text)


def test_a_class_whose_fields_changed_is_refused_with_their_names() -> None:
    text = dumps(Derived(1)).replace('"made"', '"born"')
    with pytest.raises(CodecError, match="born, made"):
        loads(text)


def test_a_class_is_taken_from_the_annotation_before_anything_is_imported() -> None:
    text = dumps([Point(1)])
    elsewhere = type("Point", (Point,), {"__module__": "nowhere.at.all", "__qualname__": "Point"})
    text = text.replace(f"{Point.__module__}:Point", "nowhere.at.all:Point")
    assert type(loads(text, list[elsewhere])[0]) is elsewhere  # type: ignore[valid-type]
