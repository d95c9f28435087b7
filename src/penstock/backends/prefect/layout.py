"""Python source as people like to read it: one line where it fits, one item a line where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDTH = 110
_STEP = "    "


def call(head: str, arguments: Iterable[str], tail: str = "", *, indent: int = 0) -> str:
    """`head(a, b)tail`, in lines of `WIDTH`.

    >>> print(call("step", ["fit", "at_once=2"]))
    step(fit, at_once=2)
    """
    return bracketed(f"{head}(", list(arguments), f"){tail}", indent=indent)


def literal(value: Any, *, indent: int = 0, before: int = 0, after: int = 1) -> str:
    """A plain value, written so that the line it stands in stays in `WIDTH`; `before` and `after`: what else is there.

    >>> literal({"a": [1, True, None], "b": "it's"})
    '{"a": [1, True, None], "b": "it\\'s"}'
    """
    line = _inline(value)
    if len(line) + before + after <= WIDTH or not isinstance(value, (Mapping, list, tuple)) or not value:
        return line
    inner = indent + len(_STEP)
    if isinstance(value, Mapping):
        parts = [
            f"{quoted(key)}: {literal(each, indent=inner, before=inner + len(quoted(key)) + 2)}"
            for key, each in value.items()
        ]
        return _exploded("{", parts, "}", indent)
    parts = [literal(each, indent=inner, before=inner) for each in value]
    return _exploded("[", parts, "]", indent) if isinstance(value, list) else _exploded("(", parts, ")", indent)


def names(found: Sequence[str], *, indent: int = 0, before: int = 0) -> str:
    """A list of names, as `literal` writes one of values."""
    line = f"[{', '.join(found)}]"
    return line if len(line) + before + 1 <= WIDTH else _exploded("[", list(found), "]", indent)


def quoted(text: str) -> str:
    """A string literal in double quotes, or in single ones where that saves escapes.

    >>> print(quoted("it's"), quoted('say "hi"'))
    "it's" 'say "hi"'
    """
    plain = repr(text)
    if text.count('"') > text.count("'"):
        return plain if plain.startswith("'") else "'" + plain[1:-1].replace("'", "\\'") + "'"
    if plain.startswith('"'):
        return plain
    return '"' + plain[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'


def bracketed(opening: str, parts: list[str], closing: str, *, indent: int = 0) -> str:
    """Parts between brackets: on one line where they fit."""
    line = f"{opening}{', '.join(parts)}{closing}"
    if "\n" not in line and indent + len(line) <= WIDTH:
        return line
    return _exploded(opening, parts, closing, indent) if parts else line


def _exploded(opening: str, parts: list[str], closing: str, indent: int) -> str:
    inside = " " * indent + _STEP
    return "\n".join([opening, *(f"{inside}{part}," for part in parts), " " * indent + closing])


def _inline(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(key)}: {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(each) for each in value) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(_inline(each) for each in value) + ("," if len(value) == 1 else "") + ")"
    return repr(value)
