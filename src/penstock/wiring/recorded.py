"""The project's files as a run had them, put back into a folder: from git's commit and from the run log.

First comes what the commit holds, then every file that the run recorded, which wins. What is no Python file and in
neither (data, most often) is copied from where it is now: whether it has changed since is for the comparison to find.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import msgspec

from ..core.canonical import digest_bytes
from ..core.errors import NotReproducibleError
from ..ports.records import CodePart, RunRecord
from .copying import DEFAULT, Layout, Terms, add_present, emptied
from .project import Project

_EMPTY = digest_bytes(b"")
_IN_DIFF = re.compile(r'^diff --git "?a/(.*?)"? "?b/', re.MULTILINE)


class Restored(msgspec.Struct, frozen=True):
    """Where the recorded code is, and what must be said about it."""

    root: str
    path: tuple[str, ...]  # for sys.path
    folder: str  # the current folder of the run
    notes: tuple[str, ...] = ()


def restore(project: Project, record: RunRecord, into: Path, terms: Terms = DEFAULT) -> Restored:
    """Make `into` the project as the run had it, apart from the present one. Raises NotReproducibleError where a file
    is not to be had, or more would have to be copied than the terms allow."""
    _paper(into).unlink(missing_ok=True)
    emptied(into)
    git: dict[str, Any] = record.code.get("git") or {}
    root = Path(project.settings.root)
    layout = Layout.of(str(root), record.options.get("folder", "."), into)
    copy = Path(layout.root)
    copy.mkdir(parents=True, exist_ok=True)
    files = project.store.get_code(record.code["sources"]) if "sources" in record.code else None
    notes = [*layout.notes()]
    has_base = _commit_into(root, git.get("commit"), copy)
    if files is None:
        _refuse_without_files(record, git, has_base)
        notes.append("its files come from git alone: this run kept none of its own")
    elif git.get("commit") and not has_base:
        notes.append(f"commit {git['commit'][:12]} is no longer in git; only files that the run kept are put back")
    _drop_changed(copy, root, git)
    for part in files[0] if files is not None else ():
        _put(part, copy, root, record)
    notes += add_present(project, layout, terms, all_code=False)
    search = [os.path.normpath(copy / each) for each in record.code.get("path", ["."])]
    return Restored(layout.root, tuple(search), layout.folder, tuple(notes))


def begin(into: Path, restored: Restored) -> None:
    """Steps are about to run in `into`: from now on what they leave there is part of what they have done."""
    _paper(into).write_bytes(msgspec.json.encode(restored))


def begun(into: Path) -> Restored | None:
    """What was restored there, if steps have begun to run in it."""
    try:
        return msgspec.json.decode(_paper(into).read_bytes(), type=Restored) if into.is_dir() else None
    except FileNotFoundError:
        return None


def _paper(into: Path) -> Path:
    return into.with_name(f"{into.name}.json")


def _refuse_without_files(record: RunRecord, git: dict[str, Any], has_base: bool) -> None:
    if has_base and not git.get("dirty"):
        return
    why = "and git had uncommitted changes" if has_base else "and it ran outside git"
    if git.get("commit") and not has_base:
        why = f"and commit {git['commit'][:12]} is no longer in git"
    raise NotReproducibleError(
        f"the code of run {record.id} cannot be had: the run kept no files (an older penstock made it), {why}",
        hint="start a new run of it; from then on it can be reproduced",
    )


def _commit_into(root: Path, commit: str | None, into: Path) -> bool:
    """The commit's files below the project's root. False where git or the commit is not there."""
    if not commit or not re.fullmatch(r"[0-9a-f]{7,64}", commit):
        return False
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "archive", "--format=tar", commit],
            capture_output=True,
            env=environ,
            check=False,
        )
    except OSError:
        return False
    if done.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(into, filter=_kept_inside)
    return True


def _kept_inside(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo | None:
    """A link that leads out of the project is left out: what it leads to is copied with the present files."""
    try:
        return tarfile.data_filter(member, into)
    except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError):
        return None


def _drop_changed(into: Path, root: Path, git: dict[str, Any]) -> None:
    """Files that had uncommitted changes were not the commit's: they come from the record, or as they are now."""
    top = root
    while not (top / ".git").exists() and top != top.parent:
        top = top.parent
    for name in _IN_DIFF.findall(git.get("text", "")):
        try:
            place = into / (top / name).relative_to(root)
        except ValueError:
            continue
        place.unlink(missing_ok=True)


def _put(part: CodePart, into: Path, root: Path, record: RunRecord) -> None:
    place = into / part.name
    if not place.resolve().is_relative_to(into.resolve()):
        raise NotReproducibleError(f"run {record.id} names a file outside its project: {part.name}")
    content = part.text.encode("utf-8", "surrogateescape")
    if not part.text and part.digest != _EMPTY:  # only the digest was kept
        found = next((each for each in (place, root / part.name) if _has(each, part.digest)), None)
        if found is None:
            raise NotReproducibleError(
                f"{part.name} is not what it was in run {record.id}, and its text was not kept "
                "(a binary, a very large file, or one that is named as if it held secrets)",
                hint=f"put it back as it was: git log -- {part.name}",
            )
        content = found.read_bytes()
    elif digest_bytes(content) != part.digest:
        raise NotReproducibleError(f"the run log's copy of {part.name} is not what run {record.id} put there")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.write_bytes(content)


def _has(path: Path, digest: str) -> bool:
    return path.is_file() and digest_bytes(path.read_bytes()) == digest
