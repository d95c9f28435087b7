"""`penstock build`: what is refused before anything is built, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.cli.app import main
from penstock.wiring.building import image_name
from penstock.wiring.config import Settings

HELLO = """
from penstock import pipeline, step

@step
def double(x: int) -> int:
    return 2 * x

@pipeline
def hello(x: int = 2) -> int:
    return double(x)
"""
MADE = """
from penstock import pipeline, step

names = {"step": step}
exec("def double(x: int) -> int:\\n    return 2 * x\\ndouble = step(double)", names)
double = names["double"]

@pipeline
def hello(x: int = 2) -> int:
    return double(x)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "My Project"
    folder.mkdir()
    (folder / "penstock.toml").write_text("")
    monkeypatch.chdir(folder)
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["build", *words])
    return code, capsys.readouterr().err


def test_a_file_that_looks_like_a_secret_stops_it_before_anything_is_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "secret_hello.py").write_text(HELLO)
    (project / ".env").write_text("TOKEN=abc")
    code, text = told(capsys, "secret_hello.py", "--dockerfile-only", "--output", "image")
    assert code == 1
    assert text.startswith(
        "error[image]: the image would hold a file that looks like a secret:\n  .env: a file of that name"
    )
    assert "hint: leave it out with the line '.env' in .dockerignore" in text
    assert not (project / "image").exists()


def test_a_file_outside_the_project_is_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "outside_hello.py").write_text(HELLO)
    code, text = told(capsys, "../outside_hello.py", "--project", ".")
    assert code == 2
    assert "../outside_hello.py lies outside the project" in text


def test_a_notebook_and_a_function_in_no_file_are_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = told(capsys, "work.ipynb")
    assert (code, "move the steps and the pipeline to a .py file" in text) == (2, True)
    (project / "made_hello.py").write_text(MADE)
    code, text = told(capsys, "made_hello.py", "--dockerfile-only")
    assert code == 2
    assert "functions that lie in no file, so no image can hold them: double" in text


def test_where_nothing_builds_it_says_so_before_it_works(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "plain_hello.py").write_text(HELLO)
    monkeypatch.setenv("PATH", "")
    code, text = told(capsys, "plain_hello.py")
    assert code == 1
    assert all(f"{name} is not installed" in text for name in ("docker", "podman", "buildah"))
    assert "--dockerfile-only" in text
    assert not (project / ".penstock").exists()


def test_the_folder_may_not_be_the_project_nor_somebody_else_s(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "kept").mkdir()
    (project / "kept" / "notes.txt").write_text("mine")
    (project / "place_hello.py").write_text(HELLO)
    code, text = told(capsys, "place_hello.py", "--dockerfile-only", "--output", ".")
    assert (code, "holds the project itself" in text) == (1, True)
    code, text = told(capsys, "place_hello.py", "--dockerfile-only", "--output", "kept")
    assert (code, "holds files that penstock build has not written" in text) == (1, True)
    assert (project / "kept" / "notes.txt").read_text() == "mine"


def test_code_beside_the_project_that_no_package_brings_is_refused_with_its_place(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "beside_lib.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    (project / "beside_hello.py").write_text("import beside_lib\n" + HELLO)
    code, text = told(capsys, "beside_hello.py", "--dockerfile-only")
    assert code == 1
    assert "beside_lib.py, imported at beside_hello.py:1" in text


def test_errors_are_json_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "json_hello.py").write_text(HELLO)
    (project / "id_rsa").write_text("x")
    assert main(["build", "json_hello.py", "--dockerfile-only", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "image"


def test_the_name_is_the_setting_or_the_folder_s(project: Path) -> None:
    assert image_name(Settings(root=str(project), home="h")) == "my-project:latest"
    assert (
        image_name(Settings(root=str(project), home="h", image="registry.example/churn:7"))
        == "registry.example/churn:7"
    )
