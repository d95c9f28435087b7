"""YAML for people: block style, keys in the order given, texts quoted only where YAML would read something else.

Written here because an IR file of a thousand steps has a hundred thousand lines, which PyYAML's own writer takes ten
seconds for. What it reads back is tested against PyYAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_OTHERWISE_READ = re.compile(r"(?i:true|false|yes|no|on|off|y|n|null|none|~)")


def yaml_text(value: Any) -> str:
    """A document.

    >>> print(yaml_text({"name": "fit", "args": ["--n", "3"], "limits": {}, "parts": [{"a": 1, "b": [True]}]}), end="")
    name: fit
    args:
    - "--n"
    - "3"
    limits: {}
    parts:
    - a: 1
      b:
      - true
    """
    return "".join(_block(value, ""))


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _entry(f"{indent}{_scalar(key)}:", each, indent, f"{indent}  ")
    else:
        for each in value:
            if isinstance(each, dict | list) and each:
                inner = "".join(_block(each, f"{indent}  "))
                yield f"{indent}- {inner[len(indent) + 2 :]}"
            else:
                yield f"{indent}- {_scalar(each)}\n"


def _entry(head: str, value: Any, indent: str, deeper: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield f"{head}\n"
        yield from _block(value, deeper)
    elif isinstance(value, list) and value:
        yield f"{head}\n"
        yield from _block(value, indent)
    else:
        yield f"{head} {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() if _PLAIN.fullmatch(value) and not _OTHERWISE_READ.fullmatch(value):
            return value
        case float():
            return re.sub(r"^(-?[0-9]+)e", r"\1.0e", json.dumps(value))  # YAML wants a point in a number with an exponent
        case None | int() | str() | dict() | list():  # JSON is YAML; only empty dicts and lists come here
            text = json.dumps(value, ensure_ascii=False)
            return _UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    raise TypeError(f"no YAML for {type(value).__name__}")
