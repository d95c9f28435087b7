"""What a step is called so that any process finds it again: project-relative file + qualified name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..core.canonical import digest_bytes
from ..core.errors import DefinitionError, UsageError, did_you_mean
from .bytecode import CarefulLoader, look_closer
from .signature import unwrapped

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
    """The file a function lives in; None for notebooks, the interactive prompt and code made by `exec`."""
    code = getattr(unwrapped(fn), "__code__", None)
    source: str = code.co_filename if code is not None else ""
    if source.startswith("<"):
        return None
    file = getattr(sys.modules.get(fn.__module__), "__file__", None)
    if file is None and os.path.isfile(source):
        file = source
    return os.path.realpath(file) if file else None


def target_of(fn: Callable[..., Any], root: str) -> str:
    """ "folder/file.py:qualname" in the project, "package.module:qualname" outside it, "<notebook>:name" in no file."""
    file = module_file(fn)
    if file is None:
        return by_value_target(fn)
    if file.startswith(root + os.sep) and not any(part in file for part in _OUTSIDE):
        return f"{os.path.relpath(file, root).replace(os.sep, '/')}:{fn.__qualname__}"
    return f"{fn.__module__}:{fn.__qualname__}"


def by_value_target(fn: Callable[..., Any]) -> str:
    return f"<notebook>:{fn.__qualname__}"


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
    folder, name = _import_name(file)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    package, _, stem = name.rpartition(".")
    if package:
        importlib.import_module(package)
        if (module := _loaded(file)) is not None:  # the package has imported it
            return module
    module = _executed(_free_name(name, file), file)
    if package:
        setattr(sys.modules[package], stem, module)
    return module


def _executed(name: str, file: str) -> ModuleType:
    look_closer(project_root(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=CarefulLoader(name, file))
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
    file = _main_file()
    if main is None or file is None:
        return
    name = _free_name(_import_name(file)[1], file)
    sys.modules.setdefault(name, main)
    for value in list(vars(main).values()):
        if isinstance(value, type) and value.__module__ == "__main__":
            value.__module__ = name


def class_name(kind: type) -> str:
    """ "module:Class", the same whether the class's file was run or imported."""
    module, file = kind.__module__, _main_file()
    if module == "__main__" and file is not None:
        module = _free_name(_import_name(file)[1], file)
    return f"{module}:{kind.__qualname__}"


def _main_file() -> str | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.realpath(file) if file and file.endswith(".py") else None


def hidden_by(fn: Callable[..., Any]) -> str | None:
    """What stands in the module where a step of this function should be found; None where all is well."""
    found: Any = sys.modules.get(fn.__module__)
    if found is None:
        return None  # it was run by other means than an import; its file is what counts
    for part in fn.__qualname__.split("."):
        if not hasattr(found, part):
            return "nothing"
        found = getattr(found, part)
    if getattr(found, "fn", None) is fn:
        return None
    return f"a {type(found).__name__}" if getattr(found, "fn", None) is None else "another step"


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
    base = os.path.basename(file)
    for name, module in sys.modules.copy().items():
        known = getattr(module, "__file__", None)
        if not known or not known.endswith(".py"):
            continue
        if known == file or ((name == "__main__" or known.endswith(base)) and os.path.realpath(known) == file):
            return module
    return None


def _import_name(file: str) -> tuple[str, str]:
    """The folder for sys.path and the dotted name: packages are entered from above their outermost `__init__.py`."""
    folder, stem = os.path.split(file)
    parts = [stem.removesuffix(".py").replace(".", "_")]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    if parts[-1] == "__init__":
        parts.pop()
    return folder, ".".join(parts)


def _free_name(name: str, file: str) -> str:
    """`name`, or one that only this file has: a name of Python's own library, or of another file, stays theirs."""
    holder = sys.modules.get(name)
    ours = holder is not None and _same_file(getattr(holder, "__file__", None), file)
    if ours or (holder is None and name not in sys.stdlib_module_names):
        return name
    place = os.path.relpath(file, project_root(file))  # not the whole path: it differs from machine to machine
    return f"_penstock_{digest_bytes(place.encode())[:8]}_{name.replace('.', '_')}"


def _same_file(known: str | None, file: str) -> bool:
    return known is not None and os.path.realpath(known) == file


def _near_files(file: str) -> str:
    folder = os.path.dirname(file)
    if not os.path.isdir(folder):
        return f"there is no folder {folder} either"
    names = [name for name in os.listdir(folder) if name.endswith(".py")]
    return did_you_mean(os.path.basename(file), names) if names else f"there is no Python file in {folder}"
