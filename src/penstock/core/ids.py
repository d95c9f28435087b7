"""Ids that sort by time and read well: `churn-2026-11-23-7f3a`."""

from __future__ import annotations

import re

from .clock import instant

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_DAY_US = 86_400_000_000
_STEPS = 36**4  # four base-36 digits divide a day into steps of 51 ms


def run_id(pipeline: str, at_us: int, *, bump: int = 0) -> str:
    """The id of a run that starts at `at_us`; `bump` moves to the next free one after a clash.

    >>> run_id("churn", 1795414725000000)
    'churn-2026-11-23-9gvi'
    >>> run_id("churn", 1795414725000000, bump=1) > run_id("churn", 1795414725000000)
    True
    """
    step = min(at_us % _DAY_US * _STEPS // _DAY_US + bump, _STEPS - 1)
    overflow = "" if not bump else f"{bump:x}" if step == _STEPS - 1 else ""
    text = ""
    for _ in range(4):
        step, digit = divmod(step, 36)
        text = _DIGITS[digit] + text
    return f"{slug(pipeline)}-{instant(at_us):%Y-%m-%d}-{text}{overflow}"


def slug(name: str) -> str:
    """Lower-case letters, digits and dashes, for ids and file names.

    >>> slug("My_Pipeline v2")
    'my-pipeline-v2'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
