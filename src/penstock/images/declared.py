"""The dependencies that a project declares itself: its lock where it has one, else the names that it asks for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import ImageError
from ..engine.environment import canonical_name
from .installed import Asked, asked

_LISTS = ("requirements.lock", "requirements-lock.txt", "requirements.txt")
_EXPORTS = {
    "poetry.lock": "poetry export --output requirements.txt",
    "pdm.lock": "pdm export --prod --output requirements.txt",
    "Pipfile.lock": "pipenv requirements --hash > requirements.txt",
}
_PINNED = re.compile(r"===?\s*[^\s*,;]+\s*$")
_LOGIN = re.compile(r"://[^\s/@$]+@")
_KEPT = (
    "--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--trusted-host", "--no-binary", "--only-binary",
    "--prefer-binary", "--pre", "--no-index",
)  # fmt: skip
_VCS = ("git+", "hg+", "svn+", "bzr+")


class Declared(msgspec.Struct, frozen=True):
    """What the file says, sorted by what has to be done about it."""

    source: str  # the file, relative to the root
    pinned: dict[str, str] = {}  # package -> its lines as they will be installed, hashes included
    wanted: tuple[Asked, ...] = ()  # without a version of their own
    local: tuple[tuple[str, str], ...] = ()  # (name or "", folder, archive or repository) to make a wheel of
    options: tuple[str, ...] = ()  # lines for pip: where to look
    hashed: bool = False


def find_declared(root: str, given: str | None = None) -> Declared | None:
    """What the project at `root` declares; None where it declares nothing.

    The first of: `given`, requirements.lock, requirements.txt, pylock.toml, uv.lock, dependencies in pyproject.toml.
    Raises: ImageError where a lock is of a kind that only another tool can read, or a line has a password.
    """
    if given is not None:
        if not os.path.isfile(given):
            raise ImageError(f"there is no file {given}", hint="give a requirements.txt or a pylock.toml")
        return _pylock(root, given) if given.endswith(".toml") else _list(root, given)
    for name in _LISTS:
        if os.path.isfile(path := os.path.join(root, name)):
            return _list(root, path)
    if os.path.isfile(path := os.path.join(root, "pylock.toml")):
        return _pylock(root, path)
    if os.path.isfile(path := os.path.join(root, "uv.lock")):
        return _uv_lock(root, path)
    for name, command in _EXPORTS.items():
        if os.path.isfile(os.path.join(root, name)):
            raise ImageError(f"{name} cannot be read by pip, which fills the image", hint=command)
    return _pyproject(root)


# -- requirements.txt ------------------------------------------------------------------------------------------------


def _list(root: str, path: str) -> Declared:
    return _sorted(root, os.path.relpath(path, root), list(_lines(path, ())))


def _lines(path: str, above: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """(line, the folder it is relative to, its number), continued lines joined and `-r` followed."""
    if path in above:
        raise ImageError(f"{path} includes itself", hint="take one of the -r lines out")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path} cannot be read: {error}", hint="it is a text file, one requirement a line") from error
    folder, begun, first = os.path.dirname(os.path.abspath(path)), "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        begun, first = (begun + line, first) if begun else (line.lstrip(), number)
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        line, begun = begun.strip(), ""
        if not line:
            continue
        if _LOGIN.search(line):
            raise ImageError(
                f"{path}:{first} has a user name or password in a URL, and the image would hold it",
                hint="keep it in a pip.conf outside the project: penstock build --pip-conf FILE",
            )
        flag, _, rest = line.partition(" ") if " " in line else line.partition("=")
        if flag in ("-r", "--requirement"):
            yield from _lines(os.path.join(folder, rest.strip()), (*above, path))
        elif flag not in ("-c", "--constraint"):  # what it pins is installed here, in the version that is taken
            yield line, folder, first


def _sorted(root: str, source: str, lines: list[tuple[str, str, int]]) -> Declared:
    pinned: dict[str, str] = {}
    wanted: list[Asked] = []
    local: list[tuple[str, str]] = []
    options: list[str] = []
    hashed = False
    for line, folder, number in lines:
        flag, _, rest = line.partition(" ") if " " in line else line.partition("=")
        if flag in ("-e", "--editable"):
            line = rest.strip()
        elif line.startswith("-"):
            if flag in _KEPT:
                options.append(_reachable(line, rest.strip(), f"{source}:{number}"))
            continue
        line, *hashes = re.split(r"\s+--hash[= ]", line)
        line = line.strip()
        place = _place(line, folder)
        if place is not None:
            name, path = place
            if path != root:
                local.append((name, path))
            continue
        each = asked(line)
        if each is None:
            raise ImageError(f"{source}:{number} is no requirement: '{line}'", hint="write NAME==VERSION")
        hashed = hashed or bool(hashes)
        if _PINNED.search(each.limits) or each.limits.startswith("@"):
            written = " \\\n    ".join([line, *(f"--hash={value.strip()}" for value in hashes)])
            before = pinned.get(each.name)  # a lock for several platforms has a line for each
            pinned[each.name] = written if before is None else f"{before}\n{written}"
        else:
            wanted.append(each)
    return Declared(source, pinned, tuple(wanted), tuple(local), tuple(options), hashed)


def _place(line: str, folder: str) -> tuple[str, str] | None:
    """(name, what pip can make a wheel of), of a requirement that is a folder, a file or a repository."""
    name, _, rest = line.partition("@")
    what = rest.strip() if re.fullmatch(r"[\w.-]+(\[[^\]]*\])?\s*", name) and rest.strip() else line
    named = canonical_name(name.partition("[")[0].strip()) if what is not line else ""
    what = what.partition(" ;")[0].strip()
    if what.startswith(_VCS):
        return named, line
    bare = re.sub(r"\[[^\]]*\]$", "", what.removeprefix("file://"))
    is_path = what.startswith(("file://", ".", "/")) or os.sep in what or what.endswith((".whl", ".tar.gz", ".zip"))
    return (named, os.path.realpath(os.path.join(folder, bare))) if is_path and "://" not in bare else None


def _reachable(line: str, value: str, where: str) -> str:
    if line.startswith(("-f", "--find-links")) and "://" not in value:
        raise ImageError(
            f"{where} looks for packages in the folder {value}, which the image does not have",
            hint="name the file itself on a line of its own (./wheels/x-1.0-py3-none-any.whl), or give a URL",
        )
    return line


# -- other locks -----------------------------------------------------------------------------------------------------


def _pylock(root: str, path: str) -> Declared:
    """PEP 751, which not every pip reads: as lines with hashes."""
    lines = []
    for each in _toml(path).get("packages", ()):
        line = f"{each.get('name')}=={each.get('version')}"
        if "version" not in each or "vcs" in each or "directory" in each:
            if each.get("directory", {}).get("path", "") in (".", ""):
                continue  # the project itself
            raise ImageError(
                f"{os.path.basename(path)}: '{each.get('name')}' comes from a folder or a repository",
                hint="write a requirements.txt with a line for it",
            )
        line += f" ; {each['marker']}" if "marker" in each else ""
        files = [*each.get("wheels", ()), *([each["sdist"]] if "sdist" in each else [])]
        digests = sorted({f"{kind}:{value}" for file in files for kind, value in file.get("hashes", {}).items()})
        lines.append((line + "".join(f" --hash={each}" for each in digests), root, 1))
    return _sorted(root, os.path.relpath(path, root), lines)


def _uv_lock(root: str, path: str) -> Declared:
    uv = shutil.which("uv") or ([sys.executable, "-m", "uv"] if find_spec("uv") else None)
    if uv is None:
        raise ImageError("uv.lock is read by uv, which is not installed", hint="pip install uv")
    command = [uv] if isinstance(uv, str) else uv
    command += ["export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate"]
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        told = "\n".join(f"  {line}" for line in done.stderr.strip().splitlines()[-8:])
        raise ImageError(f"uv cannot export uv.lock:\n{told}", hint="uv lock")
    folder = os.path.dirname(path)
    joined = re.sub(r"\\\n\s*", " ", done.stdout).splitlines()
    lines = [(line.strip(), folder, number) for number, line in enumerate(joined, 1) if line.strip()]
    return _sorted(root, "uv.lock", [each for each in lines if not each[0].startswith("#")])


def _pyproject(root: str) -> Declared | None:
    path = os.path.join(root, "pyproject.toml")
    if not os.path.isfile(path):
        return None
    names = _toml(path).get("project", {}).get("dependencies", ())
    if not names:
        return None
    return _sorted(root, "pyproject.toml", [(str(name), root, 1) for name in names])


def _toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ImageError(f"{path} cannot be read: {error}", hint="correct that line") from error
