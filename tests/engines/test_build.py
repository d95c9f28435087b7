"""`penstock build` with podman: the example's image is built, looked through, run, built again and interrupted."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.podman import environment

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[2] / "examples" / "tumours"
CANARY = "canary-" + uuid.uuid4().hex
SMALL = """
import idna
from penstock import pipeline, step

@step
def encoded(name: str) -> str:
    import six
    return idna.encode(six.ensure_text(name)).decode()

@pipeline
def names(name: str = "königsgäßchen") -> str:
    return encoded(name)
"""


def command(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **environment(), **variables, "NO_COLOR": "1"}
    environ.pop("DOCKER_HOST", None)
    return subprocess.run(
        words, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False
    )


def build(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return command(sys.executable, "-m", "penstock", "build", *flags, "--with", "podman", cwd=folder)


def podman(folder: Path, *words: str) -> str:
    done = command("podman", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def remove(folder: Path, *names: str) -> None:
    command("podman", "rmi", "--force", *names, cwd=folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in a repository of its own, with data, a secret that is left out, and what no image should hold."""
    folder = tmp_path_factory.mktemp("work") / "tumours"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".penstock", "data", "__pycache__"))
    assert command(sys.executable, "make_data.py", cwd=folder).returncode == 0
    (folder / ".env").write_text(f"TOKEN={CANARY}")
    (folder / ".dockerignore").write_text(".env\n")
    (folder / ".penstock" / "secrets").mkdir(parents=True)
    (folder / ".penstock" / "secrets" / "TOKEN").write_text(CANARY)
    for words in (["init", "-q"], ["add", "-A", "-f", "pipeline.py"], ["commit", "-q", "-m", CANARY]):
        git = command("git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words, cwd=folder)
        assert git.returncode == 0, git.stderr
    return folder


@pytest.fixture(scope="module")
def image(project: Path) -> Iterator[dict[str, Any]]:
    name = f"localhost/penstock-test-{uuid.uuid4().hex[:8]}:1"
    done = build(project, "pipeline.py", "--tag", name, "--json", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    yield json.loads(done.stdout)
    remove(project, name)


def in_image(project: Path, image: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    return command("podman", "run", "--rm", image["image"], *words, cwd=project)


def test_the_answer_says_what_was_built(project: Path, image: dict[str, Any]) -> None:
    known = json.loads(podman(project, "image", "inspect", image["image"]))[0]
    assert image["id"].removeprefix("sha256:") == known["Id"]
    assert image["digest"] == known["Digest"]
    assert image["size_bytes"] == known["Size"]
    assert image["seconds"] > 0
    commit = command("git", "rev-parse", "HEAD", cwd=project).stdout.strip()
    assert known["Labels"]["org.opencontainers.image.revision"] == commit
    assert not known["Config"].get("Entrypoint")
    assert any("no lock" in note for note in image["notes"])
    assert any("skops" in note for note in image["notes"]), "what keeps scikit-learn's models comes along, and is named"


def test_the_whole_pipeline_runs_in_it_without_rights(project: Path, image: dict[str, Any]) -> None:
    assert in_image(project, image, "id", "-u").stdout.strip() == "10001"
    assert in_image(project, image, "touch", "/app/pipeline.py").returncode != 0, "no step can change the code"
    assert in_image(project, image, "pwd").stdout.strip() == "/app"
    done = in_image(project, image, "python", "-P", "-m", "penstock", "run", "pipeline.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "champion → version 1" in done.stderr
    assert in_image(project, image, "penstock", "doctor").returncode == 0


def test_no_layer_holds_a_secret_or_the_repository(project: Path, image: dict[str, Any], tmp_path: Path) -> None:
    podman(project, "save", "--format", "docker-archive", "--output", str(tmp_path / "image.tar"), image["image"])
    names: list[str] = []
    with tarfile.open(tmp_path / "image.tar") as whole:
        for member in whole:
            content = whole.extractfile(member)
            if content is None:
                continue
            data = content.read()
            assert CANARY.encode() not in data, member.name
            if member.name.endswith(".tar"):
                with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                    names += [each.name for each in layer]
    assert "app/pipeline.py" in names
    assert "app/data/measurements.csv" in names
    forbidden = (".git", ".env", ".penstock", "secrets")
    assert [name for name in names if name.startswith("app/") and name.split("/")[1] in forbidden] == []


def test_after_an_edit_of_the_code_the_packages_are_taken_as_they_are(project: Path, image: dict[str, Any]) -> None:
    code = project / "pipeline.py"
    text = code.read_text()
    before = (project / ".penstock" / "image" / "Dockerfile").read_bytes()
    name = image["image"].replace(":1", ":2")
    code.write_text(text + "\nEDITED = True\n")
    try:
        done = build(project, "pipeline.py", "--tag", name)
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        installs = [at for at, line in enumerate(lines) if "pip --python" in line]
        assert len(installs) == 2
        assert all("Using cache" in lines[at + 1] for at in installs), done.stderr
        copied = next(at for at, line in enumerate(lines) if "COPY project/" in line)
        assert "Using cache" not in lines[copied + 1]
        assert (project / ".penstock" / "image" / "Dockerfile").read_bytes() == before
        known = json.loads(podman(project, "image", "inspect", name))[0]
        assert known["Labels"]["org.opencontainers.image.revision"].endswith("-dirty")
    finally:
        code.write_text(text)
        remove(project, name)


def with_hashes(*names: str) -> str:
    """Lines of our own lock."""
    lock = (Path(__file__).parents[2] / "requirements" / "dev.txt").read_text()
    found = [re.search(rf"^{name}==.*?(?<!\\)$", lock, re.MULTILINE | re.DOTALL) for name in names]
    return "\n".join(each[0] for each in found if each is not None) + "\n"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "names.py").write_text(SMALL)
    return tmp_path / "small"


def test_a_module_that_no_line_brings_is_reported_with_its_place_and_no_image_gets_the_name(small: Path) -> None:
    name = f"localhost/penstock-test-{uuid.uuid4().hex[:8]}"
    (small / "requirements.txt").write_text("idna==3.10\n")
    done = build(small, "names.py", "--tag", name)
    assert done.returncode == 1
    assert (
        "error[image]: the image lacks modules that the code imports:\n  six, imported at names.py:7\n" in done.stderr
    )
    assert "hint: add what is missing to requirements.txt" in done.stderr
    assert command("podman", "image", "exists", name, cwd=small).returncode == 1

    (small / "requirements.txt").write_text(with_hashes("idna", "six"))
    try:
        done = build(small, "names.py", "--tag", name)
        assert done.returncode == 0, done.stderr
        assert "--require-hashes" in (small / ".penstock" / "image" / "Dockerfile").read_text()
        assert "xn--" in podman(small, "run", "--rm", name, "penstock", "run", "names.py", "--json")
    finally:
        remove(small, name)


def test_a_version_that_no_registry_has_ends_it_with_what_pip_said(small: Path) -> None:
    (small / "requirements.txt").write_text("idna==0.0.0.1\nsix==1.17.0\n")
    done = build(small, "names.py", "--quiet")
    assert done.returncode == 1
    assert "podman could not build the image" in done.stderr
    assert "idna==0.0.0.1" in done.stderr
    assert "Dockerfile" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing_behind(small: Path, number: signal.Signals) -> None:
    name = f"localhost/penstock-test-{uuid.uuid4().hex[:8]}"
    # A line that no build had before, so that packages are really installed.
    line = f"--trusted-host {uuid.uuid4().hex}.example"
    (small / "requirements.txt").write_text(f"{line}\nidna==3.10\nsix==1.17.0\nscipy\n")
    before = set(command("buildah", "containers", "--quiet", cwd=small).stdout.split())
    environ = {**os.environ, **environment()}
    words = [sys.executable, "-m", "penstock", "build", "names.py", "--with", "podman", "--tag", name]
    with subprocess.Popen(words, cwd=small, env=environ, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "Collecting" in line:
                break
        running.send_signal(number)
        running.stderr.read()
    assert running.returncode == 130
    assert set(command("buildah", "containers", "--quiet", cwd=small).stdout.split()) <= before
    assert command("podman", "image", "exists", name, cwd=small).returncode == 1
    assert [path.name for path in (small / ".penstock").iterdir() if "draft" in path.name] == []
