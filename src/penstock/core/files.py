"""Files that appear whole, and generated ones that never replace what somebody has written by hand."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import UsageError

_HEAD = 400  # characters, within which a generated file says what made it


def put_text(path: Path, text: str) -> bool:
    """Write a file that appears whole: a reader finds the old one or the new one. Whether it is another than before.

    A new version is never as old as the one before it, to the second: Python tells the compiled form of a file by
    that and by its length, and would run the old one.
    """
    try:
        before = path.stat().st_mtime
        if path.read_text(encoding="utf-8") == text:
            return False
    except FileNotFoundError:
        before = 0.0
    except UnicodeDecodeError:
        pass
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    if int(temporary.stat().st_mtime) <= int(before):
        os.utime(temporary, (before + 1, before + 1))
    os.replace(temporary, path)
    return True


def put_generated(path: Path, text: str, *, hint: str) -> bool:
    """The same for a file that says in its head that penstock made it.

    Raises:  UsageError where a file is there that says nothing of the kind.
    """
    if path.exists() and "penstock" not in path.read_text(encoding="utf-8", errors="replace")[:_HEAD]:
        raise UsageError(f"{path} is there already, and is no file that penstock has written", hint=hint)
    return put_text(path, text)
