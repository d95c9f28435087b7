"""docker, podman and buildah: what builds an image, runs a command in it and names it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import msgspec

from ..core.errors import ImageError
from ..engine.processtree import descendants, send, send_group
from .dockerfile import REVISION

BUILDERS = ("docker", "podman", "buildah")
_SHOWN_LINES = 15
_PATIENCE_S = 20.0  # how long a builder may take to clean up when it is asked to stop
_ASKED = {  # a question that only a builder that works can answer
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("info", "--format", "{{.Version.Version}}"),
    "buildah": ("info",),
}


class Image(msgspec.Struct, frozen=True):
    """What was built. `digest` is the manifest's, where the builder knows it before anything is pushed."""

    id: str
    digest: str | None
    size_bytes: int | None
    names: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """How a command in the image ended."""

    code: int
    out: str
    err: str


def find_builder(wanted: str | None = None) -> Builder:
    """The first of the three that works here, or the wanted one. Raises: ImageError that says why each does not."""
    reasons = []
    for name in (wanted,) if wanted else BUILDERS:
        path = shutil.which(name)
        if path is None:
            reasons.append(f"{name} is not installed")
            continue
        done = subprocess.run(
            [path, *_ASKED[name]], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return Builder(name, path)
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        reasons.append(f"{name} does not work here: {lines[-1].strip() if lines else f'exit code {done.returncode}'}")
    shown = "\n".join(f"  {each}" for each in reasons)
    if wanted:
        raise ImageError(f"{wanted} cannot build the image:\n{shown}", hint="leave --with out to take what is there")
    raise ImageError(
        f"nothing here can build an image:\n{shown}",
        hint="install docker, podman or buildah; penstock build --dockerfile-only writes the folder to build elsewhere",
    )


class Builder:
    """One of the three."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = path

    def build(
        self, folder: Path, tell: Callable[[str], None], *, revision: str = "unknown", pip_conf: str | None = None
    ) -> str:
        """Build the folder's Dockerfile, without a name yet; returns the image's id.

        Raises: ImageError with the end of what the builder said.
        """
        with tempfile.TemporaryDirectory(prefix="penstock-build-") as scratch:
            noted = os.path.join(scratch, "id")
            command = [self._path, "build", "--iidfile", noted, "--build-arg", f"{REVISION}={revision}"]
            command += ["--layers"] if self.name == "buildah" else []
            command += ["--secret", f"id=pip.conf,src={os.path.abspath(pip_conf)}"] if pip_conf else []
            code, last = _streamed([*command, str(folder)], tell, tidies_up=self.name != "docker")
            if code or not os.path.exists(noted):
                shown = "\n".join(f"  {line}" for line in last)
                raise ImageError(
                    f"{self.name} could not build the image (exit code {code}):\n{shown}",
                    hint=f"the Dockerfile is {folder / 'Dockerfile'}",
                )
            return Path(noted).read_text(encoding="utf-8").strip()

    def run(self, image: str, command: Sequence[str]) -> Answer:
        """Run a command in a container of the image, which is gone afterwards."""
        if self.name != "buildah":
            return self._asked("run", "--rm", image, *command)
        made = self._asked("from", image)
        container = made.out.strip()
        if made.code:
            return made
        try:
            return self._asked("run", container, "--", *command)
        finally:
            self._asked("rm", container)

    def name_it(self, image: str, name: str) -> None:
        done = self._asked("tag", image, name)
        if done.code:
            raise ImageError(
                f"the image cannot be called '{name}': {done.err.strip()}", hint="a name is like registry/team/name:tag"
            )

    def look(self, image: str) -> Image:
        """What the builder knows of an image."""
        if self.name == "buildah":
            return self._look_by_listing(image)
        found = self._json("image", "inspect", image)
        (known,) = found if isinstance(found, list) and len(found) == 1 else ({},)
        digest = known.get("Digest") or next((each.rpartition("@")[2] for each in known.get("RepoDigests") or ()), None)
        return Image(image, digest, known.get("Size"), tuple(known.get("RepoTags") or ()))

    def drop(self, image: str) -> None:
        """Delete an image that has no name: what was built and found wanting."""
        if not self.look(image).names:
            self._asked("rmi", image)

    def _look_by_listing(self, image: str) -> Image:
        digest = self._asked("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", image).out.strip()
        bare = image.removeprefix("sha256:")
        listed = self._json("images", "--all", "--no-trunc", "--json")
        names = [
            name
            for each in (listed if isinstance(listed, list) else ())
            if str(each.get("id", "")).removeprefix("sha256:") == bare
            for name in each.get("names") or ()
        ]
        return Image(image, digest or None, None, tuple(names))

    def _json(self, *words: str) -> Any:
        done = self._asked(*words)
        try:
            return json.loads(done.out)
        except ValueError:
            return None

    def _asked(self, *words: str) -> Answer:
        done = subprocess.run(
            [self._path, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


def _streamed(command: list[str], tell: Callable[[str], None], *, tidies_up: bool) -> tuple[int, list[str]]:
    """Run a command and tell each line of it. Asked to stop, it is stopped first, with all that it has started."""
    last: deque[str] = deque(maxlen=_SHOWN_LINES)
    with _terminated_as_interrupted():
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches it through us, once
        )
        assert child.stdout is not None
        try:
            for line in child.stdout:
                last.append(line.rstrip())
                tell(line.rstrip())
            return child.wait(), list(last)
        finally:
            if child.poll() is None:
                _stop(child, tidies_up)
            child.stdout.close()


def _stop(child: subprocess.Popen[str], tidies_up: bool) -> None:
    """podman and buildah leave their working containers behind when they are interrupted, and tidy up after a step that
    failed: so what they run is ended, whatever step it is. docker tidies up elsewhere, once its client has gone."""
    try:
        if not tidies_up:
            send_group(child.pid, signal.SIGINT)
        deadline = monotonic() + _PATIENCE_S
        while child.poll() is None and monotonic() < deadline:
            for pid in descendants(child.pid) if tidies_up else ():
                send(pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=0.2)
    finally:
        if child.poll() is None:
            send_group(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a build as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
