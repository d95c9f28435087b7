"""Which installed distribution brings a module: sklearn is scikit-learn, yaml is PyYAML.

Most modules are called like their distribution, which the listing of folder names answers. For the others, the files
that installers leave are read once, and what they say is kept until something is installed or removed.
"""

from __future__ import annotations

import os
import re

from ...core.canonical import digest_json
from ..environment import canonical_name, installed, package_versions
from .memo import Memo

_FIRST = re.compile(rb"^[^/,\r\n]+", re.MULTILINE)


class Distributions:
    """Modules to {distribution: version}."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self._by_module: dict[str, list[str]] | None = None
        self._shared: dict[str, list[str]] = {}

    def of(self, module: str) -> dict[str, str]:
        """The distributions that a dotted name may come from: one, or several for a shared namespace; {} if unknown."""
        versions = package_versions()
        first = module.partition(".")[0]
        name = canonical_name(first)
        if name in versions:
            return {name: versions[name]}
        found = self._modules().get(first, [])
        if len(found) > 1:
            found = self._nearest(module, found)
        return {each: versions[each] for each in found if each in versions}

    def _modules(self) -> dict[str, list[str]]:
        """Top-level module -> who installed something under that name."""
        if self._by_module is None:
            kept = "modules-" + digest_json([(name, version) for name, version, _ in installed()])
            known = self._memo.get(kept, dict[str, list[str]])
            if known is None:
                known = {}
                for name, _, folder in installed():
                    for module in _top_level(_file_list(folder)):
                        known.setdefault(module, []).append(name)
                self._memo.put(kept, known)
            self._by_module = known
        return self._by_module

    def _nearest(self, module: str, among: list[str]) -> list[str]:
        """Of those that share a namespace, who installed the longest part of the dotted name."""
        if module not in self._shared:
            folders = {name: folder for name, _, folder in installed()}
            files = {name: _file_list(folders[name]) for name in among if name in folders}
            self._shared[module] = _longest(module, files) or among
        return self._shared[module]


def _longest(module: str, files: dict[str, bytes]) -> list[str]:
    parts = module.split(".")
    while parts:
        path = "/".join(parts).encode()
        marks = (b"\n" + path + b"/", b"\n" + path + b".py", b"\n" + path + b".cpython", b"\n" + path + b".abi3")
        found = [name for name, listed in files.items() if any(mark in listed for mark in marks)]
        if found:
            return sorted(found)
        parts.pop()
    return []


def _top_level(listed: bytes) -> set[str]:
    """The modules at the top of what was installed: folders, source files and extension modules."""
    names = {each.decode("utf-8", "replace") for each in set(_FIRST.findall(listed))}
    return {name.partition(".")[0] for name in names if not name.endswith((".dist-info", ".egg-info", ".data"))} - {""}


def _file_list(folder: str) -> bytes:
    """What a distribution installed, one path per line, a line break before each."""
    for name in ("RECORD", "SOURCES.txt", "top_level.txt"):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
        except OSError:
            continue
        if name == "top_level.txt":
            content = b"/\n".join(content.split()) + b"/"
        return b"\n" + content
    return b""
