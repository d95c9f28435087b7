"""From a step outward: every statement of the project that it reaches, numbered in the order of discovery.

The digest is over statements and over what each of their names stands for. Numbers stand for files and places, so that
moving a definition to another file, or another line, changes nothing, and swapping two of them does.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable

from ...core.canonical import digest_json
from ...ports.records import Fingerprint, HiddenInput, HiddenKind
from .distributions import Distributions
from .facts import Import, Mention
from .imports import Imports, Registries
from .impure import BARE, is_unseeded, kind_of_call
from .kept import Piece, Walked
from .project import Place, Project, SourceFile

_DATA = "reads a file of a package, whose content is no input (see context().observe)"
_DOCS = "reads docstrings, which do not count"
_FOUND = "finds modules that are not named in the source"
_BLIND = {
    "eval": "runs code that only exists while it runs",
    "exec": "runs code that only exists while it runs",
    "compile": "compiles code that only exists while it runs",
    "open": "opens a file whose content is no input: @step(reads=…), or context().reads(path)",
    "globals": "reaches names of its module that are not written in the source",
    "__import__": "imports a module that is not named in the source",
    "importlib.import_module": "imports a module that is not named in the source",
    "importlib.resources.files": _DATA,
    "importlib.resources.open_text": _DATA,
    "importlib.resources.open_binary": _DATA,
    "importlib.resources.read_text": _DATA,
    "importlib.resources.read_binary": _DATA,
    "importlib.resources.path": _DATA,
    "pkgutil.get_data": _DATA,
    "pkgutil.iter_modules": _FOUND,
    "pkgutil.walk_packages": _FOUND,
    "importlib.metadata.entry_points": _FOUND,
    "__doc__": _DOCS,
    "inspect.getdoc": _DOCS,
    "__subclasses__": "finds classes that are not named in the source; those of other files do not count",
}
_ENVIRONMENT = frozenset({"os.environ", "os.environ.get", "os.getenv"})
_WHOLE = -1  # in place of a statement's number: the module itself

# What a name stands for: the number of a statement, or the dotted name of something outside the project.
Edge = int | str


class Closure:
    """One walk from one step. `entry` is the step's file: its folder is the first place for absolute imports."""

    def __init__(self, project: Project, distributions: Distributions, modules: Imports, entry: SourceFile) -> None:
        self._project = project
        self._distributions = distributions
        self._entry = entry
        self._numbers: dict[tuple[str, int], int] = {}
        self._queue: list[tuple[SourceFile, int]] = []
        self._edges: list[Edge] = []
        self._modules = modules
        self._registries = Registries(modules)
        # Top-level names that were reached, and whether by more than what fills them.
        self._named: dict[tuple[str, str], bool] = {}
        self._filling = False  # the mention that is followed stands in a function that changes what it names
        self._following: set[tuple[str, tuple[str, ...]]] = set()
        # file -> (name, import) -> whether it leads outside; one part for each file, so that `why` can show the line
        self._imports: dict[str, dict[tuple[str, Import], tuple[SourceFile, bool]]] = {}
        self._binaries: list[Piece] = []
        self._sources: dict[str, SourceFile] = {}
        self.pieces: tuple[Piece, ...] = ()
        self._packages: dict[str, str] = {}
        self._unseen: dict[str, None] = {}
        self._hidden: dict[HiddenInput, None] = {}
        self._records: list[object] = []
        self.outside: Callable[[str], Edge | None] = lambda name: None  # names that no statement of the file binds

    def of(self, name: str) -> Fingerprint:
        """The fingerprint of a top-level name of the entry file; of the whole file where it binds no such name."""
        if not self._follow(self._entry, (name,)):
            self._see_not(self._entry, 1, f"'{name}' is not defined by a top-level statement; the whole file counts")
            self._whole(self._entry)
        self._records.append(self._edges)
        done = 0
        while done < len(self._queue):
            self._block(*self._queue[done])
            done += 1
            if done == len(self._queue):
                self._changed_elsewhere()
        self.pieces = (*self._parts(), *self._import_parts(), *self._binaries)
        return Fingerprint(
            digest=digest_json([self._records, self._packages]),
            parts=tuple(each.part(self._sources.get(each.path)) for each in self.pieces),
            packages=dict(sorted(self._packages.items())),
            unseen=tuple(self._unseen),
            hidden=tuple(self._hidden),
        )

    def _parts(self) -> list[Piece]:
        parts: list[Piece] = []
        seen: dict[str, int] = {}
        for file, number in self._queue:
            if number == _WHOLE:
                continue
            block = file.facts.blocks[number]
            name = f"{file.shown}:{block.label}"
            seen[name] = count = seen.get(name, 0) + 1
            spans = ((block.first_line, block.last_line),)
            parts.append(Piece(name if count == 1 else f"{name} ({count})", block.digest, file.path, spans))
            self._sources[file.path] = file
        return parts

    def _import_parts(self) -> list[Piece]:
        parts = []
        for shown, imports in self._imports.items():
            ordered = sorted(imports.items(), key=lambda item: (item[0][1].line, item[0][0]))
            source = ordered[0][1][0]
            spans = dict.fromkeys((each.line, each.line) for (_, each), (file, _) in ordered if file is source)
            self._sources[source.path] = source
            meaning = sorted([name, each.module if out else "", each.attr or ""] for (name, each), (_, out) in ordered)
            parts.append(Piece(f"{shown}:imports", digest_json(meaning), source.path, tuple(spans)))
        return parts

    def _block(self, file: SourceFile, number: int) -> None:
        if number == _WHOLE:
            self._everything(file)
            return
        block = file.facts.blocks[number]
        record: list[object] = [block.digest]
        for mention in block.mentions:
            if mention.literal is not None:
                self._environment(file, mention)
                continue
            self._edges = []
            self._filling = any(_overlap(fill, mention.chain) for fill in block.fills)
            if mention.via is None:
                self._mention(file, mention, frozenset(chain[0] for chain in block.fills))
            else:
                self._import(file, mention.via, mention.chain[1:], mention.line)
            if mention.dynamic and self._is_module(file, mention):
                text = f"getattr on module '{'.'.join(mention.chain)}' with a name that is not written in the source"
                self._see_not(file, mention.line, text)
            record.append(self._edges)
        if file.facts.problem is not None:
            self._see_not(file, 1, f"this file cannot be parsed ({file.facts.problem}); all of it counts")
        self._records.append(record)

    def _environment(self, file: SourceFile, mention: Mention) -> None:
        """A look at an environment variable, or a generator without a seed; nothing of it is in the digest."""
        chain = mention.chain
        for each in (mention.via,) if mention.via is not None else file.facts.imports.get(chain[0], ()):
            names = (each.module, *((each.attr,) if each.attr else ()), *chain[1:])
            if mention.literal == BARE:
                if not each.level and is_unseeded(".".join(names)):
                    self._hide(file, mention.line, "random", ".".join(names))
            elif not each.level and ".".join(names) in _ENVIRONMENT:
                name = mention.literal
                told = f"environment variable {name}, which" if name else "an environment variable that"
                fix = f'@step(env="{name}")' if name else "@step(env=…)"
                self._see_not(file, mention.line, f"reads {told} is no part of the key: {fix}")

    def _mention(self, file: SourceFile, mention: Mention, own_fills: frozenset[str]) -> None:
        name = mention.chain[0]
        if not self._follow(file, mention.chain, own_fills, mention.line):
            if name in _BLIND:
                self._see_not(file, mention.line, f"{name} {_BLIND[name]}")
            edge = self.outside(name)
            if edge is not None:
                self._edges.append(edge)

    def _add(self, file: SourceFile, number: int) -> None:
        key = (file.path, number)
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self._numbers)
            self._queue.append((file, number))
        self._edges.append(known)

    def _see_not(self, file: SourceFile, line: int, text: str) -> None:
        self._unseen[f"{file.shown}:{line}: {text}"] = None

    def _hide(self, file: SourceFile, line: int, kind: HiddenKind, call: str) -> None:
        self._hidden[HiddenInput(kind, f"{call}()", f"{file.shown}:{line}")] = None

    # ---- names

    def _follow(
        self, file: SourceFile, chain: tuple[str, ...], own_fills: frozenset[str] = frozenset(), line: int = 0
    ) -> bool:
        """Add what a name of a file stands for; False where the file has no such name."""
        facts, name = file.facts, chain[0]
        known = facts.has(name)
        if not known and not facts.stars:
            return False
        key = (file.path, chain)
        if key in self._following:
            return True  # two modules that import a name from each other
        self._following.add(key)
        try:
            if known:
                reads = name not in own_fills and not self._filling
                self._named[file.path, name] = self._named.get((file.path, name), False) or reads
                for number in facts.names.get(name, ()):
                    self._add(file, number)
                self._fills(file, name, own_fills, line)
                for each in facts.imports.get(name, ()):
                    self._import(file, each, chain[1:], line, alias=name)
            from_star = self._stars(file, chain)
            if from_star:
                for number in facts.changes.get(name, ()):
                    self._add(file, number)
            return from_star or known
        finally:
            self._following.discard(key)

    def _fills(self, file: SourceFile, name: str, own_fills: frozenset[str], line: int) -> None:
        """Statements that fill a registry by calling or decorating with something; a filler's own mention is none."""
        facts = file.facts
        if name in facts.decorated_by and not self._names_module(file, name):
            for number in facts.decorated_by[name]:
                self._add(file, number)
        if name in facts.filled_by and name not in own_fills:
            for number in facts.filled_by[name]:
                self._add(file, number)
            filler = facts.blocks[facts.filled_by[name][0]]
            if filler.label == name:
                return  # a class that keeps something on itself
            text = f"'{name}' is changed by {filler.label} ({file.shown}:{filler.first_line}); what calls it while"
            self._see_not(file, line or filler.first_line, f"{text} the steps run is not followed")

    def _changed_elsewhere(self) -> None:
        """All is followed that the code says; what is left are files that change it when they are imported."""
        for file in {file.path: file for file, _ in self._queue}.values():
            self._registries.imported(file)
        self._edges = []
        for name, reads in self._named.items():
            for file, number in self._registries.changing(name, reads):
                if (file.path, number) not in self._numbers:
                    self._add(file, number)
        if self._edges:
            self._records.append(["changed elsewhere", self._edges])

    def _stars(self, file: SourceFile, chain: tuple[str, ...]) -> bool:
        """A name that may come from `from x import *`."""
        name, found = chain[0], False
        for star in file.facts.stars:
            place = self._modules.locate(file, star)
            source = None if place is None or place.file is None else self._project.file(place.file)
            if place is None or source is None:
                continue
            exports = source.facts.exports
            if (name in exports) if exports is not None else not name.startswith("_"):
                found = self._attribute(file, place, chain, 0, sure=False) or found
        if not found and not file.facts.has(name) and not _is_builtin(name):
            for star in file.facts.stars:
                if self._modules.locate(file, star) is None:
                    self._outside(star.module, (name,), file, star)
                    found = True
        return found

    # ---- imports

    def _import(
        self, file: SourceFile, each: Import, rest: tuple[str, ...], line: int = 0, alias: str | None = None
    ) -> None:
        """Add what an import, and the attributes read of it, stand for."""
        chain = rest if each.attr is None else (each.attr, *rest)
        place = self._modules.locate(file, each)
        if place is None:
            self._outside(each.module, chain, file, each, line)
        else:
            self._attribute(file, place, chain, line)
        if alias is not None and (place is None or (each.attr is not None and each.attr != alias)):
            self._imports.setdefault(file.shown, {})[alias, each] = (file, place is None)

    def _attribute(
        self, importer: SourceFile, place: Place, chain: tuple[str, ...], line: int, sure: bool = True
    ) -> bool:
        """Add what `module.a.b` stands for, the module being one of the project."""
        if place.binary:
            self._binary(importer, place, line)
            return True
        source = None if place.file is None else self._project.file(place.file)
        if not chain:
            if source is not None:
                self._whole(source)
            return True
        if source is not None and self._follow(source, chain):
            return True
        inner = self._project.submodule(place, chain[0])
        if inner is not None:
            return self._attribute(importer, inner, chain[1:], line)
        if source is None and sure:
            self._see_not(
                importer, line or 1, f"'{chain[0]}' was not found in {self._project.shown(place.folder or '')}/"
            )
        if source is None or not sure or (chain[0].startswith("__") and chain[0].endswith("__")):
            return False
        # A name that no statement binds: made by a module-level __getattr__, by globals(), or missing.
        if not self._follow(source, ("__getattr__",)):
            self._whole(source)
        return True

    def _whole(self, file: SourceFile) -> None:
        """A module used as a value: everything in it counts, and what it passes on."""
        self._add(file, _WHOLE)

    def _everything(self, file: SourceFile) -> None:
        # By its names, in their order: a definition that is moved out of the module and imported again is still there.
        facts, found, named = file.facts, list[object](), set[int]()
        for name in sorted(facts.names.keys() | facts.imports.keys()):
            imports = facts.imports.get(name, ())
            numbers = facts.names.get(name, ())
            named.update(numbers)
            if numbers or any(each.attr is not None for each in imports):
                self._edges = []
                self._follow(file, (name,))
                found.append([name, self._edges])
        self._edges = []
        for number in range(len(facts.blocks)):
            if number not in named:
                self._add(file, number)
        for star in facts.stars:
            place = self._modules.locate(file, star)
            if place is not None:
                self._attribute(file, place, (), star.line)
        self._records.append(["module", found, self._edges])

    def _outside(self, module: str, chain: tuple[str, ...], file: SourceFile, each: Import, line: int = 0) -> None:
        name = ".".join((module, *chain))
        self._edges.append(name)
        if each.level:
            self._see_not(file, each.line, f"module '{'.' * each.level}{module}' was not found")
            return
        if (kind := kind_of_call(name)) is not None:
            self._hide(file, line or each.line, kind, name)
        first = module.partition(".")[0]
        if first in sys.stdlib_module_names:
            if name in _BLIND:
                self._see_not(file, line or each.line, f"{name} {_BLIND[name]}")
            return
        packages = self._distributions.of(name)
        self._packages |= packages
        if not packages:
            text = f"module '{module}' is neither in the project nor in an installed package"
            self._see_not(file, each.line, text)

    def _binary(self, importer: SourceFile, place: Place, line: int) -> None:
        assert place.file is not None
        content = self._project.binary_digest(place.file)
        self._edges.append("binary " + content)
        shown = self._project.shown(place.file)
        self._see_not(importer, line or 1, f"'{shown}' is an extension module; its bytes count, not what it calls")
        part = Piece(shown, content)
        if part not in self._binaries:
            self._binaries.append(part)

    def _names_module(self, file: SourceFile, name: str) -> bool:
        """Whether a name stands for a module, as far as imports say."""
        return any(
            each.attr is None
            or self._modules.locate(file, Import(f"{each.module}.{each.attr}".lstrip("."), each.level))
            for each in file.facts.imports.get(name, ())
        )

    def _is_module(self, file: SourceFile, mention: Mention) -> bool:
        if mention.via is not None:
            return mention.via.attr is None
        return self._names_module(file, mention.chain[0])


class Walks:
    """Walks over one snapshot of a project. Steps of one folder share what imports stand for there."""

    def __init__(self, project: Project, distributions: Distributions) -> None:
        self._project = project
        self._distributions = distributions
        self._modules: dict[str, Imports] = {}

    def __call__(self, entry: SourceFile, name: str) -> Walked:
        """The fingerprint of a top-level name, and where its parts stand."""
        modules = self._modules.get(entry.folder)
        if modules is None:
            modules = self._modules[entry.folder] = Imports(self._project, self._distributions, entry)
        closure = Closure(self._project, self._distributions, modules, entry)
        return closure.of(name), closure.pieces


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two chains may mean one thing: `config.x` is not `config.y`, and may be all of `config`."""
    return all(a == b for a, b in zip(one[:2], other[:2], strict=False))


def _is_builtin(name: str) -> bool:
    return hasattr(builtins, name)
