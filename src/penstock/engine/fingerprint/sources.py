"""The project's files as a run has them, whole: what `penstock reproduce` puts back.

A fingerprint keeps the definitions that a step reaches; to import a file again all of it is needed, and all that it
imports. So the record holds every file that a fingerprint read and every module of the project that this process has
imported. Their text is kept once per digest, by the run log's `put_code`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from ...core.canonical import digest_bytes, digest_json
from ...ports.records import CodePart
from .project import Project

_MOST_BYTES = 1 << 20  # of one file; of a larger one only the digest is kept
_EXTENSIONS = (".so", ".pyd")
_HOLDS_SECRETS = re.compile(r"(^|/)(credentials|[^/]*secret)[^/]*\.py$", re.IGNORECASE)
IS_SECRET = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY|\bA(?:KIA|SIA)[A-Z0-9]{12,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"
    rb"|\bsk-[\w-]{20,}|\bxox[abeprs]-[\w-]{10,}"
)


def sources(project: Project) -> tuple[CodePart, ...]:
    """Every file by its path from the root, with digest and text. The text is "" where only the digest is kept: of a
    binary, of a very large file, and of one whose name or content says that it holds secrets."""
    contents = {file.path: file.content for file in project.read()}
    for path in _imported():
        if path not in contents and project.owns(path):
            try:
                with open(path, "rb", buffering=0) as opened:
                    contents[path] = opened.read()
            except OSError:
                continue
    parts = []
    for path, content in sorted(contents.items()):
        if not (project.owns(path) and path.startswith(project.root + os.sep)):
            continue  # what lies beside the project is not put back, so it is not kept either
        shown = project.shown(path)
        withheld = len(content) > _MOST_BYTES or path.endswith(_EXTENSIONS)
        withheld = withheld or bool(_HOLDS_SECRETS.search(shown) or IS_SECRET.search(content))
        text = "" if withheld else content.decode("utf-8", "surrogateescape")
        parts.append(CodePart(shown, digest_bytes(content), text))
    return tuple(parts)


def digest_of(parts: Sequence[CodePart]) -> str:
    """The name of a whole set of files."""
    return digest_json([[part.name, part.digest] for part in parts])


def _imported() -> list[str]:
    found = (getattr(module, "__file__", None) for module in sys.modules.copy().values())
    return [path for path in found if isinstance(path, str) and path.endswith((".py", *_EXTENSIONS))]
