"""What is installed in the running interpreter, as pins: packages with all that they need in turn."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

import msgspec

from ..engine.environment import canonical_name, installed, origins

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?\s*([^;]*)(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


class Asked(msgspec.Struct, frozen=True):
    """A requirement as people write it: `pandera[pandas]>=0.22; python_version < "4"`."""

    name: str
    extras: tuple[str, ...] = ()
    limits: str = ""  # ">=0.22", or "@ URL"
    marker: str = ""


def asked(text: str) -> Asked | None:
    """The parts of a requirement; None where it names no package.

    >>> asked('Pandera[pandas, io] >=0.22 ; python_version < "4"')
    Asked(name='pandera', extras=('io', 'pandas'), limits='>=0.22', marker='python_version < "4"')
    """
    found = _REQUIREMENT.match(text)
    if found is None:
        return None
    extras = sorted(canonical_name(each.strip()) for each in (found[2] or "").split(",") if each.strip())
    return Asked(canonical_name(found[1]), tuple(extras), found[3].strip().strip("()"), (found[4] or "").strip())


class Package(msgspec.Struct, frozen=True):
    """One installed distribution. `origin`: where it came from, if from no index (PEP 610)."""

    name: str
    version: str
    origin: dict[str, Any] | None = None


class Installed:
    """The distributions on sys.path."""

    def __init__(self) -> None:
        self._folders = {name: (version, folder) for name, version, folder in installed()}
        self._origins = origins()

    def find(self, name: str) -> Package | None:
        known = self._folders.get(canonical_name(name))
        return None if known is None else Package(canonical_name(name), known[0], self._origins.get(name))

    def needs(self, name: str, extras: frozenset[str] = frozenset()) -> list[Asked]:
        """What a distribution requires, by its metadata, with these of its extras."""
        known = self._folders.get(name)
        if known is None or os.path.isfile(known[1]):  # an old egg: one file, without requirements
            return []
        found = []
        for text in PathDistribution(Path(known[1])).requires or ():
            each = asked(text)
            wanted = [canonical_name(extra) for extra in _EXTRA.findall(text)]
            if each is not None and (not wanted or any(extra in extras for extra in wanted)):
                found.append(each)
        return found

    def closure(self, roots: Iterable[Asked]) -> dict[str, Package]:
        """The roots and all that they need, of what is installed. A need that is not installed is one of another
        platform or version of Python, or broken here too."""
        found: dict[str, Package] = {}
        seen: dict[str, frozenset[str]] = {}
        waiting = list(roots)
        for each in waiting:
            before = seen.get(each.name)
            if before is not None and before.issuperset(each.extras):
                continue
            seen[each.name] = frozenset(each.extras) | (before or frozenset())
            package = self.find(each.name)
            if package is not None:
                found[each.name] = package
                waiting += self.needs(each.name, seen[each.name])
        return dict(sorted(found.items()))
