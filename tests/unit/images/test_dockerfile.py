"""The text of the Dockerfile, and the folder that holds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.core.errors import ImageError
from penstock.images import Contents, Locked, Recipe, write_folder
from penstock.images.builders import find_builder
from penstock.images.contents import File

RECIPE = Recipe(title="churn", base="python:3.12-slim", penstock="1.2.3", wheels=True)
LOCKED = Locked("requirements.txt", ("six==1",), ("penstock==1.2.3",), (), False, True)


def instructions(text: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def test_the_same_recipe_gives_the_same_bytes() -> None:
    assert (
        RECIPE.dockerfile()
        == Recipe(title="churn", base="python:3.12-slim", penstock="1.2.3", wheels=True).dockerfile()
    )


def test_dependencies_come_before_penstock_and_penstock_before_code() -> None:
    lines = instructions(RECIPE.dockerfile())
    order = [
        "COPY requirements.txt",
        "RUN python -m pip",
        "COPY additions.txt",
        "COPY --from=packages",
        "COPY project/",
        "USER",
    ]
    places = [next(at for at, line in enumerate(lines) if line.startswith(each)) for each in order]
    assert places == sorted(places)
    assert all(line.startswith(("ENTRYPOINT", "CMD", "ARG", "LABEL")) for line in lines[places[-1] + 1 :])


def test_the_last_user_has_a_number_and_no_rights_and_the_commit_is_no_part_of_the_text() -> None:
    lines = instructions(RECIPE.dockerfile())
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert "ENTRYPOINT []" in lines
    assert "org.opencontainers.image.revision=$REVISION" in lines[-1]


@pytest.mark.parametrize(
    ("change", "text", "there"),
    [
        ({"hashed": True}, "--require-hashes --requirement requirements.txt", True),
        ({"hashed": True}, "--require-hashes --requirement additions.txt", False),
        ({"complete": False}, "--no-deps", False),
        ({"requirements": False}, "COPY requirements.txt", False),
        ({"wheels": False}, "COPY wheels/", False),
        ({"pip_conf": True}, "--mount=type=secret,id=pip.conf", True),
        ({"import_folders": ("src", ".")}, "PYTHONPATH=/app/src:/app", True),
        ({}, "PYTHONPATH", False),
        ({"title": 'a "quoted" $NAME'}, r'image.title="a \"quoted\" NAME"', True),
    ],
)
def test_what_the_recipe_says_is_in_the_text(change: dict[str, object], text: str, there: bool) -> None:
    recipe = Recipe(**{"title": "x", "base": "b", "penstock": "1", "wheels": True, **change})  # type: ignore[arg-type]
    assert (text in recipe.dockerfile()) is there


def test_only_what_is_copied_passes_the_ignore_file_and_never_a_secret() -> None:
    lines = Recipe(title="x", base="b", penstock="1", asked_for=("certs/ca.pem",)).dockerignore().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert {"**/.git", "**/.penstock", "**/.env", "**/*.pem", "**/.venv"} <= set(rules)
    assert rules[-1] == "!project/certs/ca.pem"


def project(tmp_path: Path) -> Contents:
    source = tmp_path / "a.py"
    source.write_text("x = 1\n")
    return Contents((File("a.py", str(source), 6),), ())


def silent(text: str) -> None:
    return


def test_the_folder_is_made_anew_each_time_and_holds_nothing_else(tmp_path: Path) -> None:
    folder, contents = tmp_path / "image", project(tmp_path)
    for _ in range(2):
        write_folder(folder, RECIPE, LOCKED, contents, silent)
        (folder / "stray").write_text("")
    write_folder(folder, RECIPE, LOCKED, contents, silent)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [".dockerignore", "Dockerfile", "additions.txt", "project/a.py", "requirements.txt"]
    assert (folder / "additions.txt").read_text().endswith("penstock==1.2.3\n")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(ImageError, match="has not written"):
        write_folder(folder, RECIPE, LOCKED, project(tmp_path), silent)
    assert [path.name for path in folder.iterdir()] == ["Dockerfile"]


def test_a_folder_that_could_not_be_filled_leaves_the_one_before_and_no_draft(tmp_path: Path) -> None:
    folder, contents = tmp_path / "image", project(tmp_path)
    write_folder(folder, RECIPE, LOCKED, contents, silent)
    lost = Contents((File("gone.py", str(tmp_path / "gone.py")),), ())
    with pytest.raises(ImageError, match=r"gone\.py cannot be copied"):
        write_folder(folder, RECIPE, LOCKED, lost, silent)
    assert (folder / "project" / "a.py").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "image"]


def test_the_draft_of_a_killed_build_is_swept(tmp_path: Path) -> None:
    (tmp_path / "image.penstock-draft-999999999").mkdir()
    write_folder(tmp_path / "image", RECIPE, LOCKED, project(tmp_path), silent)
    assert not (tmp_path / "image.penstock-draft-999999999").exists()


def test_where_nothing_builds_all_three_are_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "podman"
    broken.write_text("#!/bin/sh\necho 'cannot open storage' >&2; exit 125\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError) as caught:
        find_builder()
    for reason in (
        "docker is not installed",
        "podman does not work here: cannot open storage",
        "buildah is not installed",
    ):
        assert reason in caught.value.problem
    assert "--dockerfile-only" in str(caught.value.hint)
    with pytest.raises(ImageError, match="docker is not installed"):
        find_builder("docker")
