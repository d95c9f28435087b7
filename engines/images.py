"""Images for tests: penstock as it is in this checkout, the libraries that it needs, and a project's files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import podman
from .places import CHECKOUT, EngineError

# Libraries first: that layer is made once. Everything is compiled, so that no container does it again.
DOCKERFILE = """\
FROM {base}
RUN pip install --quiet --root-user-action=ignore {libraries} && python -m compileall -q -j 2 /usr/local/lib
COPY {wheel} /tmp/
RUN pip install --quiet --root-user-action=ignore --no-deps /tmp/{wheel} && python -m compileall -q /usr/local/lib
ENV PENSTOCK_ROOT=/app PENSTOCK_HOME=/tmp/penstock
WORKDIR /app
COPY app /app
RUN python -m compileall -q /app
"""
LIBRARIES = ("msgspec", "blake3", "cloudpickle", "fsspec", "pyyaml", "psycopg[binary]", "s3fs")


def build(name: str, project: Path, work: Path, *libraries: str) -> str:
    """An image with a project's files in /app; gives its name."""
    folder = work / "image"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(project, folder / "app", ignore=shutil.ignore_patterns(".penstock", "__pycache__"))
    wheel = _wheel(folder)
    wanted = " ".join(f"'{each}'" for each in (*LIBRARIES, *libraries))
    text = DOCKERFILE.format(base=podman.BASE_IMAGES[0], libraries=wanted, wheel=wheel)
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    podman.run("build", "--quiet", "--tag", name, folder, timeout=900)
    return name


def remove(name: str) -> None:
    podman.run("image", "rm", "--force", name)


def _wheel(folder: Path) -> str:
    command: Sequence[str | Path] = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "-o", folder, CHECKOUT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise EngineError(f"no wheel of penstock could be built, exit code {done.returncode}:\n{done.stderr}")
    return next(folder.glob("penstock-*.whl")).name
