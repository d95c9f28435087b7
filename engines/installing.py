"""Installs engines: one environment each, versions pinned with hashes, once; then only a look at a stamp."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import airflow, podman, postgres, prefect
from .places import CHECKOUT, ROOT, EngineError, clean_environment, home

REQUIREMENTS = Path(__file__).parent
ENVIRONMENTS = ("airflow", "prefect", "kubeflow", "cluster")
NAMES = (*ENVIRONMENTS, "podman")
WITH_PROJECT = ("cluster",)  # workers import the project; the other engines must do without it
APT = {"podman": ("podman", "runc", "debootstrap", "buildah"), "airflow": ("postgresql",)}


def install(names: Sequence[str], say: Callable[[str], None]) -> None:
    """Each of these engines, or an EngineError that says which could not be had, and why."""
    ROOT.mkdir(exist_ok=True)
    for name in names:
        with _lock(name):
            begun = time.monotonic()
            did = _podman(say) if name == "podman" else _environment(name, say)
            say(f"{name}: {'installed' if did else 'is there'} ({time.monotonic() - begun:.1f} s)")


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Two at once (checkouts may share the folder) would tread on each other."""
    import fcntl

    with open(ROOT / f"{name}.lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _environment(name: str, say: Callable[[str], None]) -> bool:
    did = False
    stamp = home(name) / "installed"
    if not _says(stamp, _wanted(name)):
        did = True
        _make_environment(name, say)
        finish = {"airflow": _fill_airflow, "prefect": prefect.make_template}.get(name)
        if finish is not None:
            say(f"{name}: making its empty database")
            with tempfile.TemporaryDirectory(prefix="penstock-engines-") as logs:
                finish(Path(logs))
        stamp.write_text(_wanted(name), encoding="ascii")
    if name in WITH_PROJECT and not _says(stamp := home(name) / "project", str(CHECKOUT)):
        did = True
        say(f"{name}: installing the project, editable")
        _uv(
            "pip",
            "install",
            "--python",
            home(name) / "bin" / "python",
            "--no-deps",
            "--no-build-isolation",
            "-e",
            CHECKOUT,
        )
        stamp.write_text(str(CHECKOUT), encoding="utf-8")
    return did


def _make_environment(name: str, say: Callable[[str], None]) -> None:
    python = home(name) / "bin" / "python"
    shutil.rmtree(home(name), ignore_errors=True)
    say(f"{name}: making its environment")
    _uv("venv", "--python", sys.executable, home(name))
    say(f"{name}: installing engines/{name}.txt")
    _uv("pip", "install", "--python", python, "--require-hashes", "-r", REQUIREMENTS / f"{name}.txt")
    say(f"{name}: compiling it")
    # Its first start would do this, file by file. Some packages carry files that do not compile: never mind.
    _run([python, "-m", "compileall", "-q", "-j", "0", home(name) / "lib"], must=False)


def _fill_airflow(logs: Path) -> None:
    try:
        postgres.binaries()
    except EngineError:
        _apt("airflow")
    airflow.make_template(logs)


def _wanted(name: str) -> str:
    """What the stamp must say: the digest of all that an environment is made from."""
    digest = hashlib.sha256((REQUIREMENTS / f"{name}.txt").read_bytes())
    digest.update(sys.version.encode())
    if name == "airflow":
        try:
            digest.update(postgres.version().encode())  # its database is of one PostgreSQL version
        except EngineError:
            digest.update(b"none yet")
    return digest.hexdigest()


def _says(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text(encoding="utf-8") == wanted


def _podman(say: Callable[[str], None]) -> bool:
    did = False
    if missing := podman.missing_commands():
        did = True
        say(f"podman: installing the system's packages for {', '.join(missing)}")
        _apt("podman")
        if missing := podman.missing_commands():
            raise EngineError(f"still missing after installing packages: {', '.join(missing)}")
    podman.write_settings()
    if not podman.has_base_image():
        did = True
        say(f"podman: making the image {podman.BASE_IMAGES[0]} (about a minute)")
        podman.make_base_image()
    return did


def _apt(name: str) -> None:
    packages = APT[name]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise EngineError(f"{name} needs the packages {', '.join(packages)}\n  hint: install them as root, then again")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], environment)
    _run(["apt-get", "install", "-y", "-qq", *packages], environment)


def _uv(*arguments: str | Path) -> None:
    _run([sys.executable, "-m", "uv", arguments[0], "--quiet", *arguments[1:]])


def _run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None, *, must: bool = True) -> None:
    done = subprocess.run(
        [str(part) for part in command], env=environment or clean_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    if done.returncode and must:
        shown = " ".join(str(part) for part in command)
        raise EngineError(f"{shown}: exit code {done.returncode}\n{done.stdout}{done.stderr}".rstrip())


def versions() -> dict[str, str]:
    """What is installed here, by engine."""
    asked = {
        "airflow": ("apache-airflow",),
        "prefect": ("prefect",),
        "kubeflow": ("kfp",),
        "cluster": ("ray", "distributed"),
    }
    found: dict[str, str] = {}
    for name, packages in asked.items():
        code = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
        python = home(name) / "bin" / "python"
        if not python.exists():
            found[name] = "not installed"
            continue
        done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=False)
        found[name] = done.stdout.strip() or "broken"
    found["podman"] = "not installed" if podman.missing_commands() else podman.version()
    try:
        found["postgresql"] = postgres.version()
    except EngineError:
        found["postgresql"] = "not installed"
    return found
