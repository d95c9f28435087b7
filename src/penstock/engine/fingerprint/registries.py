"""What other files change when they are imported: plugins that register themselves, settings set from outside.

Python runs a whole module when it is imported. So each file of the project that is imported with the step, however
indirectly, may change names of other files. Such a statement counts with the name that it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .facts import Effect, Import
from .project import Place, Project, SourceFile

Chain = tuple[str, ...]
Name = tuple[str, str]  # file, a top-level name of it
Statement = tuple[SourceFile, int]
Locate = Callable[[SourceFile, Import], Place | None]


class Registries:
    """Grows with the files that are known to be imported."""

    def __init__(self, project: Project, locate: Locate) -> None:
        self._project = project
        self._locate = locate
        self._imported: set[str] = set()
        self._changed: dict[Name, dict[Statement, bool]] = {}  # to whether only a call does it
        self._fills: dict[tuple[str, int, bool], dict[Name, None]] = {}
        self._homes: dict[tuple[str, Chain, Import | None], tuple[SourceFile, Chain] | None] = {}

    def imported(self, file: SourceFile) -> None:
        """Note that a file is imported, with all that it imports."""
        waiting = [file]
        for each in waiting:
            if each.path in self._imported:
                continue
            self._imported.add(each.path)
            waiting += self._imports_of(each)
            for effect in each.facts.effects:
                for name, by_call in self._changes(each, effect).items():
                    if name[0] != each.path:
                        known = self._changed.setdefault(name, {})
                        known[each, effect.number] = by_call and known.get((each, effect.number), True)

    def changing(self, name: Name, by_calls: bool) -> list[Statement]:
        """Statements of other files, known by now, that change a name when they are imported.

        `by_calls`: with those that call something of the name's own file, or another, that changes it.
        """
        return [each for each, by_call in self._changed.get(name, {}).items() if by_calls or not by_call]

    def _imports_of(self, file: SourceFile) -> Iterator[SourceFile]:
        for each in file.facts.modules:
            module = Import(each.module, each.level)
            place = self._locate(file, module)
            if place is None:
                continue
            inner = None if each.attr is None else self._project.submodule(place, each.attr)
            for path in (*self._packages_of(place), place.file, None if inner is None else inner.file):
                found = self._project.file(path) if path is not None and path.endswith(".py") else None
                if found is not None:
                    yield found

    def _packages_of(self, place: Place) -> list[str]:
        """`import a.b.c` runs a and a.b first."""
        found: list[str] = []
        path = place.file or place.folder
        folder = self._project.package_of(path) if path is not None else None
        while folder is not None:
            found.append(folder)
            folder = self._project.package_of(folder)
        return found[::-1]

    # ---- what a statement changes

    def _changes(self, file: SourceFile, effect: Effect) -> dict[Name, bool]:
        """What an effect changes, and whether only by a call."""
        home = self._home(file, effect.chain, effect.via)
        if home is None:
            return {}
        source, chain = home
        definitions = _definitions(source, chain[0])
        found: dict[Name, bool] = {}
        for number in definitions:
            found |= dict.fromkeys(self._filled(source, number, effect.how == "inherits"), True)
        if effect.how == "changes" or (effect.how == "mentions" and (len(chain) > 1 or not definitions)):
            found[source.path, chain[0]] = False
        return found

    def _filled(self, file: SourceFile, number: int, inherits: bool) -> dict[Name, None]:
        """What is changed by a call of a function, by making an object of a class, or by inheriting from it."""
        key = (file.path, number, inherits)
        if key not in self._fills:
            self._fills[key] = {}  # functions that call each other
            self._fills[key] = found = dict[Name, None]()
            block = file.facts.blocks[number]
            chains = list(block.fills) if not inherits or block.kind == "maker" else []
            if block.kind == "function":
                for mention in block.mentions if not inherits else ():
                    home = self._home(file, mention.chain, mention.via) if mention.literal is None else None
                    for called in _definitions(home[0], home[1][0]) if home is not None else ():
                        if home is not None and home[0].facts.blocks[called].kind == "function":
                            found |= self._filled(home[0], called, False)
            else:
                own = {chain[0] for chain in block.fills}
                chains += [(name,) for name, by in file.facts.filled_by.items() if number in by and name not in own]
                for effect in file.facts.effects:
                    if effect.number == number and effect.how == "inherits":
                        found |= dict.fromkeys(self._changes(file, effect))
            homes = [self._home(file, chain, None) for chain in chains]
            found |= dict.fromkeys((home[0].path, home[1][0]) for home in homes if home is not None)
        return self._fills[key]

    def _home(self, file: SourceFile, chain: Chain, via: Import | None) -> tuple[SourceFile, Chain] | None:
        """The file that defines what a chain stands for, and the chain from there; None outside the project."""
        key = (file.path, chain, via)
        if key not in self._homes:
            self._homes[key] = None  # two modules that import a name from each other
            self._homes[key] = self._find(file, chain, via)
        return self._homes[key]

    def _find(self, file: SourceFile, chain: Chain, via: Import | None) -> tuple[SourceFile, Chain] | None:
        facts = file.facts
        for each in (via,) if via is not None else facts.imports.get(chain[0], ()):
            place = self._locate(file, each)
            found = (
                None
                if place is None
                else self._inside(place, chain[1:] if each.attr is None else (each.attr, *chain[1:]))
            )
            if found is not None:
                return found
        if via is None and chain[0] in facts.names and chain[0] not in facts.imports:
            return file, chain
        for star in facts.stars if via is None else ():
            place = self._locate(file, star)
            found = None if place is None else self._inside(place, chain)
            if found is not None:
                return found
        return None

    def _inside(self, place: Place, chain: Chain) -> tuple[SourceFile, Chain] | None:
        if not chain or place.binary:
            return None
        source = None if place.file is None else self._project.file(place.file)
        found = None if source is None else self._home(source, chain, None)
        inner = self._project.submodule(place, chain[0]) if found is None else None
        return found if inner is None else self._inside(inner, chain[1:])


def _definitions(file: SourceFile, name: str) -> list[int]:
    """The functions and classes of that name."""
    blocks = file.facts.blocks
    numbers = file.facts.names.get(name, ())
    return [number for number in numbers if blocks[number].label == name and blocks[number].kind != "statement"]
