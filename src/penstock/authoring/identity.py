"""What a step is called so that any process finds it again: project-relative file + qualified name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..core.errors import DefinitionError, UsageError, did_you_mean

MARKERS = ("penstock.toml", "pyproject.toml", ".git")
_OUTSIDE = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def project_root(file: str) -> str:
    """The nearest folder above a file that is a project; the file's own folder where there is none."""
    folder = os.path.dirname(os.path.realpath(file))
    probe = folder
    while True:
        if any(os.path.exists(os.path.join(probe, marker)) for marker in MARKERS):
            return probe
        parent = os.path.dirname(probe)
        if parent == probe:
            return folder
        probe = parent


def module_file(fn: Callable[..., Any]) -> str | None:
    """The file a function lives in; None for notebooks and the interactive prompt."""
    module = sys.modules.get(fn.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        code = getattr(fn, "__code__", None)
        file = code.co_filename if code is not None and os.path.isfile(code.co_filename) else None
    return os.path.realpath(file) if file else None


def target_of(fn: Callable[..., Any], root: str) -> str:
    """ "folder/file.py:qualname" inside the project, "package.module:qualname" outside it, "<notebook>:name" nowhere."""
    file = module_file(fn)
    if file is None:
        return f"<notebook>:{fn.__qualname__}"
    if file.startswith(root + os.sep) and not any(part in file for part in _OUTSIDE):
        return f"{os.path.relpath(file, root).replace(os.sep, '/')}:{fn.__qualname__}"
    return f"{fn.__module__}:{fn.__qualname__}"


def is_notebook(target: str) -> bool:
    return target.startswith("<notebook>:")


def split_target(target: str) -> tuple[str, str]:
    place, _, qualname = target.rpartition(":")
    return place, qualname


def load_module(root: str, place: str) -> ModuleType:
    """The module at a target's place: from memory where it is loaded already, else imported once, by its file."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    file = os.path.realpath(os.path.join(root, place))
    return _loaded(file) or load_file(file)


def load_file(file: str) -> ModuleType:
    """Import a file the way `python file` would see it, under its own name instead of `__main__`."""
    file = os.path.realpath(file)
    if (module := _loaded(file)) is not None:
        return module
    if not os.path.isfile(file):
        raise UsageError(f"there is no file {file}", hint=_near_files(file))
    base, name = _import_name(file)
    if base not in sys.path:
        sys.path.insert(0, base)
    if "." in name:
        importlib.import_module(name.rpartition(".")[0])
    if name in sys.modules:  # another module already has the name of this file
        name = "_penstock_" + name.replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file", hint="give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def adopt_main() -> None:
    """Let `__main__` be known by its file's name too, so that its classes mean the same in every process."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if main is None or not file or not file.endswith(".py"):
        return
    _, name = _import_name(os.path.realpath(file))
    if sys.modules.setdefault(name, main) is not main:
        return
    for value in list(vars(main).values()):
        if isinstance(value, type) and value.__module__ == "__main__":
            value.__module__ = name


def find_qualname(module: ModuleType, qualname: str, place: str) -> Any:
    """The object a target names, or DefinitionError with near names."""
    found: Any = module
    for part in qualname.split("."):
        if not hasattr(found, part):
            raise DefinitionError(
                f"there is no '{qualname}' in {place}",
                hint=did_you_mean(part, [name for name in vars(found) if not name.startswith("_")])
                if hasattr(found, "__dict__")
                else None,
            )
        found = getattr(found, part)
    return found


def _loaded(file: str) -> ModuleType | None:
    for module in list(sys.modules.values()):
        known = getattr(module, "__file__", None)
        if known and known.endswith(".py") and (known == file or os.path.realpath(known) == file):
            return module
    return None


def _import_name(file: str) -> tuple[str, str]:
    """The folder for sys.path and the dotted name: packages are entered from above their outermost `__init__.py`."""
    folder, stem = os.path.split(file)
    parts = [stem.removesuffix(".py")]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    return folder, ".".join(parts)


def _near_files(file: str) -> str:
    folder = os.path.dirname(file)
    if not os.path.isdir(folder):
        return f"there is no folder {folder} either"
    names = [name for name in os.listdir(folder) if name.endswith(".py")]
    return did_you_mean(os.path.basename(file), names) if names else f"there is no Python file in {folder}"
