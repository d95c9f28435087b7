"""The YAML that is written here is read back as what it was, by PyYAML."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from penstock.backends.kubeflow.yaml_text import yaml_text

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "yes",
        "NO",
        "~",
        "null",
        "1e3",
        "-",
        "- a",
        "#x",
        "a: b",
        "0x1f",
        "1_000",
        "{{$}}",
        "::",
        "y",
        "--",
        "-P",
        "é\x85",
    ]
)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


@given(st.dictionaries(texts, values, max_size=6))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert yaml.safe_load(yaml_text(value) or "{}") == value


def test_no_line_of_short_parts_is_long() -> None:
    value = {"a": {f"key-{number}": ["some", "words", "in a list"] * 3 for number in range(9)}}
    assert max(len(line) for line in yaml_text(value).splitlines()) <= 100
