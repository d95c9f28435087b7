"""Which installed distribution brings a module: sklearn is scikit-learn, yaml is PyYAML.

Most modules are called like their distribution, which the listing of folder names answers. The others are looked up
in the files that installers leave, once, and the answer is kept until something is installed or removed.
"""

from __future__ import annotations

import os

from ...core.canonical import digest_json
from ..environment import canonical_name, installed, package_versions
from .memo import Memo


class Distributions:
    """Modules to {distribution: version}."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self._known: dict[str, list[str]] | None = None
        self._records: dict[str, bytes] | None = None
        self._listing = ""

    def of(self, module: str) -> dict[str, str]:
        """The distributions that a dotted name may come from: one, or several for a shared namespace; {} if unknown."""
        versions = package_versions()
        name = canonical_name(module.partition(".")[0])
        if name in versions:
            return {name: versions[name]}
        return {each: versions[each] for each in self._looked_up(module) if each in versions}

    def _looked_up(self, module: str) -> list[str]:
        if self._known is None:
            self._listing = "distributions-" + digest_json([(name, version) for name, version, _ in installed()])
            self._known = self._memo.get(self._listing, dict[str, list[str]]) or {}
        if module not in self._known:
            self._known[module] = self._search(module)
            self._memo.put(self._listing, self._known)
        return self._known[module]

    def _search(self, module: str) -> list[str]:
        """Whoever installed the longest part of the dotted name."""
        if self._records is None:
            self._records = {name: _file_list(folder) for name, _, folder in installed()}
        parts = module.split(".")
        while parts:
            path = "/".join(parts).encode()
            marks = (b"\n" + path + b"/", b"\n" + path + b".py", b"\n" + path + b".cpython", b"\n" + path + b".abi3")
            found = [name for name, files in self._records.items() if any(mark in files for mark in marks)]
            if found:
                return sorted(found)
            parts.pop()
        return []


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
