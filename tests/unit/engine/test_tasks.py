"""The identity of an argument: equal for equal content, another one for every other kind of value."""

from __future__ import annotations

from itertools import combinations

import pytest

from penstock.engine.tasks import Collected, Json, Keyed, SecretValue, Stored, TaskArgument, Whole, cache_key
from penstock.ports.artifacts import ArtifactRef

ONE, TWO = Json("1"), Json("2")
KINDS: dict[str, TaskArgument] = {
    "json": ONE,
    "other json": TWO,
    "text of the same digits": Json('"1"'),
    "stored json": Stored(ArtifactRef("d1", "json")),
    "same bytes, other codec": Stored(ArtifactRef("d1", "bytes")),
    "list": Collected((ONE, TWO)),
    "tuple": Collected((ONE, TWO), as_tuple=True),
    "other order": Collected((TWO, ONE)),
    "nested": Collected((Collected((ONE,)), TWO)),
    "empty list": Collected(()),
    "empty tuple": Collected((), as_tuple=True),
    "dict": Keyed(("a", "b"), (ONE, TWO)),
    "dict in another order": Keyed(("b", "a"), (TWO, ONE)),
    "empty dict": Keyed((), ()),
    "record": Whole("p.py:make", ("a", "b"), (ONE, TWO)),
    "another record with the same fields": Whole("p.py:other", ("a", "b"), (ONE, TWO)),
    "secret": SecretValue("1"),
}


@pytest.mark.parametrize(("left", "right"), list(combinations(KINDS, 2)))
def test_no_two_kinds_of_argument_share_a_key(left: str, right: str) -> None:
    assert cache_key({}, {"x": KINDS[left]}) != cache_key({}, {"x": KINDS[right]})


def test_parts_and_argument_names_are_in_the_key() -> None:
    keys = {cache_key({}, {"x": ONE}), cache_key({"seed": "1"}, {"x": ONE}), cache_key({}, {"y": ONE})}
    assert len(keys) == 3


def test_a_secret_counts_by_name_only() -> None:
    assert "hush" not in repr(KINDS["secret"])
    assert cache_key({}, {"x": SecretValue("A")}) == cache_key({}, {"x": SecretValue("A")})
