"""Which code something was measured on: a digest that comments, docstrings and formatting do not change."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ..core.canonical import digest_json


def code_digest(paths: Iterable[Path], root: Path) -> str:
    """Of Python, SQL and template files (.in) among these, and in folders among these, by their names below `root`."""
    files = {
        path
        for each in paths
        for path in (each.rglob("*") if each.is_dir() else (each,))
        if path.suffix in (".py", ".sql", ".in")
    }
    meanings = {
        path.relative_to(root).as_posix(): _meaning(path.suffix, path.read_text(encoding="utf-8"))
        for path in sorted(files)
    }
    return digest_json(meanings)[:12]


def shape(node: Any) -> Any:
    """A syntax tree as plain data, the same under every version of Python: no positions, nothing that is empty.

    >>> same = shape(ast.parse("def f():\\n    'says'\\n    return 1  # one"))
    >>> same == shape(ast.parse("def f(): return 1")), same == shape(ast.parse("def f(): return 2"))
    (True, False)
    """
    match node:
        case ast.AST():
            documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            fields = {
                name: [shape(each) for each in value if not _is_docstring(each)]
                if documented and name == "body"
                else shape(value)
                for name, value in ast.iter_fields(node)
            }
            return [type(node).__name__, {name: value for name, value in fields.items() if value not in (None, [])}]
        case list():
            return [shape(each) for each in node]
        case None:
            return None
        case str():
            return f"={node}"
        case _:
            return f"{type(node).__name__}:{node!r}"


@cache
def _meaning(suffix: str, text: str) -> str:
    """The digest of what a file says. Kept: the same files are asked for again and again where reports are checked."""
    return digest_json(_content(suffix, text))


def _content(suffix: str, text: str) -> Any:
    if suffix == ".sql":
        lines = [line for line in text.splitlines() if not line.startswith("--") or line.startswith("-- name:")]
        return " ".join(" ".join(lines).split())
    return text.split() if suffix == ".in" else shape(ast.parse(text))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
