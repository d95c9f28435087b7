"""Which code a campaign tested: a digest that comments, docstrings and formatting do not change."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from penstock.core.canonical import digest_json

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "penstock"
ROOMS = ("core", "engine", "graph", "ports", "stores", "wiring")


def digests() -> dict[str, str]:
    """Room -> digest of its Python and SQL."""
    return {room: _room(SOURCE / room) for room in ROOMS}


def _room(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".sql"))
    return digest_json({path.relative_to(folder).as_posix(): _meaning(path) for path in files})[:12]


def _meaning(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sql":
        lines = [line for line in text.splitlines() if not line.startswith("--") or line.startswith("-- name:")]
        return " ".join(" ".join(lines).split())
    return _shape(ast.parse(text))


def _shape(node: Any) -> Any:
    """A syntax tree as plain data, the same under every version of Python: no positions, nothing that is empty.

    >>> same = _shape(ast.parse("def f():\\n    'says'\\n    return 1  # one"))
    >>> same == _shape(ast.parse("def f(): return 1")), same == _shape(ast.parse("def f(): return 2"))
    (True, False)
    """
    match node:
        case ast.AST():
            fields = {name: _shape(value) for name, value in ast.iter_fields(node)}
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                fields["body"] = [_shape(each) for each in node.body if not _is_docstring(each)]
            return [type(node).__name__, {name: value for name, value in fields.items() if value not in (None, [])}]
        case list():
            return [_shape(each) for each in node]
        case None:
            return None
        case str():
            return f"={node}"
        case _:
            return f"{type(node).__name__}:{node!r}"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
