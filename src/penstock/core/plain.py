"""Exact JSON (`jsonvalue`) as somebody would write it by hand: for forms and engines that know plain JSON only."""

from __future__ import annotations

from typing import Any

from .jsonvalue import TAG


class NotPlainError(Exception):
    """A value that a person could not write as JSON."""


def plain(tree: Any) -> Any:
    """What somebody would write in a JSON file for a value that was kept exactly.

    >>> plain({"$": "tuple", "v": [1, {"$": "date", "v": "2026-01-31"}]})
    [1, '2026-01-31']

    Raises:  NotPlainError for NaN, bytes, a class of the user's and whatever else has no such form.
    """
    if isinstance(tree, list):
        return [plain(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if TAG not in tree:
        return {key: plain(each) for key, each in tree.items()}
    match tree:
        case {"$": "tuple" | "set" | "frozenset", "v": list(items)}:
            return [plain(each) for each in items]
        case {"$": "int", "v": str(text)}:
            return int(text, 16)
        case {"$": "date" | "decimal" | "uuid" | "enum", "v": str(text)}:
            return text
        case {"$": "datetime", "v": [str(text), 0, None]}:
            return text
        case {"$": "path", "v": [_, str(text)]}:
            return text
        case {"$": "timedelta", "v": [int(days), int(seconds), int(micros)]} if days >= 0:
            return f"{days * 86400 + seconds + micros / 1e6:g}s"
    raise NotPlainError


def plain_or_exact(tree: Any) -> Any:
    """`plain`, or the tagged tree where there is no plain form of it.

    >>> plain_or_exact({"$": "int", "v": "0x10"}), plain_or_exact({"$": "bytes", "v": "AA=="})
    (16, {'$': 'bytes', 'v': 'AA=='})
    """
    try:
        return plain(tree)
    except NotPlainError:
        return tree
