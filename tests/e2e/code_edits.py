"""Generated edits of a Python file, by place in its text: some change what it means, some do not."""

from __future__ import annotations

import ast
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator

MARK = "_edited"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Source:
    """A file's text and tree."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in text.encode().splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def function_at(self, line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """The function whose first line, decorators included, is this one."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and first_line(node) == line:
                return node
        return None

    def owner_of(self, inner: ast.AST) -> ast.stmt:
        """The top-level statement that a node is part of."""
        return next(each for each in self.tree.body if any(node is inner for node in ast.walk(each)))

    def with_line(self, line: int, text: str) -> str:
        """The text with a line more before line `line`."""
        return "".join([*self.lines[: line - 1], text + "\n", *self.lines[line - 1 :]])

    def with_call_around(self, node: ast.expr) -> str:
        """An expression that is passed through a function which is not there."""
        return self.spliced(node, f"{MARK}(", ")")

    def spliced(self, node: ast.expr | ast.stmt, before: str, after: str, instead: str | None = None) -> str:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        content = self.text.encode()
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        middle = content[start:end] if instead is None else instead.encode()
        return (content[:start] + before.encode() + middle + after.encode() + content[end:]).decode()


def first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


# ---- edits that change the meaning


def a_statement_more(source: Source, node: Definition) -> str | None:
    last = node.body[-1]
    if node.body[0].lineno == node.lineno or first_line(last) == node.lineno:
        return None
    return source.with_line(first_line(last), " " * last.col_offset + f"{MARK} = 1")


def a_default(source: Source, node: Definition) -> str | None:
    if isinstance(node, ast.ClassDef):
        return None
    defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
    return source.with_call_around(defaults[0]) if defaults else None


def a_decorator(source: Source, node: Definition) -> str | None:
    return source.with_line(first_line(node), " " * node.col_offset + f"@{MARK}")


def the_class(source: Source, node: Definition) -> str | None:
    owner = source.owner_of(node)
    return a_statement_more(source, owner) if isinstance(owner, ast.ClassDef) and owner is not node else None


def constants(source: Source, names: Iterable[str]) -> Iterator[str]:
    """Each constant of the module among the names, with another value."""
    for each in source.tree.body:
        targets = (
            each.targets if isinstance(each, ast.Assign) else [each.target] if isinstance(each, ast.AnnAssign) else []
        )
        bound = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        if bound & set(names) and isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            yield source.with_call_around(each.value)


def imports(source: Source, names: Iterable[str], library: str) -> Iterator[str]:
    """Each import of the project that brings one of the names, leading to another module."""
    for each in source.tree.body:
        if not isinstance(each, ast.ImportFrom) or not {a.asname or a.name for a in each.names} & set(names):
            continue
        if each.level or (each.module or "").partition(".")[0] == library:
            line = ast.unparse(each)
            yield source.spliced(each, "", "", re.sub(r"^from (\S+) import", rf"from \1{MARK} import", line))


# ---- edits that change nothing


def comments(source: Source, chance: random.Random, share: float) -> str:
    """Comments and blank lines before statements."""
    at = {first_line(node): node.col_offset for node in ast.walk(source.tree) if isinstance(node, ast.stmt)}
    alone = {line for line in at if source.lines[line - 1][: at[line]].strip() == ""}
    lines = list(source.lines)
    for line in sorted(alone, reverse=True):
        if chance.random() < share:
            lines[line - 1 : line - 1] = [chance.choice(["\n", "# edited\n", " " * at[line] + "# edited: x = 1\n"])]
    return "".join(lines)


def reformatted(source: Source) -> str:
    return ast.unparse(source.tree)


def docstrings(source: Source, chance: random.Random, share: float) -> str:
    """Other docstrings."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                found.append(first)
    for each in sorted(found, key=lambda each: -each.lineno):
        if chance.random() < share:
            source = Source(source.spliced(each, "", "", repr("edited")))
    return source.text


def moved(source: Source, node: Definition, module: str, package: str) -> tuple[str, str]:
    """(the file without a definition, the new module that has it): each imports from the other."""
    bound = set[str]()
    for each in source.tree.body:
        if isinstance(each, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in each.names}
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(each.name)
        else:
            bound |= {n.id for n in ast.walk(each) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    used = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & bound - {node.name}
    assert node.end_lineno is not None
    first, last = first_line(node) - 1, node.end_lineno
    text = "".join(source.lines[first:last])
    new = (f"from .{module} import {', '.join(sorted(used))}\n\n" if used else "") + text
    line = f"from .{package} import {node.name}\n"
    return "".join([*source.lines[:first], line, *source.lines[last:]]), new


def never_named(sources: dict[str, Source]) -> Iterator[tuple[str, Definition]]:
    """Plain functions of these files whose name stands nowhere in them but in imports and `__all__`."""
    words = Counter[str]()
    for source in sources.values():
        words.update(re.findall(r"\w+", source.text))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom):
                words.subtract(alias.name for alias in node.names if alias.asname is None)
            elif isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
            ):
                words.subtract(n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant))
    for name, source in sources.items():
        for node in source.tree.body:
            if isinstance(node, ast.FunctionDef) and not node.decorator_list and words[node.name] == 1:
                yield name, node
