"""Exact JSON as somebody would write it by hand."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from penstock.core.jsonvalue import dumps
from penstock.core.plain import NotPlainError, plain, plain_or_exact


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": [1, Path("/x")]}, {"a": [1, "/x"]}),
        ((1, {"day": date(2026, 1, 31)}), [1, {"day": "2026-01-31"}]),
        (2**70, 2**70),
        (-(2**70), -(2**70)),
        ({3}, [3]),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 31, 6), "2026-01-31T06:00:00"),
        (timedelta(minutes=2), "120s"),
    ],
)
def test_what_json_has_or_a_person_would_write_as_text_is_kept(value: Any, written: Any) -> None:
    assert plain(json.loads(dumps(value))) == written


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", datetime(2026, 1, 31, tzinfo=UTC), {"$": 1}, [1j]])
def test_a_value_without_such_a_form_is_refused_and_kept_exactly_where_that_is_asked(value: Any) -> None:
    exact = json.loads(dumps(value))
    with pytest.raises(NotPlainError):
        plain(exact)
    assert plain_or_exact(exact) == exact
