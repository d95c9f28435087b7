"""A look into a new image before it gets its name: is penstock in it, all that the code imports, the same pipeline?"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..core.errors import ImageError
from .builders import Answer, Builder

_SHOWN_LINES = 10
_PROBE = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]))
"""


class Expected(msgspec.Struct, frozen=True):
    """What the image must have."""

    penstock: str
    modules: dict[str, str] = {}  # module -> where the code imports it
    doubtful: dict[str, str] = {}  # the same, of those that are not installed here either
    pipelines: dict[str, dict[str, Any]] = {}  # "file.py:name", relative to the root -> its graph here
    source: str = ""  # of the packages, for hints


def check_image(builder: Builder, image: str, expected: Expected) -> list[str]:
    """Raises ImageError, in the words of the user's code, where something is missing. Returns what is only odd."""
    _check_penstock(builder, image, expected)
    notes = _check_modules(builder, image, expected)
    for name, graph in expected.pipelines.items():
        found = _graph(builder, image, name, expected)
        if found != graph:
            notes.append(f"in the image {name} has another graph than here: it depends on where it is imported")
    return notes


def _check_penstock(builder: Builder, image: str, expected: Expected) -> None:
    found = builder.run(image, ["penstock", "--version"])
    if found.code:
        raise ImageError(
            f"the image has no penstock that works:\n{_shown(found)}",
            hint="its Python must be one that penstock takes, 3.11 or newer: --base python:3.11-slim",
        )
    version = found.out.strip().rpartition(" ")[2]
    if version != expected.penstock:
        raise ImageError(
            f"the image has penstock {version}, and this is penstock {expected.penstock}",
            hint="correct the version in the project's lock",
        )


def _check_modules(builder: Builder, image: str, expected: Expected) -> list[str]:
    wanted = expected.modules | expected.doubtful
    found = builder.run(image, ["python", "-P", "-c", _PROBE, *wanted])
    try:
        missing = json.loads(found.out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise ImageError(f"Python does not work in the image:\n{_shown(found)}") from None
    surely = [name for name in missing if name in expected.modules]
    if surely:
        lines = [f"  {name}, imported at {expected.modules[name]}" for name in surely]
        raise ImageError("\n".join(["the image lacks modules that the code imports:", *lines]), hint=_remedy(expected))
    return [
        f"{name} is neither in the image nor installed here, and {expected.doubtful[name]} imports it"
        for name in missing
    ]


def _graph(builder: Builder, image: str, name: str, expected: Expected) -> Any:
    found = builder.run(image, ["python", "-P", "-m", "penstock", "graph", name, "--json"])
    try:
        answer = json.loads(found.out)
    except ValueError:
        answer = {}
    if found.code == 0 and "graph" in answer:
        return answer["graph"]
    error = answer.get("error") or {}
    if not error:
        raise ImageError(f"{name} cannot be imported in the image:\n{_shown(found)}")
    lacks = "ModuleNotFoundError" in error.get("problem", "") or error.get("code") == "missing-extra"
    where = f"\n  at {error['where']}" if error.get("where") else ""
    raise ImageError(
        f"in the image {error.get('problem')}{where}", hint=_remedy(expected) if lacks else error.get("hint")
    )


def _remedy(expected: Expected) -> str:
    if expected.source.endswith((".txt", ".lock", ".toml")):
        return f"add what is missing to {expected.source}, with its version"
    return "install it here (pip install NAME) or name it in a requirements.txt, and build again"


def _shown(answer: Answer) -> str:
    lines = (answer.err.strip() or answer.out.strip()).splitlines()[-_SHOWN_LINES:]
    return "\n".join(f"  {line}" for line in lines) or f"  exit code {answer.code}"
