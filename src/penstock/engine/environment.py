"""What a run happened in: Python, platform, installed packages, and the state of the git checkout.

Cheap enough for every run: folder names are listed instead of metadata parsed, `.git` is read instead of asked, and
one subprocess at most is started. Nothing here raises, or reads environment variables but those in `TUNING`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from ..core.canonical import digest_bytes

_MOST_DIFF_BYTES = 1 << 20
_MOST_READ_BYTES = 64 << 20
_DIST_INFO = (".dist-info", ".egg-info")
_versions: dict[str, str] | None = None
_folders: dict[str, str] = {}  # distribution -> its metadata, as of the same listing

# Variables that decide how many threads a library adds up with, or in which order; their values are recorded.
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip
TUNING = (*THREADS, "PYTHONHASHSEED", "OMP_DYNAMIC", "MKL_CBWR", "MKL_DYNAMIC", "CUBLAS_WORKSPACE_CONFIG")


def package_versions() -> dict[str, str]:
    """Installed distributions and their versions, as pip names them; listed once per process. Do not change it."""
    global _versions
    if _versions is None:
        listed = installed()
        _folders.update({name: folder for name, _, folder in listed})
        _versions = {name: version for name, version, _ in listed}
    return _versions


def installed() -> list[tuple[str, str, str]]:
    """(name, version, metadata folder) of every distribution on sys.path, the first of each name."""
    found: dict[str, tuple[str, str, str]] = {}
    for entry in dict.fromkeys(sys.path):
        try:
            names = os.listdir(entry or ".")
        except OSError:
            continue
        for folder in names:
            if folder.endswith(_DIST_INFO):
                name, _, version = folder.rpartition(".")[0].partition("-")
                name = canonical_name(name)
                # An egg is called name-1.0-py3.11.egg-info, or only name.egg-info in a source tree.
                known = version.partition("-py")[0] or "unknown"
                found.setdefault(name, (name, known, os.path.join(entry, folder)))
    return sorted(found.values())


def canonical_name(name: str) -> str:
    """The one spelling of a distribution's name: lower case, runs of `-`, `_`, `.` as one dash.

    >>> canonical_name("scikit_learn"), canonical_name("ruamel.yaml")
    ('scikit-learn', 'ruamel-yaml')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def environment() -> dict[str, Any]:
    """Where a run happens, for its record."""
    machine = os.uname().machine if hasattr(os, "uname") else "unknown"
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "implementation": sys.implementation.name,
        "platform": sys.platform,
        "machine": machine,
        "cpus": _cpus(),
        "settings": {name: os.environ[name] for name in TUNING if name in os.environ},
        "packages": dict(package_versions()),
        "origins": origins(),
    }


def origins() -> dict[str, dict[str, Any]]:
    """Of distributions that no index gave: where they came from, as their installer noted it (PEP 610).

    {"mine": {"url": "file:///home/me/mine", "editable": True}, "tool": {"url": …, "vcs": "git", "commit": …}}
    """
    found = {}
    package_versions()
    for name, folder in _folders.items():
        path = os.path.join(folder, "direct_url.json")
        if os.access(path, os.R_OK):
            try:
                found[name] = _origin(_read(path))
            except (OSError, ValueError, TypeError, AttributeError):
                found[name] = {"url": "unknown"}
    return found


def _origin(text: str) -> dict[str, Any]:
    noted = msgspec.json.decode(text)
    origin: dict[str, Any] = {"url": re.sub(r"(?<=://)[^/@]*@", "", str(noted.get("url", "unknown")))}
    if noted.get("dir_info", {}).get("editable"):
        origin["editable"] = True
    if "dir_info" in noted:
        origin["folder"] = True
    if "vcs_info" in noted:
        origin |= {"vcs": noted["vcs_info"].get("vcs"), "commit": noted["vcs_info"].get("commit_id")}
    return origin


