"""A whole fingerprint, kept with everything it was made from, so that an unchanged project is only looked at.

What was looked at is kept by content: the digest of each file, the names in each folder that an import might find, the
packages and the folders that Python imports from. All of it is compared before the fingerprint is taken; times of files
play no part. Texts are not kept but cut from the files, which are the same.
"""

from __future__ import annotations

import msgspec

from ...core.canonical import digest_bytes, digest_json
from ...ports.records import CodePart, Fingerprint, HiddenInput
from ..environment import package_versions
from .memo import Memo
from .project import Project, SourceFile

Spans = tuple[tuple[int, int], ...]  # first and last lines


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A part of a fingerprint, and where its text stands: in a file of the project, or in none."""

    name: str
    digest: str
    path: str = ""
    spans: Spans = ()

    def part(self, file: SourceFile | None) -> CodePart:
        """With the lines as they are written in its file."""
        lines = [] if file is None else [file.lines(first, last) for first, last in self.spans]
        return CodePart(self.name, self.digest, "\n".join(lines))


Walked = tuple[Fingerprint, tuple[Piece, ...]]


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A fingerprint, and what it was made from."""

    surroundings: str
    files: dict[str, str]
    folders: dict[str, str]
    digest: str
    pieces: tuple[Piece, ...]
    packages: dict[str, str]
    unseen: tuple[str, ...]
    hidden: tuple[HiddenInput, ...]  # without a default: one that was kept before there was any is not taken


class KeptFingerprints:
    """The fingerprints that earlier processes left, for one snapshot of a project."""

    def __init__(self, memo: Memo, project: Project) -> None:
        self._memo = memo
        self._project = project
        self._surroundings: str | None = None

    def find(self, target: str) -> Fingerprint | None:
        """The fingerprint of a target, if everything that it was made from is as it was."""
        kept = self._memo.get(self._name(target), Kept)
        if kept is None or kept.surroundings != self._now():
            return None
        same = all(self._project.folder_digest(path) == digest for path, digest in kept.folders.items())
        if not same or any(self._project.file_digest(path) != digest for path, digest in kept.files.items()):
            return None
        parts = tuple(each.part(self._project.file(each.path) if each.path else None) for each in kept.pieces)
        return Fingerprint(kept.digest, parts, kept.packages, kept.unseen, kept.hidden)

    def keep(self, target: str, found: Fingerprint, pieces: tuple[Piece, ...]) -> None:
        """Remember a fingerprint with all that the project was asked for so far."""
        files, folders = self._project.looked_at()
        made_of = (self._now(), files, folders)
        kept = Kept(*made_of, found.digest, pieces, found.packages, found.unseen, found.hidden)
        self._memo.put(self._name(target), kept)

    def _name(self, target: str) -> str:
        return "of-" + digest_bytes(f"{self._project.root}\n{target}".encode("utf-8", "surrogateescape"))

    def _now(self) -> str:
        """What is asked of the process and not of the project."""
        if self._surroundings is None:
            self._surroundings = digest_json([package_versions(), *self._project.search_path()])
        return self._surroundings
