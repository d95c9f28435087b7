"""Functions that have no file: a notebook's cells, a function that came by value. What can be known, or nothing.

The source of a cell is read from `linecache`, where notebooks put it; constants count by value.
"""

from __future__ import annotations

import builtins
import linecache
import os
import textwrap
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...core.canonical import digest_bytes
from ...ports.records import Fingerprint
from .closure import Closure, Edge
from .distributions import Distributions
from .facts import Import
from .imports import Imports
from .project import Project, SourceFile
from .reading import analyse
from .syntax import STEP_DECORATORS

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...))


class _UnknownSource(Exception):
    """Something that the function reaches has no source."""


def closure_of_source(
    project: Project, distributions: Distributions, name: str, source: str, globals: Mapping[str, Any]
) -> Fingerprint | None:
    """The fingerprint of the top-level `name` of a source text; names it does not bind are looked up in `globals`."""
    try:
        cell = _cell(project, textwrap.dedent(source), globals)
        qualname = name.rpartition(":")[2]
        live = _Live(project, distributions, cell, globals, inner="<locals>" in qualname)
        # The source of an inner function is its own, without the function around it.
        return live.of(qualname.rpartition("<locals>.")[2].partition(".")[0])
    except _UnknownSource:
        return None


class _Live(Closure):
    """A closure that goes on through live objects where there is no import to follow."""

    def __init__(
        self,
        project: Project,
        distributions: Distributions,
        cell: SourceFile,
        globals: Mapping[str, Any],
        inner: bool,
    ) -> None:
        super().__init__(project, distributions, Imports(project, distributions, cell), cell)
        self._globals = globals
        self._inner = inner
        self.outside = self._live

    def _live(self, name: str) -> Edge | None:
        if name not in self._globals:
            if self._inner and not hasattr(builtins, name):
                raise _UnknownSource(name)  # a variable of the function around it
            return None
        value = self._globals[name]
        if isinstance(value, ModuleType):
            self._import(self._entry, Import(value.__name__), ())
            return None
        text = _constant(value)
        if text is not None:
            return f"value {text}"
        value = getattr(value, "fn", value)  # a step stands for its function
        module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        path = _file_of(value)
        if isinstance(qualname, str) and isinstance(module, str):
            if path is not None and self._project.owns(path) and os.path.isfile(path):
                file = self._project.file(path)
                if file is not None and self._follow(file, (qualname.partition(".")[0],)):
                    return None
            if module == "__main__" or (path is not None and not os.path.isfile(path)):
                return self._from_cell(name, path, qualname)
            self._import(self._entry, Import(module, 0, qualname), ())
            return None
        raise _UnknownSource(name)

    def _from_cell(self, name: str, path: str | None, qualname: str) -> Edge | None:
        lines = linecache.getlines(path, dict(self._globals)) if path else []
        if not lines:
            raise _UnknownSource(name)
        cell = _cell(self._project, "".join(lines), self._globals)
        if not self._follow(cell, (qualname.partition(".")[0],)):
            raise _UnknownSource(name)
        return None


def _cell(project: Project, source: str, globals: Mapping[str, Any]) -> SourceFile:
    content = source.encode("utf-8", "replace")
    digest = digest_bytes(content)
    # No such file: the path is only a key, and its folder the place that absolute imports start from.
    path = os.path.join(project.root, f"<notebook {digest[:16]}>")
    facts = analyse(content, _penstock_names(globals))
    if facts.problem is not None:
        raise _UnknownSource("notebook")
    return SourceFile(path, "notebook", content, lambda _, __: facts)


def _penstock_names(globals: Mapping[str, Any]) -> dict[str, bool]:
    """Names under which earlier cells imported penstock (True) or its decorators (False)."""
    known = {}
    for name, value in globals.items():
        is_module = isinstance(value, ModuleType)
        home = value.__name__ if is_module else getattr(value, "__module__", None)
        ours = isinstance(home, str) and home.partition(".")[0] == "penstock"
        if ours and (is_module or getattr(value, "__name__", None) in STEP_DECORATORS):
            known[name] = is_module
    return known


def _constant(value: Any, depth: int = 0) -> str | None:
    """A plain value as text, the same in every process; None for anything else."""
    if type(value) in _PLAIN:
        return f"{type(value).__name__} {hex(value) if type(value) is int else value!r}"
    if depth > 20:
        return None
    if type(value) in (list, tuple):
        inner = [_constant(each, depth + 1) for each in value]
    elif type(value) in (set, frozenset):
        inner = sorted((_constant(each, depth + 1) for each in value), key=str)
    elif type(value) is dict:
        inner = [_constant(each, depth + 1) for pair in value.items() for each in pair]
    else:
        return None
    return None if any(each is None for each in inner) else f"{type(value).__name__}[{', '.join(map(str, inner))}]"


def _file_of(value: Any) -> str | None:
    """Where a function or class was written: the file of its code, or of its first method's."""
    code = getattr(value, "__code__", None)
    if code is None and isinstance(value, type):
        code = next((each.__code__ for each in vars(value).values() if hasattr(each, "__code__")), None)
    return None if code is None else code.co_filename
