"""Shapes of a syntax tree, each answered by one small question."""

from __future__ import annotations

import _ast
from collections.abc import Iterable
from typing import Any, Literal

from .facts import Import

STEP_DECORATORS = frozenset({"step", "pipeline"})
MUTATORS = frozenset({"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop"}) | {
    *("popitem", "popleft", "register", "remove", "reverse", "setdefault", "sort", "subscribe", "update", "connect"),
    *("__setitem__", "__setattr__"),
}
NO_DEFINITION: list[tuple[str, ...]] = []  # decorator_chains of any other statement


def root_chain(node: Any) -> tuple[str, ...] | None:
    """("X", "a") of `X.a[0].b(...)`: its name, and the attributes while it is a chain."""
    attrs: list[str] = []
    while True:
        if isinstance(node, _ast.Name):
            return (node.id, *reversed(attrs))
        if isinstance(node, _ast.Attribute):
            attrs.append(node.attr)
            node = node.value
        elif isinstance(node, _ast.Subscript | _ast.Starred):
            attrs.clear()
            node = node.value
        elif isinstance(node, _ast.Call):
            attrs.clear()
            node = node.func
        else:
            return None


def chain_of(node: Any) -> tuple[str, ...] | None:
    """("a", "b", "c") of `a.b.c`; None where it does not start from a name."""
    attrs = []
    while isinstance(node, _ast.Attribute):
        attrs.append(node.attr)
        node = node.value
    return (node.id, *reversed(attrs)) if isinstance(node, _ast.Name) else None


def _is_main_guard(test: Any) -> bool:
    if not isinstance(test, _ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], _ast.Eq):
        return False
    sides = {getattr(each, "id", None) or getattr(each, "value", None) for each in (test.left, test.comparators[0])}
    return sides == {"__name__", "__main__"}


def top_level(body: Iterable[_ast.stmt]) -> Iterable[_ast.stmt]:
    """Top-level statements, without the `__main__` block; imports for type checkers count one by one."""
    for each in body:
        if isinstance(each, _ast.If):
            if _is_main_guard(each.test):
                yield from top_level(each.orelse)
                continue
            chain = chain_of(each.test)
            if chain is not None and chain[-1] == "TYPE_CHECKING" and not each.orelse:
                yield from top_level(each.body)
                continue
        yield each


def step_names(body: list[_ast.stmt]) -> dict[str, bool]:
    """Names under which this file knows penstock (True) or its decorators (False)."""
    known: dict[str, bool] = {}
    for each in body:
        if isinstance(each, _ast.Import):
            for alias in each.names:
                if alias.name.partition(".")[0] == "penstock":
                    known[alias.asname or "penstock"] = True
        elif isinstance(each, _ast.ImportFrom) and not each.level and (each.module or "").startswith("penstock"):
            for alias in each.names:
                if alias.name in STEP_DECORATORS:
                    known[alias.asname or alias.name] = False
                elif alias.name == "*":
                    known |= dict.fromkeys(STEP_DECORATORS, False)
    return known


def decorator_chains(node: Any) -> list[tuple[str, ...]]:
    """The decorators of a definition as chains; `NO_DEFINITION` itself for any other statement."""
    if not isinstance(node, _ast.FunctionDef | _ast.AsyncFunctionDef | _ast.ClassDef):
        return NO_DEFINITION
    chains = [chain_of(each.func if isinstance(each, _ast.Call) else each) for each in node.decorator_list]
    return [each for each in chains if each is not None]


def kind_of(node: _ast.stmt) -> Literal["statement", "function", "class", "maker"]:
    """What a top-level statement is; a maker is a class that acts when another is derived from it or made by it."""
    if isinstance(node, _ast.FunctionDef | _ast.AsyncFunctionDef):
        return "function"
    if not isinstance(node, _ast.ClassDef):
        return "statement"
    return "maker" if _is_metaclass(node) or "__init_subclass__" in _methods(node) else "class"


