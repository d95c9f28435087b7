"""The check between an output and an input flags what must fail, never what might work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, NewType, Protocol, TypeVar

import pytest

from penstock.authoring.signature import fields_of, shown_type
from penstock.authoring.typecheck import element_of, fits, parts_of, value_fits

T = TypeVar("T")
UserId = NewType("UserId", int)


class Animal: ...


class Dog(Animal): ...


class Named(Protocol):
    name: str


@pytest.mark.parametrize(
    ("produced", "expected"),
    [
        (int, int), (int, float), (bool, int), (float, complex), (Dog, Animal), (Animal, Dog), (int, Any), (Any, int),
        (int, object), (int, int | None), (list[int], list[float]), (list[int], Sequence[int]), (list[int], list),
        (dict[str, int], Mapping[str, int]), (Annotated[int, "x"], int), (int, Annotated[int, "x"]), (UserId, int),
        (int, T), (T, int), (Literal[1, 2], int), (int, Literal[1, 2]), (Dog, Named), (list[int], Iterable[int]),
        (None, None), (None, int | None), (tuple[int, str], tuple[int, ...]),
    ],
)  # fmt: skip
def test_fits(produced: Any, expected: Any) -> None:
    assert fits(produced, expected)


@pytest.mark.parametrize(
    ("produced", "expected"),
    [
        (int, str), (str, int), (float, int), (int | None, int), (list[int], list[str]), (list[int], dict[str, int]),
        (None, int), (Literal["a"], int), (str, Literal[1]), (list[list[int]], list[int]), (Dog, int),
        (dict[str, int], dict[str, str]),
    ],
)  # fmt: skip
def test_does_not_fit(produced: Any, expected: Any) -> None:
    assert not fits(produced, expected)


@pytest.mark.parametrize(
    ("value", "expected", "answer"),
    [
        (1, int, True), (1, float, True), (1.5, int, False), (True, bool, True), (True, int, False), ("a", str, True),
        (None, int | None, True), (None, int, False), ([1], list[int], True), ([1, "a"], list[int], False),
        ({"a": 1}, dict[str, int], True), ({"a": "b"}, dict[str, int], False), ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False), ((1, "a"), tuple[int, str], True), ((1, 2), tuple[int, str], False),
        ((1,), tuple[int, str], False), ((1, 2), tuple[int, ...], True), (3, Any, True), (3, T, True),
        (Dog(), Named, True),
    ],
)  # fmt: skip
def test_a_constant_fits_an_annotation_or_not(value: object, expected: Any, answer: bool) -> None:
    assert value_fits(value, expected) is answer


@pytest.mark.parametrize(
    ("annotation", "element"),
    [
        (list[int], int), (tuple[int, ...], int), (Sequence[str], str), (Iterable[str], str), (list, Any), (Any, Any),
        (str, None), (bytes, None), (dict[str, int], None), (int, None), (list[int] | None, int),
        (int | None, None), (list[int] | list[str], Any), (object, Any),
    ],
)  # fmt: skip
def test_the_element_of_a_list(annotation: Any, element: Any) -> None:
    assert element_of(annotation) == element


def test_parts_are_checked_in_their_places() -> None:
    assert parts_of((1, 2), tuple[int, str]) == [(1, int), (2, str)]
    assert parts_of((1,), tuple[int, str]) is None
    assert parts_of({"a": 1}, dict[str, int]) == [(1, int)]
    assert parts_of([1], int | list[int]) == [(1, int)]
    assert parts_of([1], int) is None
    assert parts_of([1], Named) == [(1, Any)]


class Pair(NamedTuple):
    a: int
    b: list[Pair]


@dataclass
class Made:
    a: int
    kind: ClassVar[str] = "made"


@dataclass
class Grown:
    a: int
    b: int = field(init=False, default=1)


@dataclass
class Seeded:
    a: int
    seed: InitVar[int]


def test_fields_are_those_that_make_the_value_again() -> None:
    assert fields_of(Pair) == {"a": int, "b": list[Pair]}
    assert fields_of(Made) == {"a": int}
    assert fields_of(Grown) is None
    assert fields_of(Seeded) is None
    assert fields_of(tuple[int, str]) is None
    assert fields_of(int) is None


def test_types_are_shown_as_users_write_them() -> None:
    assert [shown_type(each) for each in (int, None, Any, list[int], Dog, int | None, Literal["a"])] == [
        "int", "None", "Any", "list[int]", "Dog", "int | None", "Literal['a']",
    ]  # fmt: skip
