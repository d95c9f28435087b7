"""Where imports lead, and what running them does: shared by all steps whose file lies in one folder.

Python runs a whole module when it is imported, so a file that is imported, however indirectly, may change names of
other files: plugins register themselves, settings are set from outside.
"""

from __future__ import annotations

import sys

from .distributions import Distributions
from .facts import Effect, Import
from .project import Place, Project, SourceFile

Chain = tuple[str, ...]
Name = tuple[str, str]  # file, a top-level name of it
_STDLIB = sys.stdlib_module_names


class Imports:
    """Answers from a snapshot of the project. `entry` is a step's file: absolute imports look in its folder first."""

    def __init__(self, project: Project, distributions: Distributions, entry: SourceFile) -> None:
        self._project = project
        self._distributions = distributions
        self._entry = entry
        self._places: dict[tuple[str, str, int], Place | None] = {}
        self._files: dict[str, list[SourceFile]] = {}
        self._changes: dict[str, dict[Name, dict[int, bool]]] = {}
        self._fills: dict[tuple[str, int, bool], dict[Name, None]] = {}
        self._homes: dict[tuple[str, Chain, Import | None], tuple[SourceFile, Chain] | None] = {}

    def locate(self, file: SourceFile, each: Import) -> Place | None:
        """Where an imported module lies in the project; None where it is not one of the project's."""
        key = (file.folder, each.module, each.level)
        if key not in self._places:
            self._places[key] = self._find(file, each)
        return self._places[key]

    def files(self, file: SourceFile) -> list[SourceFile]:
        """The files of the project that run when this one is imported, in order, not theirs in turn."""
        if file.path not in self._files:
            paths = dict.fromkeys(path for each in file.facts.modules for path in self.paths(file, each))
            read = [self._project.file(path) for path in paths]
            self._files[file.path] = [each for each in read if each is not None]
        return self._files[file.path]

    def paths(self, file: SourceFile, each: Import) -> list[str]:
        """The source files of the project that one import runs, not what these import in turn."""
        place = self.locate(file, Import(each.module, each.level))
        if place is None:
            return []
        inner = None if each.attr is None else self._project.submodule(place, each.attr)
        found = (*self._packages_of(place), place.file, None if inner is None else inner.file)
        return [path for path in found if path is not None and path.endswith(".py")]

    def changes(self, file: SourceFile) -> dict[Name, dict[int, bool]]:
        """Names of other files that importing this one changes: to the statements that do it, and whether only by a
        call of something that changes them."""
        if file.path not in self._changes:
            found: dict[Name, dict[int, bool]] = {}
            for effect in file.facts.effects:
                for name, by_call in self._changed_by(file, effect).items():
                    if name[0] != file.path:
                        known = found.setdefault(name, {})
                        known[effect.number] = by_call and known.get(effect.number, True)
            self._changes[file.path] = found
        return self._changes[file.path]

    # ---- places

    def _find(self, file: SourceFile, each: Import) -> Place | None:
        if each.level:
            return self._project.relative(each.module, each.level, file)
        first = each.module.partition(".")[0]
        if first == "penstock":
            return None  # ready-made steps and functions count by penstock's version
        place = self._project.module(each.module, file, self._entry)
        if place is None and first not in _STDLIB and not self._distributions.of(each.module):
            place = self._project.namespace(each.module, file, self._entry)
        return place

    def _packages_of(self, place: Place) -> list[str]:
        """`import a.b.c` runs a and a.b first."""
        found: list[str] = []
        path = place.file or place.folder
        package = self._project.package_of(path) if path is not None else None
        while package is not None:
            found.append(package)
            package = self._project.package_of(package)
        return found[::-1]

    # ---- what a statement changes

    def _changed_by(self, file: SourceFile, effect: Effect) -> dict[Name, bool]:
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
        if key in self._fills:
            return self._fills[key]
        self._fills[key] = found = dict[Name, None]()  # known before it is complete: functions that call each other
        block = file.facts.blocks[number]
        chains = list(block.fills) if not inherits or block.kind == "maker" else []
        if block.kind == "function":
            for mention in block.mentions if not inherits else ():
                found |= self._filled_through(file, mention.chain, mention.via)
        else:
            own = {chain[0] for chain in block.fills}
            chains += [(name,) for name, by in file.facts.filled_by.items() if number in by and name not in own]
            for effect in file.facts.effects:
                if effect.number == number and effect.how == "inherits":
                    found |= dict.fromkeys(self._changed_by(file, effect))
        homes = [self._home(file, chain, None) for chain in chains]
        found |= dict.fromkeys((home[0].path, home[1][0]) for home in homes if home is not None)
        return found

    def _filled_through(self, file: SourceFile, chain: Chain, via: Import | None) -> dict[Name, None]:
        """What a function changes by calling another one."""
        home = self._home(file, chain, via)
        found: dict[Name, None] = {}
        if home is not None:
            source, (name, *_) = home
            for number in _definitions(source, name):
                if source.facts.blocks[number].kind == "function":
                    found |= self._filled(source, number, False)
        return found

    def _home(self, file: SourceFile, chain: Chain, via: Import | None) -> tuple[SourceFile, Chain] | None:
        """The file that defines what a chain stands for, and the chain from there; None outside the project."""
        key = (file.path, chain, via)
        if key not in self._homes:
            self._homes[key] = None  # two modules that import a name from each other
            self._homes[key] = self._follow(file, chain, via)
        return self._homes[key]

    def _follow(self, file: SourceFile, chain: Chain, via: Import | None) -> tuple[SourceFile, Chain] | None:
        facts, name = file.facts, chain[0]
        for each in (via,) if via is not None else facts.imports.get(name, ()):
            place = self.locate(file, each)
            rest = chain[1:] if each.attr is None else (each.attr, *chain[1:])
            found = None if place is None else self._inside(place, rest)
            if found is not None:
                return found
        if via is not None:
            return None
        if name in facts.names and name not in facts.imports:
            return file, chain
        for star in facts.stars:
            place = self.locate(file, star)
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


class Registries:
    """What is changed by the files that are known to be imported with one step."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports
        self._imported: set[str] = set()
        self._changed: dict[Name, list[tuple[SourceFile, int, bool]]] = {}

    def imported(self, file: SourceFile) -> None:
        """Note that a file is imported, with all that it imports."""
        waiting = [file]
        for each in waiting:
            if each.path not in self._imported:
                self._imported.add(each.path)
                waiting += self._imports.files(each)
                for name, statements in self._imports.changes(each).items():
                    self._changed.setdefault(name, []).extend((each, *found) for found in statements.items())

    def changing(self, name: Name, by_calls: bool) -> list[tuple[SourceFile, int]]:
        """Statements of other files, known by now, that change a name when they are imported.

        `by_calls`: with those that call something of the name's own file, or another, that changes it.
        """
        return [(file, number) for file, number, by_call in self._changed.get(name, ()) if by_calls or not by_call]


def _definitions(file: SourceFile, name: str) -> list[int]:
    """The functions and classes of that name."""
    blocks = file.facts.blocks
    numbers = file.facts.names.get(name, ())
    return [number for number in numbers if blocks[number].label == name and blocks[number].kind != "statement"]