def keeps_what_it_makes(node: _ast.ClassDef) -> bool:
    """Whether a class keeps every class that is derived from it or made by it, as plugins are kept."""
    methods = _methods(node)
    hooks = [methods.get("__init_subclass__")]
    if _is_metaclass(node):
        hooks += [methods.get("__init__"), methods.get("__new__")]
    for hook in hooks:
        if hook is not None and hook.args.args:
            first = hook.args.args[0].arg
            if any(_keeps(each, first, hook.name == "__new__") for each in _parts(hook)):
                return True
    return False


def _keeps(node: Any, first: str, on_itself: bool) -> bool:
    """`X[k] = cls`, `X.append(cls)`; `on_itself`: anything that is put into something of `cls`."""
    if isinstance(node, _ast.Assign):
        into: list[Any] = [each for each in node.targets if isinstance(each, _ast.Subscript)]
        given: list[Any] = [node.value]
    elif isinstance(node, _ast.Call) and isinstance(node.func, _ast.Attribute) and node.func.attr in MUTATORS:
        into, given = [node.func], node.args
    else:
        return False
    if on_itself:
        return any((root_chain(each) or ("",))[0] == first for each in into)
    return bool(into) and any(isinstance(each, _ast.Name) and each.id == first for each in given)


def _methods(node: _ast.ClassDef) -> dict[str, _ast.FunctionDef]:
    return {each.name: each for each in node.body if isinstance(each, _ast.FunctionDef)}


def _is_metaclass(node: _ast.ClassDef) -> bool:
    chains = [chain_of(each) for each in node.bases]
    return any(chain is not None and (chain[-1] == "type" or chain[-1].endswith("Meta")) for chain in chains)


def _parts(node: Any) -> Iterable[Any]:
    """A node and everything in it."""
    waiting = [node]
    for each in waiting:
        yield each
        for name in each._fields:
            value = getattr(each, name, None)
            found = value if isinstance(value, list) else [value]
            waiting += [part for part in found if isinstance(part, _ast.AST)]


def imported(node: _ast.Import | _ast.ImportFrom) -> Iterable[tuple[str, Import]]:
    if isinstance(node, _ast.Import):
        for alias in node.names:
            # `import a.b` binds a; `import a.b as c` binds the inner module.
            module = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or module, Import(module, 0, None, node.lineno)
    elif node.module != "__future__":
        for alias in node.names:
            attr = None if alias.name == "*" else alias.name
            yield alias.asname or alias.name, Import(node.module or "", node.level, attr, node.lineno)


def modules_of(node: _ast.Import | _ast.ImportFrom) -> list[Import]:
    """The modules that an import statement runs; `from a import b` may run a.b."""
    if isinstance(node, _ast.Import):
        return [Import(alias.name) for alias in node.names]
    if node.module == "__future__":
        return []
    return [Import(node.module or "", node.level, None if each.name == "*" else each.name) for each in node.names]


def exports(body: list[_ast.stmt]) -> tuple[str, ...] | None:
    """The names of a literal `__all__`; None where there is none or it is computed."""
    names: list[str] | None = None
    for each in body:
        if isinstance(each, _ast.Assign):
            targets, value = each.targets, each.value
        elif isinstance(each, _ast.AugAssign | _ast.AnnAssign) and each.value is not None:
            targets, value = [each.target], each.value
        else:
            continue
        if not any(isinstance(target, _ast.Name) and target.id == "__all__" for target in targets):
            continue
        if not isinstance(value, _ast.List | _ast.Tuple):
            return None
        texts = [item.value for item in value.elts if isinstance(item, _ast.Constant) and isinstance(item.value, str)]
        if len(texts) != len(value.elts):
            return None
        names = (names or []) + texts if isinstance(each, _ast.AugAssign) else texts
    return None if names is None else tuple(names)
