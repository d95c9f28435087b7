"""Cron as Kubeflow counts it: seconds first, and in UTC."""

from __future__ import annotations


def six_fields(expression: str) -> str:
    """The same times with seconds before them.

    >>> six_fields("0 3 * * 1")
    '0 0 3 * * 1'
    """
    return " ".join(["0", *expression.split()])
