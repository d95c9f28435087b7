"""The fingerprints of one project, as its files are now."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.canonical import digest_json
from ...core.errors import NotFoundError, PenstockError
from ...ports.records import CodePart, Fingerprint
from ..environment import package_versions
from .distributions import Distributions
from .kept import KeptFingerprints, Walked
from .memo import Memo
from .project import Project, SourceFile
from .sources import sources


class Fingerprints:
    """Digests of what steps mean. One object per run: each file is read once, so that a run sees one state of the code.

    `root` is the folder that targets are relative to and outside which code counts by package version. `cache_dir`
    keeps analyses between processes; None keeps none.
    """

    def __init__(self, root: Path, cache_dir: Path | None = None) -> None:
        self._root = os.path.realpath(root)
        self._cache_dir = cache_dir
        self._memo = Memo(cache_dir)
        self._distributions = Distributions(self._memo)
        self.refresh()

    def refresh(self) -> None:
        """Forget what the files held; unchanged ones are not parsed again."""
        self._project = Project(self._root, self._memo)
        self._kept = KeptFingerprints(self._memo, self._project)
        self._known: dict[str, Fingerprint] = {}
        self._walks: Callable[[SourceFile, str], Walked] | None = None
        self._now: tuple[dict[str, tuple[int, int]], Fingerprints] | None = None

    def edited(self, target: str) -> list[str]:
        """The files whose edits since they were read make a target's code another one; mostly none."""
        edited = self._project.edited()
        if not edited:
            return []
        if self._now is None or self._now[0] != edited:
            self._now = edited, Fingerprints(Path(self._root), self._cache_dir)
        try:
            is_same = self._now[1].of(target).digest == self.of(target).digest
        except PenstockError:  # it is gone, or no Python any more
            is_same = False
        return [] if is_same else list(edited)

    def of(self, target: str) -> Fingerprint:
        """The fingerprint of "relative/file.py:qualname", or of a ready-made step "penstock.module:qualname".

        Raises NotFoundError where there is no such file.
        """
        found = self._known.get(target)
        if found is None:
            found = self._known[target] = self._of(target)
        return found

    def of_source(self, name: str, source_text: str | None, globals: Mapping[str, Any]) -> Fingerprint | None:
        """The fingerprint of a function without a file, from its source and the names it finds around it.

        None where some source that it reaches is not known: such a step is not cached.
        """
        if not source_text:
            return None
        from .live import closure_of_source  # brings the parser, which a warm run of files does not need

        return closure_of_source(self._project, self._distributions, name, source_text, globals)

    def sources(self) -> tuple[CodePart, ...]:
        """The files that were read so far and the modules of the project that are imported, whole."""
        return sources(self._project)

    def search_path(self) -> list[str]:
        """The folders of the project that imports are looked for in, relative to its root."""
        return [os.path.relpath(entry, self._root) for entry in self._project.path_entries()]

    def _of(self, target: str) -> Fingerprint:
        place, _, qualname = target.rpartition(":")
        if not place.endswith(".py"):
            return _ready_made(target, place)
        file = self._project.file(os.path.normpath(os.path.join(self._root, place)))
        if file is None:
            raise NotFoundError(
                f"the code of step '{target}' cannot be read: there is no file {place} under {self._root}",
                hint="run from the project's folder, or move the file back",
            )
        kept = self._kept.find(target)
        if kept is not None:
            return kept
        if self._walks is None:
            from .closure import Walks  # where everything was kept, no names are followed

            self._walks = Walks(self._project, self._distributions)
        found, pieces = self._walks(file, qualname.partition(".")[0])
        if self._project.owns(file.path):
            self._kept.keep(target, found, pieces)
        return found


def _ready_made(target: str, module: str) -> Fingerprint:
    package = module.partition(".")[0]
    packages = {package: package_versions().get(package, "unknown")}
    return Fingerprint(digest=digest_json([target, packages]), packages=packages)
