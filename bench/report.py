"""One line of the page: what was measured, what it came to, and the mark it is held against."""

from __future__ import annotations

import os

RUNS = int(os.environ.get("BENCH_RUNS", "9"))
Row = tuple[str, str, str, str]  # what, measured, to reach, verdict
_VERDICTS = {True: "reached", False: "missed"}


def row(what: str, value: float, form: str, goal: float, beside: str = "", *, at_least: bool = False) -> Row:
    unit = form.partition("}")[2]
    reached = value >= goal if at_least else value <= goal
    shown = f"{goal:,g}" if goal < 1e6 else f"{goal:,.0f}"
    return what, form.format(value) + beside, f"{'>=' if at_least else '<='} {shown}{unit}", _VERDICTS[reached]


def environment() -> dict[str, str]:
    """Bytecode is written, colour and configuration are off: one state for every run."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {k: v for k, v in kept.items() if not k.startswith("PENSTOCK_")} | {"NO_COLOR": "1"}
