"""One line of the page: what was measured, what it came to, and the mark it is held against."""

from __future__ import annotations

import os

Row = tuple[str, str, str, str]  # what, measured, to reach, verdict


def row(what: str, value: float, form: str, goal: float, beside: str = "") -> Row:
    unit = form.partition("}")[2]
    return what, form.format(value) + beside, f"<= {goal:g}{unit}", "reached" if value <= goal else "missed"


def environment() -> dict[str, str]:
    """Bytecode is written, colour and configuration are off: one state for every run."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {k: v for k, v in kept.items() if not k.startswith("PENSTOCK_")} | {"NO_COLOR": "1"}
