"""What the code of a pipeline reaches by its imports: files of the project, packages, and what is in neither.

Imports inside functions count too, for a step runs them. What only a type checker imports does not.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ..core.errors import ImageError
from ..engine.fingerprint.distributions import Distributions
from ..engine.fingerprint.facts import Import
from ..engine.fingerprint.imports import Imports
from ..engine.fingerprint.memo import Memo
from ..engine.fingerprint.project import Project, SourceFile

_URL = re.compile(r"(s3a?|gs|gcs|abfss?|az|postgres(?:ql)?)://\S")
_TESTS = re.compile(r"(^|/)(test_[^/]*|[^/]*_test|conftest|setup|noxfile)\.py$|(^|/)tests?/")
_GONE = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")


class Reached(msgspec.Struct, frozen=True):
    """What was found; places are "file:line" of one import each."""

    packages: tuple[str, ...] = ()  # distributions, by pip's names
    modules: dict[str, str] = {}  # first part of the name of a module in no file of the project -> where it is imported
    missing: dict[str, str] = {}  # the same, of those that are not installed here
    beside: dict[str, str] = {}  # files that lie outside the project and are in no environment -> where it is imported
    schemes: tuple[str, ...] = ()  # of the URLs that are written in the code


def import_folders(root: str) -> tuple[str, ...]:
    """Folders of the project that this interpreter imports from by its own configuration, relative to the root.

    The first entry of sys.path is not that: it is the current folder, or the folder of a script.
    """
    entries = [os.path.realpath(entry) for entry in sys.path[0 if sys.flags.safe_path else 1 :] if entry]
    for name, module in sys.modules.copy().items():
        mapping = getattr(module, "MAPPING", None) if name.startswith("__editable___") else None
        if isinstance(mapping, dict):
            entries += [os.path.realpath(os.path.dirname(str(path))) for path in mapping.values()]
    inside = [entry for entry in dict.fromkeys(entries) if entry == root or entry.startswith(root + os.sep)]
    environments = {os.path.realpath(each) for each in (sys.prefix, sys.base_prefix)}
    own = [entry for entry in inside if not any(entry.startswith(each + os.sep) for each in environments - {root})]
    return tuple(os.path.relpath(entry, root) for entry in own if "site-packages" not in entry)


def python_files(root: str, paths: Iterable[str]) -> list[str]:
    """Of a project's files, those that hold its own code: no tests, no scripts that build it. Absolute paths."""
    return [os.path.join(root, path) for path in paths if path.endswith(".py") and not _TESTS.search(path)]


def reached(root: str, entries: Iterable[str], cache: Path | None = None) -> Reached:
    """Follow the imports of these files. Raises: ImageError where one of them is no Python."""
    walk = _Walk(root, cache)
    for entry in entries:
        walk.follow(entry)
    return walk.found()


class _Walk:
    def __init__(self, root: str, cache: Path | None) -> None:
        self._root = root
        memo = Memo(cache)
        self._project = Project(root, memo)
        self._distributions = Distributions(memo)
        self._packages: dict[str, None] = {}
        self._modules: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._beside: dict[str, str] = {}
        self._schemes: set[str] = set()

    def follow(self, entry: str) -> None:
        first = self._project.file(entry)
        if first is None:
            raise ImageError(f"{entry} cannot be read", hint="give a file of the project")
        imports = Imports(self._project, self._distributions, first)
        seen, waiting = {first.path}, [first]
        for file in waiting:
            for each, optional in self._imports_of(file):
                for path in self._step(imports, file, each, optional):
                    source = None if path in seen else self._project.file(path)
                    seen.add(path)
                    if source is not None:
                        waiting.append(source)

    def found(self) -> Reached:
        return Reached(
            packages=tuple(sorted(self._packages)),
            modules=dict(sorted(self._modules.items())),
            missing=dict(sorted(self._missing.items())),
            beside=dict(sorted(self._beside.items())),
            schemes=tuple(sorted(self._schemes)),
        )

    def _step(self, imports: Imports, file: SourceFile, each: Import, optional: bool) -> list[str]:
        """Take note of one import; returns the files of the project that it leads to."""
        where = f"{file.shown}:{each.line}"
        first = each.module.partition(".")[0]
        if not each.level and (first in sys.stdlib_module_names or first in ("penstock", "__future__")):
            return []
        if imports.locate(file, Import(each.module, each.level)) is not None:
            paths = imports.paths(file, each)
            for path in paths:
                if not path.startswith(self._root + os.sep):
                    self._beside.setdefault(path, where)
            return paths
        if each.level:
            return []
        dotted = each.module if each.attr is None else f"{each.module}.{each.attr}"
        packages = self._distributions.of(dotted) or self._distributions.of(each.module)
        self._packages |= dict.fromkeys(packages)
        if packages:
            if not optional:
                self._modules.setdefault(first, where)
        elif not optional:
            self._missing.setdefault(first, where)
        return []

    def _imports_of(self, file: SourceFile) -> Iterator[tuple[Import, bool]]:
        """(import, whether the code goes on without it) of a whole file."""
        try:
            tree = ast.parse(file.content, file.shown)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise ImageError(f"{file.shown}:{line} is no valid Python: {error}", hint="correct that line") from error
        waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
        for node, optional in waiting:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, 0, None, node.lineno), optional
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    attr = None if alias.name == "*" else alias.name
                    yield Import(node.module or "", node.level, attr, node.lineno), optional
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if (url := _URL.match(node.value)) is not None:
                    self._schemes.add(url[1])
            elif isinstance(node, ast.If) and _for_types_only(node.test):
                waiting += [(each, optional) for each in node.orelse]
            elif isinstance(node, ast.Try):
                tried = optional or any(map(_catches_missing, node.handlers))
                waiting += [(each, tried) for each in node.body]
                waiting += [(each, True) for handler in node.handlers for each in handler.body]
                waiting += [(each, optional) for each in (*node.orelse, *node.finalbody)]
            else:
                waiting += [(each, optional) for each in ast.iter_child_nodes(node)]


def _for_types_only(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _catches_missing(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(getattr(kind, "id", getattr(kind, "attr", "")) in _GONE for kind in kinds)
