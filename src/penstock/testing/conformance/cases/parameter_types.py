"""Parameters of every JSON type arrive exactly as they were given, and those that were not given as their defaults."""

from typing import Any

from penstock import pipeline, step


@step
def told(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


@pipeline
def parameter_types(
    whole: int,
    large: int,
    real: float,
    switch: bool,
    word: str,
    nothing: int | None,
    rows: list[int],
    table: dict[str, list[float]],
    kept: str = "the default",
    also: list[str] = ["a", "b"],
) -> list[str]:
    return [told(value) for value in (whole, large, real, switch, word, nothing, rows, table, kept, also)]
