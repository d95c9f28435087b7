"""`penstock doctor`: is everything here that a run needs? Exit code 1 where something needed is broken."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ...core.errors import PenstockError
from ...core.units import shown_size
from ...engine.environment import canonical_name, git_record, package_versions
from ...ports.records import RunState
from ...ports.runlog import RunQuery
from ...wiring.config import Settings
from ...wiring.project import Project
from ..opening import settings_for, sqlite_path
from ..render import paint, print_json, speaks_unicode, table

_PROBE = "0" * 64  # the cache key whose lease is taken and given back
_LITTLE, _TOO_LITTLE = 1 << 30, 64 << 20  # bytes free on the disk

Verdict = Literal["ok", "missing", "warning", "broken"]

# extra -> the distributions that it brings, by which one sees that it is there
_EXTRAS = {
    "postgres": ("psycopg",),
    "s3": ("s3fs",),
    "sql": ("sqlalchemy",),
    "pandas": ("pandas", "pyarrow"),
    "polars": ("polars", "pyarrow"),
    "sklearn": ("scikit-learn", "skops"),
    "pandera": ("pandera",),
    "gx": ("great-expectations",),
    "mlflow": ("mlflow|mlflow-skinny", "sqlalchemy", "alembic"),
    "serve": ("fastapi", "uvicorn"),
}
_SIGNS = {
    "ok": ("✓", "+", "green"),
    "missing": ("○", "o", "dim"),
    "warning": ("!", "!", "yellow"),
    "broken": ("✗", "x", "red"),
}


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at. `missing` is fine until it is wanted; `broken` stops runs."""

    what: str
    verdict: Verdict
    text: str
    hint: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
examples:
  penstock doctor
  penstock doctor --profile prod --json
