"""Wheels of packages that no registry has: penstock's own checkout, a library of the user's, a repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from ..core.errors import ImageError
from .locking import Wheel

_SHOWN_LINES = 12


def make_wheel(wheel: Wheel, into: Path) -> Path:
    """The wheel of one package, in the folder. Raises: ImageError with what pip said."""
    if os.path.isfile(wheel.what) and wheel.what.endswith(".whl"):
        return Path(shutil.copy2(wheel.what, into))
    staging = into / f".{wheel.name.replace(' ', '-')}"
    staging.mkdir()
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        _command(wheel.what, staging),
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    made = sorted(staging.glob("*.whl"))
    if done.returncode or not made:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_SHOWN_LINES:]
        raise ImageError(
            "\n".join([f"no wheel can be made of {wheel.what}:", *(f"  {line}" for line in lines)]),
            hint=f"try it by hand: {sys.executable} -m pip wheel --no-deps {wheel.what}",
        )
    target = into / made[0].name
    os.replace(made[0], target)
    shutil.rmtree(staging)
    return target


def _command(what: str, into: Path) -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(into), what]
    uv = shutil.which("uv")
    if uv is not None and os.path.exists(what):
        return [uv, "build", "--quiet", "--wheel", "--out-dir", str(into), what]
    raise ImageError(
        f"a wheel of {what} is needed, and pip is not installed for {sys.executable}", hint="uv pip install pip"
    )
