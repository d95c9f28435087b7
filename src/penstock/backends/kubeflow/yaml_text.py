"""YAML for people: keys in the order given, short parts on one line, texts quoted only where YAML reads something else.

Written here because an IR file of a thousand steps has tens of thousands of lines, for which PyYAML's own writer takes
many seconds. What it reads back is tested against PyYAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_WIDTH = 100
_FLAT = 2  # levels of lists and dicts that may stand on one line
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*|--?[A-Za-z][A-Za-z-]*")
_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_OTHERWISE_READ = re.compile(r"(?i:true|false|yes|no|on|off|y|n|null|none|~)")


def yaml_text(value: dict[str, Any]) -> str:
    """A document.

    >>> print(yaml_text({"name": "fit", "args": ["--n", "3"], "limits": {}, "dag": {"tasks": {"a": {"after": ["b"]}}}}))
    name: fit
    args: [--n, "3"]
    limits: {}
    dag:
      tasks:
        a: {after: [b]}
    <BLANKLINE>
    """
    return "".join(_of_dict(value, ""))


def _of_dict(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, each in value.items():
        yield from _entry(f"{indent}{_scalar(key)}:", each, indent)


def _of_list(value: list[Any], indent: str) -> Iterator[str]:
    for each in value:
        text = _on_one_line(each, _WIDTH - len(indent) - 2)
        if text is not None:
            yield f"{indent}- {text}\n"
        else:
            deeper = f"{indent}  "
            inner = "".join(_of_dict(each, deeper) if isinstance(each, dict) else _of_list(each, deeper))
            yield f"{indent}- {inner[len(deeper) :]}"


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    text = _on_one_line(value, _WIDTH - len(head) - 1)
    if text is not None:
        yield f"{head} {text}\n"
        return
    yield f"{head}\n"
    yield from _of_dict(value, f"{indent}  ") if isinstance(value, dict) else _of_list(value, indent)


def _on_one_line(value: Any, room: int, depth: int = 0) -> str | None:
    """The value as YAML writes it inside a line; None where it is too long or too deep for that."""
    if not isinstance(value, dict | list):
        return _scalar(value)
    if not value:
        return "{}" if isinstance(value, dict) else "[]"
    if depth == _FLAT or len(value) * 3 > room:
        return None
    parts: list[str] = []
    for each in value if isinstance(value, list) else value.values():
        part = _on_one_line(each, room, depth + 1)
        if part is None:
            return None
        room -= len(part) + 2
        if room < 0:
            return None
        parts.append(part)
    if isinstance(value, list):
        return f"[{', '.join(parts)}]"
    text = ", ".join(f"{_scalar(key)}: {part}" for key, part in zip(value, parts, strict=True))
    return f"{{{text}}}" if len(text) <= room + sum(len(part) + 2 for part in parts) else None


def _scalar(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() if _PLAIN.fullmatch(value) and not _OTHERWISE_READ.fullmatch(value):
            return value
        case float():
            return re.sub(
                r"^(-?[0-9]+)e", r"\1.0e", json.dumps(value)
            )  # YAML wants a point in a number with an exponent
        case None | int() | str():  # as JSON writes them, which is YAML
            text = json.dumps(value, ensure_ascii=False)
            return _UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    raise TypeError(f"no YAML for {type(value).__name__}")