"""


def execute(arguments: argparse.Namespace) -> int:
    findings = list(_examined(arguments))
    broken = [each for each in findings if each.verdict == "broken"]
    if arguments.json:
        print_json({"ok": not broken, "findings": findings})
    else:
        print(_page(findings, len(broken)))
    return 1 if broken else 0


def _examined(arguments: argparse.Namespace) -> Iterator[Finding]:
    yield _python()
    yield from _extras()
    try:
        settings = settings_for(arguments)
    except PenstockError as error:
        yield Finding("configuration", "broken", error.problem, error.hint)
        return
    yield _configuration(settings)
    project = Project(settings)
    looks: list[tuple[str, Callable[[Project], Finding]]] = [
        ("run log", _run_log),
        ("artifacts", _artifacts),
        ("registry", _registry),
        ("runs", _interrupted),
        ("git", _git),
        ("disk", _disk),
    ]
    for what, look in looks:
        try:
            yield look(project)
        except PenstockError as error:
            yield Finding(what, "broken", error.problem, error.hint)
        except OSError as error:
            yield Finding(what, "broken", f"{error.filename or what}: {error.strerror or error}")


def _python() -> Finding:
    from ... import __version__

    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Finding("python", "ok", f"penstock {__version__}, {python} on {platform.platform()}")


def _extras() -> Iterator[Finding]:
    versions = package_versions()
    for extra, wanted in _EXTRAS.items():
        found, absent = [], []
        for each in wanted:
            names = [canonical_name(name) for name in each.split("|")]
            present = next((name for name in names if name in versions), None)
            if present is None:
                absent.append(names[-1])
            else:
                found.append(f"{present} {versions[present]}")
        if absent:
            text = f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed"
            yield Finding(f"extra {extra}", "missing", text, f"pip install 'penstock[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(found))


def _configuration(settings: Settings) -> Finding:
    names = ("penstock.toml", "pyproject.toml")
    file = next((name for name in names if os.path.exists(os.path.join(settings.root, name))), None)
    profile = f", profile {settings.profile}" if settings.profile else ""
    return Finding("configuration", "ok", f"{settings.root}: {file or 'no file, defaults'}{profile}")


def _run_log(project: Project) -> Finding:
    path = sqlite_path(project.settings)
    if path is not None and not os.path.exists(path):
        return _writable_later("run log", path)
    store = project.store
    version = store.version()
    store.lease(_PROBE, "doctor", 1.0)
    store.unlease(_PROBE, "doctor")
    return Finding("run log", "ok", f"{_place(project.settings.runs_url)}: schema version {version}, writable")


def _artifacts(project: Project) -> Finding:
    url = project.settings.artifacts_url
    if "://" not in url and not os.path.isdir(url):
        return _writable_later("artifacts", url)
    blobs = project.artifacts.blobs
    folder = blobs.staging()
    try:
        probe = folder / "probe"
        probe.write_bytes(b"penstock doctor " + os.urandom(16))
        digest, size = blobs.put_file(probe)
        if blobs.size(digest) != size:
            return Finding("artifacts", "broken", f"{_place(url)}: what was written is not there")
        blobs.delete(digest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Finding("artifacts", "ok", f"{_place(url)}: a probe was written and deleted")


def _registry(project: Project) -> Finding:
    tracking = project.settings.tracking
    if not tracking and not (project.home / "mlflow.db").exists():
        return Finding("registry", "missing", "none yet: the first registered model makes it")
    if not any(name in package_versions() for name in ("mlflow", "mlflow-skinny")):
        hint = "pip install 'penstock[mlflow]'"
        return Finding("registry", "broken" if tracking else "warning", "MLflow is not installed", hint)
    registry = project.registry
    found = registry.find("penstock-doctor", "probe")
    return Finding("registry", "ok", f"{_place(registry.url)}: reachable" + ("" if found is None else ", with models"))


def _interrupted(project: Project) -> Finding:
    path = sqlite_path(project.settings)
    if path is not None and not os.path.exists(path):
        return Finding("runs", "ok", "none yet")
    found = project.store.list_runs(RunQuery(state=RunState.INTERRUPTED, limit=5))
    if not found:
        return Finding("runs", "ok", "none is interrupted")
    names = ", ".join(run.record.id for run in found)
    return Finding("runs", "warning", f"interrupted: {names}", f"penstock resume {found[0].record.id}")


def _git(project: Project) -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "missing", "not installed: runs record no uncommitted changes", "install git")
    record = git_record(Path(project.settings.root))
    if not record:
        return Finding("git", "missing", "this folder is in no checkout: runs record no commit", "git init")
    dirty = ", with uncommitted changes" if record.get("dirty") else ""
    commit = str(record.get("commit") or "no commit yet")[:12]
    return Finding("git", "ok", f"{commit} on {record.get('branch') or 'no branch'}{dirty}")


def _disk(project: Project) -> Finding:
    free = shutil.disk_usage(_nearest(str(project.home))).free
    text = f"{shown_size(free)} free"
    if free < _TOO_LITTLE:
        return Finding("disk", "broken", text, "make room, or set PENSTOCK_HOME to another disk; penstock gc may help")
    return Finding("disk", "warning" if free < _LITTLE else "ok", text, "penstock gc" if free < _LITTLE else None)


def _writable_later(what: str, path: str) -> Finding:
    """Something that the first run makes: can it?"""
    folder = _nearest(path)
    if os.access(folder, os.W_OK | os.X_OK):
        return Finding(what, "ok", f"none yet: the first run makes {path}")
    hint = "set PENSTOCK_HOME to a folder that can be"
    return Finding(what, "broken", f"{path} cannot be made: {folder} is not writable", hint)


def _nearest(path: str) -> str:
    """The path, or the nearest folder above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path) or os.curdir
    return path


def _place(url: str) -> str:
    """A URL without its password."""
    scheme, mark, rest = url.partition("://")
    if not mark or "@" not in rest:
        return url
    login, _, host = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}@{host}"


def _page(findings: list[Finding], broken: int) -> str:
    rows = []
    for each in findings:
        fine, plain, style = _SIGNS[each.verdict]
        sign = paint(fine if speaks_unicode() else plain, style)
        hint = paint(each.hint, "dim") if each.hint else ""
        rows.append([sign, each.what, each.text, hint])
    wide = [row for row in rows if row[1].startswith("extra ")]
    rest = [row for row in rows if row not in wide]
    lines = [table(rest), "", table(wide), ""]
    lines.append(f"{broken} broken" if broken else "everything that a run needs is here")
    return "\n".join(lines)
