"""Values that plain JSON would bend come back as they were: infinities, tuples, sets, bytes, number keys, dates."""

import math
from datetime import date
from typing import Any

from penstock import pipeline, step


@step
def make() -> dict[str, Any]:
    return {
        "floats": [math.inf, -0.0, 1e308, 5e-324, 0.1 + 0.2],
        "tuple": (1, (2.0, "three")),
        "keys": {1: "one", "1": "text"},
        "bytes": b"\x00\xff",
        "set": frozenset({1, 2}),
        "large": 2**80,
        "date": date(2024, 2, 29),
    }


@step
def told(values: dict[str, Any]) -> list[str]:
    return [f"{name} {value!r}" for name, value in values.items()]


@pipeline
def exact_values() -> list[str]:
    return told(make())
