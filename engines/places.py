"""Where the engines lie, and the environment variables that their processes get."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
ROOT = CHECKOUT / ".engines"


class EngineError(Exception):
    """An engine could not be installed, did not come up, or did not answer as it should."""


def home(engine: str) -> Path:
    """Resolved, because podman remembers the path of its storage."""
    return ROOT.resolve() / engine


def program(engine: str, name: str) -> Path:
    """A command of an engine's own environment."""
    found = home(engine) / "bin" / name
    if not found.exists():
        raise EngineError(f"{engine} is not installed here: {found} is missing\n  hint: make engines")
    return found


def python(engine: str) -> Path:
    return program(engine, "python")


def clean_environment(*prefixes: str) -> dict[str, str]:
    """Ours, without what would change how an engine behaves: its settings, and the paths of another Python.

    PYTHONPATH goes too: with it an engine could import the project, and no test would see that it must not.
    """
    dropped = ("PYTHON", "VIRTUAL_ENV", "PENSTOCK", *prefixes)
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def with_programs_of(engine: str, environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "PATH": f"{home(engine) / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
