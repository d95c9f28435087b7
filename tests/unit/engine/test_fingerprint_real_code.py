"""Generated edits of a real library, taken as if it were the user's own code.

What is reached is not asked of the code under test: a profiler says which functions a real call ran, and each of these
must count. What is not reached is chosen by hand: parts of the library that text and colour have nothing to do with.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich

from penstock.engine.fingerprint import Fingerprints

FLOW = """
from rich import color, filesize
from rich.cells import cell_len
from rich.markup import render
from rich.style import Style

def paint(text):
    style = Style.parse("bold red on blue")
    red = color.Color.parse("#ff0000").triplet
    return cell_len(text), red, filesize.decimal(3000), style.bold, render("[bold]x[/bold]").plain
"""
PROFILE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import flow
called = set()
def note(frame, event, _):
    if event == "call":
        called.add((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_code.co_firstlineno))
sys.setprofile(note)
flow.paint("hello")
sys.setprofile(None)
print(json.dumps(sorted(called)))
"""
UNREACHED = ("markdown.py", "prompt.py", "tree.py", "logging.py", "layout.py", "progress_bar.py", "filesize.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("real")
    shutil.copytree(Path(rich.__file__).parent, root / "rich", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "flow.py").write_text(FLOW)
    return root


@pytest.fixture(scope="module")
def untouched(root: Path) -> str:
    return digest(root)


def digest(root: Path) -> str:
    return Fingerprints(root, root / ".cache").of("flow.py:paint").digest


def after(root: Path, path: Path, text: str) -> str:
    """The digest with a file changed, which is put back."""
    original = path.read_text()
    assert text != original
    compile(text, str(path), "exec", dont_inherit=True)
    path.write_text(text)
    try:
        return digest(root)
    finally:
        path.write_text(original)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno > node.lineno:
            yield node


def with_a_statement_more(path: Path, function: ast.FunctionDef) -> str:
    last = function.body[-1]
    lines = path.read_text().splitlines(keepends=True)
    first = last.lineno - 1 - len(getattr(last, "decorator_list", ()))
    lines.insert(first, " " * last.col_offset + "_edited = 1\n")
    return "".join(lines)


def test_an_edit_of_any_function_that_really_runs_misses(root: Path, untouched: str) -> None:
    output = subprocess.run([sys.executable, "-c", PROFILE, str(root)], capture_output=True, text=True, check=True)
    called = {(Path(file), line) for file, _, line in json.loads(output.stdout) if file.startswith(str(root))}
    edits = 0
    for path in sorted({file for file, _ in called}):
        for function in functions(path):
            first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
            if (path, first) in called:
                edits += 1
                changed = after(root, path, with_a_statement_more(path, function))
                assert changed != untouched, f"{path.name}:{function.name} runs, and an edit of it hits"
    assert edits >= 20


def test_an_edit_of_what_text_and_colour_do_not_use_hits(root: Path, untouched: str) -> None:
    edits = 0
    for name in UNREACHED:
        path = root / "rich" / name
        for function in functions(path):
            if name != "filesize.py" or function.name == "pick_unit_and_suffix":
                edits += 1
                changed = after(root, path, with_a_statement_more(path, function))
                assert changed == untouched, f"{name}:{function.name} is not used, and an edit of it misses"
    assert edits >= 30


def test_reformatting_any_file_and_dropping_its_comments_hits(root: Path, untouched: str) -> None:
    for name in ("style.py", "color.py", "cells.py", "text.py", "markup.py", "console.py", "segment.py", "table.py"):
        path = root / "rich" / name
        assert after(root, path, ast.unparse(ast.parse(path.read_text()))) == untouched, name


def test_a_new_definition_in_any_reached_file_hits(root: Path, untouched: str) -> None:
    for name in ("style.py", "color.py", "cells.py", "text.py", "markup.py", "console.py"):
        path = root / "rich" / name
        text = path.read_text() + "\n\ndef _brand_new(value):\n    return cell_len(value), Style, Text\n"
        assert after(root, path, text) == untouched, name


def test_dropping_every_docstring_hits(root: Path, untouched: str) -> None:
    for name in ("style.py", "color.py", "cells.py", "text.py", "markup.py"):
        path = root / "rich" / name
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
                node.body[0] = ast.Expr(ast.Constant("something else"))
        assert after(root, path, ast.unparse(ast.fix_missing_locations(tree))) == untouched, name
