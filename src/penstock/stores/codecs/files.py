"""A file or a folder that a step returns as a Path: streamed as it is, whatever its size.

The consumer gets a read-only copy of its own kind of storage: a folder under the machine's cache, never the store's
blobs, so that nobody who writes there can harm what is stored. Copies are shared between consumers on a machine and
made anew when one was altered. Kept: bytes, relative names, a file's own name, empty folders. Not kept: a folder's own
name, times, owners and modes (all files come back read-only); a symbolic link to a file is stored as that file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ...core.errors import ArtifactError
from ..paths import is_path

_SHOWN = 20


class FileCodec:
    """A Path to one file."""

    name = "file"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return is_path(value) and (value.is_file() or not value.is_dir())

    def encode(self, value: Path, to: Path) -> dict[str, Any]:
        if not value.is_file():
            raise ArtifactError(
                f"the step returned the path {value}, and there is no such file or folder",
                hint="write the file before returning its path; return str(path) where only the name matters",
            )
        to.mkdir()
        shutil.copyfile(value, to / value.name)
        return {"type": "file", "name": value.name}

    def decode(self, source: Path, annotation: Any) -> Path:
        (entry,) = source.iterdir()
        return entry


class FolderCodec:
    """A Path to a folder, with everything below it."""

    name = "folder"
    canonical = True

    def accepts(self, value: Any, annotation: Any) -> bool:
        return is_path(value) and value.is_dir()

    def encode(self, value: Path, to: Path) -> dict[str, Any]:
        if to.resolve().is_relative_to(value.resolve()):
            raise ArtifactError(
                f"the folder {value} holds the artifact store itself and cannot be stored in it",
                hint="return a folder of its own; return str(path) where only the name matters",
            )
        to.mkdir()
        names: list[str] = []
        for folder, folders, files in os.walk(value):
            inside = Path(folder).relative_to(value)
            for name in folders:
                if (Path(folder) / name).is_symlink():
                    raise ArtifactError(
                        f"{Path(folder) / name} is a symbolic link to a folder, which cannot be stored",
                        hint="copy the folder there, or return the real path",
                    )
                (to / inside / name).mkdir()
            for name in files:
                if not (Path(folder) / name).is_file():
                    raise ArtifactError(
                        f"{Path(folder) / name} is not a file (a pipe, a socket or a broken link)",
                        hint="remove it before returning the folder",
                    )
                shutil.copyfile(Path(folder) / name, to / inside / name)
                names.append((inside / name).as_posix())
        return {"type": "folder", "files": len(names), "preview": sorted(names)[:_SHOWN]}

    def decode(self, source: Path, annotation: Any) -> Path:
        return source