def _cpus() -> int:
    """Processors that this process may use, which is what libraries start as many threads as."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def git_record(root: Path) -> dict[str, Any]:
    """The commit, branch and uncommitted difference of the checkout that `root` lies in; {} where there is none.

    `digest` is of the difference of tracked files, wherever it is staged; `text` holds its first megabyte, without
    the content of files that usually hold secrets and with values that look like secrets masked. `untracked`
    counts files and folders that git does not know.
    """
    found = _git_folder(os.path.abspath(root))
    if found is None:
        return {}
    top, git = found
    try:
        branch, commit = _head(git)
    except (OSError, ValueError):
        return {}
    record: dict[str, Any] = {"commit": commit, "branch": branch}
    status = _git_status(top)
    if status is None:
        return record
    sections = _diff_sections(status)
    difference = "".join(sections)
    untracked = _count_untracked(status)
    record |= {"dirty": bool(difference), "untracked": untracked}
    if difference:
        encoded = _shown(sections).encode("utf-8", "replace")
        record["digest"] = digest_bytes(difference.encode("utf-8", "surrogateescape"))
        record["text"] = encoded[:_MOST_DIFF_BYTES].decode("utf-8", "ignore")
        if len(encoded) > _MOST_DIFF_BYTES or len(difference) > _MOST_DIFF_BYTES:
            record["truncated"] = True
    return record


def _git_folder(folder: str) -> tuple[str, str] | None:
    """(top of the checkout, its git folder), from a folder inside it."""
    while True:
        git = os.path.join(folder, ".git")
        if os.path.isdir(git):
            return folder, git
        if os.path.isfile(git):  # a worktree or submodule points to its folder
            try:
                target = _read(git).removeprefix("gitdir:").strip()
            except OSError:
                return None
            return folder, os.path.normpath(os.path.join(folder, target))
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _head(git: str) -> tuple[str | None, str | None]:
    """(branch, commit); the branch is None when detached, the commit None before the first one."""
    head = _read(os.path.join(git, "HEAD")).strip()
    if not head.startswith("ref:"):
        return None, head
    ref = head.removeprefix("ref:").strip()
    common = git
    if os.path.isfile(os.path.join(git, "commondir")):
        common = os.path.normpath(os.path.join(git, _read(os.path.join(git, "commondir")).strip()))
    return ref.removeprefix("refs/heads/"), _commit_of(ref, git, common)


def _commit_of(ref: str, git: str, common: str) -> str | None:
    for folder in (git, common):
        if os.path.isfile(os.path.join(folder, ref)):
            return _read(os.path.join(folder, ref)).strip()
    packed = os.path.join(common, "packed-refs")
    if os.path.isfile(packed):
        for line in _read(packed).splitlines():
            if line.endswith(" " + ref):
                return line.partition(" ")[0]
    return None


def _git_status(top: str) -> str | None:
    """Status and difference from one call of git; None when git is missing or fails."""
    settings: tuple[str, ...] = (
        "color.ui=never",
        "advice.statusHints=false",
        "core.quotePath=false",
        "status.relativePaths=false",
    )
    settings += ("status.showUntrackedFiles=normal", "status.renames=false", "diff.renames=false", "column.ui=never")
    settings += ("core.fsmonitor=false", "submodule.recurse=false", "status.submoduleSummary=false")
    command = ["git", "-C", top]
    for each in settings:
        command += ["-c", each]
    command += ["status", "-v", "-v", "--no-ahead-behind", "--ignore-submodules=dirty"]
    environ = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF"):
        environ.pop(name, None)
    output = _output_of(command, environ)
    return None if output is None else output.decode("utf-8", "surrogateescape")


def _output_of(command: list[str], environ: dict[str, str]) -> bytes | None:
    """What a command prints. `subprocess` would cost more to import than git takes to answer."""
    if not hasattr(os, "posix_spawnp"):
        return None
    read_end, write_end = os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, write_end, 1),
        (os.POSIX_SPAWN_CLOSE, read_end),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        pid = os.posix_spawnp(command[0], command, environ, file_actions=actions)
    except OSError:
        os.close(read_end)
        return None
    finally:
        os.close(write_end)
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := os.read(read_end, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > _MOST_READ_BYTES:
                os.kill(pid, signal.SIGKILL)
                break
    finally:
        os.close(read_end)
        code = _end_of(pid)
    return b"".join(chunks) if code == 0 or size > _MOST_READ_BYTES else None


def _end_of(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 1  # somebody else in this process waits for all children


_HEADER_LINES = ("--- ", "+++ ", "new file", "deleted file", "old mode", "new mode", "Binary files")
_FILE_HEADER = re.compile(r"^(diff --git |--- |\+\+\+ )(.*)$")


def _diff_sections(status: str) -> list[str]:
    """The difference, one text per file in order of name, the same whether a change is staged or not."""
    start = re.search(r"^diff --git ", status, re.MULTILINE)
    if start is None:
        return []
    # Git puts these lines between what is staged and what is not; no line of a difference starts with a capital C.
    difference = re.sub(r"^-{50}\nChanges not staged for commit:\n", "", status[start.start() :], flags=re.MULTILINE)
    sections: list[list[str]] = []
    in_header, names = True, ""
    for line in difference.split("\n"):
        if line.startswith("diff --git "):
            in_header = True
            sections.append([_plain_prefixes(line)])
        elif in_header and not line.startswith("@@ "):
            if line.startswith("index "):
                names = line
            elif line.startswith(_HEADER_LINES):
                # The names of the objects say nothing that the content does not, where it is shown.
                sections[-1] += [names] if line.startswith("Binary files") else []
                sections[-1].append(_plain_prefixes(line))
        elif line.startswith(("+", "-", " ", "@", "\\")):  # the status ends with a sentence, which is none of these
            in_header = False
            sections[-1].append(line)
    return sorted("\n".join(section) + "\n" for section in sections)


def _plain_prefixes(line: str) -> str:
    """`c/x i/x` and `i/x w/x` as the usual `a/x b/x`."""
    if line.startswith("Binary files "):
        return "Binary files differ"
    if not _FILE_HEADER.match(line):
        return line
    line = re.sub(r"^(diff --git |--- )([\"]?)[ciw]/", r"\1\2a/", line)
    line = re.sub(r"^(\+\+\+ )([\"]?)[ciw]/", r"\1\2b/", line)
    return re.sub(r" ([\"]?)[iw]/(?=[^ ])", r" \1b/", line, count=1) if line.startswith("diff --git ") else line


_SECRET_FILE = re.compile(
    r"(^|/)(\.env[^/]*|[^/]*\.(pem|key|p12|pfx)|\.netrc|\.pypirc|credentials[^/]*|[^/]*secret[^/]*)$"
)


def _without_secrets(section: str) -> str:
    header, hunk, _ = section.partition("\n@@ ")
    name = header.partition("\n")[0].rpartition(" b/")[2].rstrip('"')
    return f"{header}\n(content withheld)\n" if hunk and _SECRET_FILE.search(name) else section


_SECRET_VALUE = re.compile(
    r"""((?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|credential|token(?!i[sz]))"""
    r"""[\w-]*["'\])\s]*(?::[^=\n]{1,60}=|[:=])[^\S\n]*)(?!=)([^\n]+)$""",
    re.IGNORECASE,
)
_SECRET_SHAPE = re.compile(
    r"\b(?:A(?:KIA|SIA|IDA|ROA|GPA|NPA|NVA)[A-Z0-9]{12,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|sk-[\w-]{20,}"
    r"|xox[abeprs]-[\w-]{10,})|(?<=^[+\- ])\s*[A-Za-z0-9+/]{60,}={0,2}$"
)
_SECRET_URL = re.compile(r"(://[^\s:/@\"']{0,100}:)[^\s/@\"']{1,500}(?=@)")
_OPENS = re.compile(r"""^(?:[rbfuRBFU]{0,2}(?P<quotes>\"{3}|'{3})|[(\[{\\|>]+[-+]?$)""")
_MASKED = "***"


def _shown(sections: list[str]) -> str:
    """The difference as it may be kept, to a little over what is kept of it."""
    shown, size = [], 0
    for section in sections:
        shown.append(_masked(_without_secrets(section[: _MOST_DIFF_BYTES + 1])))
        size += len(shown[-1])
        if size > _MOST_DIFF_BYTES:
            break
    return "".join(shown)


def _masked(section: str) -> str:
    """The lines without what looks like a secret: after such a name, in the shape of a key, inside a PEM block.

    A value that begins on the next line, or goes on over lines in triple quotes, is masked there too.
    """
    lines: list[str] = []
    until: str | None = None  # what ends a block that is masked whole; "" is the end of this line
    for line in section.split("\n"):
        if line.startswith(("@@ ", "diff --git ")):
            until = None
        if until is not None:
            ended = not until or until in line
            lines.append(line[:1] + _MASKED)
            until = None if ended else until
            continue
        if "-----BEGIN " in line and "-----END " not in line:
            until = "-----END "
            lines.append(line.partition("-----BEGIN ")[0] + _MASKED)
            continue
        found = _SECRET_VALUE.search(line)
        if found is not None:
            opening = _OPENS.match(found[2].strip())
            quotes = opening["quotes"] if opening is not None else None
            if opening is not None and (quotes is None or found[2].count(quotes) == 1):
                until = quotes or ""
            line = line[: found.start(2)] + _MASKED
        lines.append(_SECRET_URL.sub(rf"\1{_MASKED}", _SECRET_SHAPE.sub(_MASKED, line)))
    return "\n".join(lines)


def _count_untracked(status: str) -> int:
    _, found, rest = status.partition("\nUntracked files:\n")
    count = 0
    for line in rest.splitlines() if found else ():
        if line.startswith("\t"):
            count += 1
        elif line and not line.startswith("  ("):
            break
    return count
