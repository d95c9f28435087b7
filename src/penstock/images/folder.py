"""The folder that an image is built from: everything that goes in, and nothing else. Made whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..core.errors import ImageError
from .contents import Contents, copy_contents
from .dockerfile import MARK, Recipe, requirement_file
from .locking import Locked
from .wheels import make_wheel

_DRAFT = ".penstock-draft-"


def write_folder(
    folder: Path, recipe: Recipe, packages: Locked, contents: Contents, tell: Callable[[str], None]
) -> None:
    """Write Dockerfile, .dockerignore, the requirement files, wheels and the project's files; an earlier folder of ours
    is replaced by it in the end.

    Raises: ImageError where the folder holds other things, or cannot be written.
    """
    check_folder(folder)
    draft = folder.with_name(f"{folder.name}{_DRAFT}{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        draft.mkdir()
        try:
            _fill(draft, recipe, packages, contents, tell)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ImageError(
            f"{folder} cannot be written: {error.strerror or error}", hint="give another folder: --output DIR"
        ) from error


def check_folder(folder: Path) -> None:
    """Refuse to replace what `penstock build` has not written."""
    if folder.is_dir():
        if not any(folder.iterdir()):
            return
        try:
            if (folder / "Dockerfile").read_text(encoding="utf-8").startswith(MARK):
                return
        except (OSError, UnicodeDecodeError):
            pass
        raise ImageError(
            f"{folder} holds files that penstock build has not written", hint="give a new folder: --output DIR"
        )
    if folder.exists():
        raise ImageError(f"{folder} is a file", hint="give a folder: --output DIR")


def _fill(draft: Path, recipe: Recipe, packages: Locked, contents: Contents, tell: Callable[[str], None]) -> None:
    names = []
    for wheel in packages.wheels:
        tell(f"making a wheel of {wheel.what}")
        wheels = draft / "wheels"
        wheels.mkdir(exist_ok=True)
        names.append(f"./wheels/{make_wheel(wheel, wheels).name}")
    _put(draft / "Dockerfile", recipe.dockerfile())
    _put(draft / ".dockerignore", recipe.dockerignore())
    if recipe.requirements:
        _put(draft / "requirements.txt", requirement_file(f"From {packages.source}.", packages.requirements))
    added = requirement_file("What the lock does not name: penstock, and what it and the project's stores need.", ())
    _put(draft / "additions.txt", added + "".join(f"{line}\n" for line in (*packages.additions, *names)))
    copy_contents(contents, draft / "project")


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
    path.chmod(0o644)


def _sweep(folder: Path) -> None:
    """Drafts of builds that were killed."""
    for draft in folder.parent.glob(f"{folder.name}{_DRAFT}*"):
        pid = draft.name.rpartition("-")[2]
        if not pid.isdigit() or not _lives(int(pid)):
            shutil.rmtree(draft, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
