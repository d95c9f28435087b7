"""Which names of a piece of code come from outside it: Python's scoping rules, applied in one walk.

Loads are noted as they are seen and judged when the scope closes, because a function may bind a name after its use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .facts import Import


class Load(NamedTuple):
    """A name that is read, with the attributes that follow it. `free`: it skips scopes up to the module's."""

    chain: tuple[str, ...]
    line: int
    via: Import | None = None
    dynamic: bool = False
    free: bool = False
    literal: str | None = None


class Scope:
    """One of module, class, function, comprehension. Ordered containers throughout: digests depend on the order."""

    __slots__ = ("bound", "changed", "fills", "globals", "imports", "kind", "loads", "modules", "nonlocals", "parent")

    def __init__(self, kind: str, parent: Scope | None) -> None:
        self.kind = kind
        self.parent = parent
        self.bound: dict[str, None] = {}
        self.imports: dict[str, list[Import]] = {}
        self.loads: list[Load] = []
        self.modules: list[Import] = []  # what its imports run
        # What is changed here, by its chain: X[0] = 1, X.append(1), module.X = 1
        self.changed: dict[tuple[str, ...], bool] = {}  # False: it is only mentioned by a statement run for its effect
        self.fills: dict[tuple[str, ...], None] = {}  # the same of what inner functions change when called
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()

    def bind(self, name: str) -> None:
        self.bound[name] = None

    def bind_import(self, name: str, found: Import) -> None:
        self.imports.setdefault(name, []).append(found)

    def change(self, chain: tuple[str, ...] | None, sure: bool = True) -> None:
        if chain is not None:
            self.changed[chain] = sure or self.changed.get(chain, False)

    def load(
        self,
        chain: tuple[str, ...],
        line: int,
        via: Import | None = None,
        dynamic: bool = False,
        literal: str | None = None,
    ) -> None:
        # A class body reads its own names first and the module's otherwise, in the order of execution.
        if self.kind == "class" and via is None and chain[0] in self.bound and chain[0] not in self.globals:
            return
        self.loads.append(Load(chain, line, via, dynamic, literal=literal))

    def touched(self) -> Iterable[str]:
        return self.bound | {chain[0]: None for chain in self.changed}

    def distinct_loads(self) -> Iterable[Load]:
        """Loads once each, the first line standing for all."""
        seen: dict[tuple[object, ...], Load] = {}
        for load in self.loads:
            seen.setdefault((load.chain, load.via, load.dynamic, load.literal), load)
        return seen.values()

    def close_into(self, parent: Scope) -> None:
        """Hand what is not this scope's own to the scope around it."""
        outer = parent
        if self.kind != "class":
            while outer.kind == "class" and outer.parent is not None:
                outer = outer.parent  # names of a class body are not visible in its functions
        used: set[str] = set()
        for load in self.loads:
            name = load.chain[0]
            if load.via is not None or load.free:
                outer.loads.append(load)
            elif name in self.globals:
                outer.loads.append(load._replace(free=True))
            elif name in self.imports:
                used.add(name)
                outer.loads.extend(load._replace(via=found) for found in self.imports[name])
            elif not self.own(name):
                outer.loads.append(load)
        for name, imported in self.imports.items():
            if name not in used and self.kind == "function":
                # Imported and not used: it is imported for its effect.
                outer.loads.extend(Load((name,), found.line, found) for found in imported)
        self._hand_changes(parent)

    def own(self, name: str) -> bool:
        """Whether the name, as seen from inside, is bound here."""
        if self.kind == "class":
            return False  # judged when it was loaded
        return name in self.bound and name not in self.nonlocals and name not in self.globals

    def _hand_changes(self, parent: Scope) -> None:
        changed = [chain for chain in self.changed if chain[0] in self.globals or not self.local(chain[0])]
        changed += [(name,) for name in self.bound if name in self.globals]
        if self.kind == "function":
            parent.fills.update(dict.fromkeys(changed))
        else:
            parent.changed.update(dict.fromkeys(changed, True))
        parent.fills.update((chain, None) for chain in self.fills if not self.local(chain[0]))

    def local(self, name: str) -> bool:
        return (name in self.bound or name in self.imports) and name not in self.globals | self.nonlocals
