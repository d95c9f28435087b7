"""Python values and calls as the formatter would write them: one line where it fits, else one argument per line."""

from __future__ import annotations

from typing import Any

WIDTH = 110
INDENT = "    "


class Code(str):
    """Python source that stands for itself, such as a variable."""

    __slots__ = ()


class Call:
    """A call, whose arguments go on lines of their own where it does not fit one."""

    __slots__ = ("arguments", "name", "options")

    def __init__(self, name: str, *arguments: Any, **options: Any) -> None:
        self.name = name
        self.arguments = arguments
        self.options = options


def quoted(text: str) -> str:
    """A string literal in double quotes, or in single ones where that saves escapes.

    >>> print(quoted("plain"), quoted('say "hi"'), quoted("it's"))
    "plain" 'say "hi"' "it's"
    """
    quote = "'" if '"' in text and "'" not in text else '"'
    inner = "".join("\\" + each if each in (quote, "\\") else repr(each)[1:-1] for each in text)
    return quote + inner + quote


def delta(seconds: float) -> Call:
    """A `timedelta` in the largest unit that says it in whole numbers.

    >>> literal(delta(600)), literal(delta(0.5)), literal(delta(90))
    ('timedelta(minutes=10)', 'timedelta(seconds=0.5)', 'timedelta(seconds=90)')
    """
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size and seconds % size == 0:
            return Call("timedelta", **{unit: int(seconds // size)})
    return Call("timedelta", seconds=int(seconds) if float(seconds).is_integer() else seconds)


def literal(value: Any, column: int = 0, indent: str = "", room: int = 0) -> str:
    """The source of a value that starts in this column. `room`: what still follows it on its last line.

    >>> literal({"a": [1, None]}), literal(("x",)), literal(Call("step", "fit", after=[Code("split")]))
    ('{"a": [1, None]}', '("x",)', 'step("fit", after=[split])')
    """
    flat = _flat(value)
    parts = _parts(value)
    if column + len(flat) + room <= WIDTH or not parts:
        return flat
    inner = indent + INDENT
    opening, closing = _brackets(value)
    lines = [f"{inner}{head}{literal(each, len(inner) + len(head), inner, 1)}," for head, each in parts]
    return "\n".join([opening, *lines, indent + closing])


def statement(value: Any, *, head: str = "", indent: str = "", tail: str = "") -> str:
    """A line of source, or several, with `head` before the value ("fit = ").

    >>> statement(3, head="DEPTH = ", indent="    ")
    '    DEPTH = 3'
    """
    text = indent + head + literal(value, len(indent) + len(head), indent, len(tail)) + tail
    alone = isinstance(value, str) and len(text) > WIDTH and len(indent) + len(INDENT) + len(_flat(value)) <= WIDTH
    if not alone:
        return text
    return "\n".join([f"{indent}{head}(", f"{indent}{INDENT}{_flat(value)}", f"{indent}){tail}"])


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What is between the brackets: (what stands before it, value)."""
    match value:
        case Call():
            return [("", each) for each in value.arguments] + [(f"{key}=", each) for key, each in value.options.items()]
        case dict():
            return [(f"{_flat(key)}: ", each) for key, each in value.items()]
        case list() | tuple():
            return [("", each) for each in value]
        case _:
            return []


def _brackets(value: Any) -> tuple[str, str]:
    match value:
        case Call():
            return f"{value.name}(", ")"
        case dict():
            return "{", "}"
        case list():
            return "[", "]"
        case _:
            return "(", ")"


def _flat(value: Any) -> str:
    match value:
        case Code():
            return str(value)
        case str():
            return quoted(value)
        case Call() | dict() | list() | tuple():
            opening, closing = _brackets(value)
            alone = "," if isinstance(value, tuple) and len(value) == 1 else ""
            return opening + ", ".join(head + _flat(each) for head, each in _parts(value)) + alone + closing
        case _:
            return repr(value)
