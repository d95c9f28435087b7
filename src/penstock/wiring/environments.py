"""The recorded environment of a run, made again by uv: a lock from its package list, a folder per lock.

Which index or folder packages come from is the user's configuration of uv, or else that of pip; no address of one is
ever written down.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..core.canonical import digest_json
from ..core.errors import NotReproducibleError
from ..engine.environment import canonical_name

_READY = "penstock-ready"
_SHOWN_LINES = 14
_OURS = Path(__file__).resolve().parents[1]  # the package folder of this penstock
# What pip calls it, and what uv does.
_PIP_TO_UV = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}


class Lock(msgspec.Struct, frozen=True):
    """What an environment is made of."""

    python: str
    lines: tuple[str, ...]
    own_penstock: bool  # penstock was no released package: this one is linked into the environment
    version: str | None = None  # of penstock, as it was recorded; None: it was on no list of packages
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return digest_json([self.python, self.lines, str(_OURS) if self.own_penstock else ""])


def lock_of(environment: dict[str, Any], root: str) -> Lock:
    """The requirements behind a run's environment, every one at its exact version. What is installed from a folder of
    the project at `root` is left out: the run recorded those files itself."""
    packages: dict[str, str] = environment.get("packages", {})
    origins: dict[str, dict[str, Any]] = environment.get("origins", {})
    lines, notes = [], []
    own = "penstock" not in packages or "penstock" in origins
    if own:
        notes.append("penstock itself was no released package: the one that runs now is used")
    for name, version in sorted(packages.items()):
        origin = origins.get(name)
        if canonical_name(name) == "penstock" and own:
            continue
        if origin is None:
            if version == "unknown":
                notes.append(f"{name} is left out: its version is not known")
            else:
                lines.append(f"{name}=={version}")
        elif origin.get("vcs") and origin.get("commit"):
            lines.append(f"{name} @ {origin['vcs']}+{origin['url']}@{origin['commit']}")
        elif origin.get("folder"):
            kind = "editable" if origin.get("editable") else "a local folder"
            place = str(origin["url"]).removeprefix("file://")
            if place == root or place.startswith(root + os.sep):
                continue
            if os.path.isdir(place):
                lines.append(f"{'-e ' if origin.get('editable') else ''}{place}")
                notes.append(f"{name} {version} was {kind}; it is installed from there as it is now")
            else:
                notes.append(f"{name} {version} was {kind} that is gone; it is left out")
        else:  # a wheel or archive by its path or address; where that is gone, by its version
            url = str(origin.get("url", ""))
            there = not url.startswith("file://") or os.path.isfile(url.removeprefix("file://"))
            lines.append(f"{name} @ {url}" if there and url != "unknown" else f"{name}=={version}")
    return Lock(str(environment.get("python", "")), tuple(lines), own, packages.get("penstock"), tuple(notes))


def make(lock: Lock, home: Path, tell: Callable[[str], None]) -> str:
    """The Python of the environment, made unless it is there already. Raises NotReproducibleError."""
    folder = home / "environments" / lock.digest[:16]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / _READY).exists() and python.exists():
        return str(python)
    uv = _uv()
    tell(f"making the environment: Python {lock.python}, {len(lock.lines)} packages")
    shutil.rmtree(folder, ignore_errors=True)  # one that was not finished
    folder.parent.mkdir(parents=True, exist_ok=True)
    wanted = sys.executable if lock.python == ".".join(map(str, sys.version_info[:3])) else lock.python
    _uv_run([*uv, "venv", "--quiet", "--python", wanted, str(folder)], f"uv has no Python {lock.python}")
    requirements = folder / "penstock-lock.txt"
    requirements.write_text("\n".join(lock.lines) + "\n", encoding="utf-8")
    if lock.lines:
        command = [*uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(requirements)]
        _uv_run(command, "uv cannot install what the run recorded")
    if lock.own_penstock:
        _link_ours(python, lock.version)
    (folder / _READY).touch()
    return str(python)


def _uv() -> list[str]:
    """uv on PATH, or as a module of this Python."""
    beside = Path(sys.executable).with_name("uv")
    if (found := shutil.which("uv")) is not None:
        return [found]
    if beside.exists():
        return [str(beside)]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    raise NotReproducibleError(
        "uv is not installed, and it makes the recorded environment",
        hint="pip install uv; or run it in the present environment: penstock reproduce RUN --here",
    )


def _uv_run(command: list[str], problem: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(command, capture_output=True, text=True, env=environ | _pip_as_uv(environ), check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[:_SHOWN_LINES]
        raise NotReproducibleError(
            "\n".join([f"{problem}:", *(f"  {line}" for line in lines)]),
            hint="give uv a place that has them (UV_FIND_LINKS, UV_INDEX), or compare in what is installed now: --here",
        )


def _pip_as_uv(environ: dict[str, str]) -> dict[str, str]:
    """pip's configured places for uv, which does not read them; whoever has configured uv itself is left alone."""
    if any(name in environ for name in (*_PIP_TO_UV.values(), "UV_INDEX_URL", "UV_CONFIG_FILE", "UV_NO_INDEX")):
        return {}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, env=environ, check=False
    )
    found: dict[str, str] = {}
    for line in done.stdout.splitlines() if not done.returncode else ():
        name, _, value = line.partition("=")
        value = value.strip().strip("'\"").replace("\\n", " ")
        key = name.rpartition(".")[2]
        if key in _PIP_TO_UV:
            separator = "," if key == "find-links" else " "
            found[_PIP_TO_UV[key]] = separator.join(value.split())
        elif key == "cert" and "SSL_CERT_FILE" not in environ:
            found["SSL_CERT_FILE"] = value
        elif key == "no-index" and value.lower() in ("1", "true", "yes"):
            found["UV_NO_INDEX"] = "1"
    return found


def _link_ours(python: Path, version: str | None) -> None:
    """This penstock into the environment, with as much metadata as the list of packages needs."""
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    site = Path(done.stdout.strip())
    link = site / "penstock"
    if not os.path.lexists(link):
        link.symlink_to(_OURS, target_is_directory=True)
    if version is not None:
        about = site / f"penstock-{version}.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: penstock\nVersion: {version}\n")
