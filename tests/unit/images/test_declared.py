"""What a project's own lock says."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.core.errors import ImageError
from penstock.images import find_declared


def declared(root: Path, files: dict[str, str], given: str | None = None):  # type: ignore[no-untyped-def]
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return find_declared(str(root.resolve()), given and str(root / given))


def test_a_project_that_declares_nothing_has_no_lock(tmp_path: Path) -> None:
    assert declared(tmp_path, {"pyproject.toml": "[tool.penstock]\n"}) is None


def test_pins_with_hashes_are_kept_as_they_are(tmp_path: Path) -> None:
    text = (
        "# made by a tool\nnumpy==2.1.0 ; python_version >= '3.11' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "    # via pandas\nsix==1.17.0 --hash=sha256:cc\n"
    )
    found = declared(tmp_path, {"requirements.txt": text})
    assert found.hashed
    assert found.pinned == {
        "numpy": "numpy==2.1.0 ; python_version >= '3.11' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb",
        "six": "six==1.17.0 \\\n    --hash=sha256:cc",
    }
    assert found.wanted == ()


def test_what_has_no_version_of_its_own_is_told_apart(tmp_path: Path) -> None:
    found = declared(tmp_path, {"requirements.txt": "pandas>=2,<4\nSix==1.17.0\nnumpy==2.*\npandera[pandas]\n"})
    assert list(found.pinned) == ["six"]
    assert [(each.name, each.limits) for each in found.wanted] == [
        ("pandas", ">=2,<4"),
        ("numpy", "==2.*"),
        ("pandera", ""),
    ]


def test_a_lock_for_several_platforms_keeps_every_line_of_a_package(tmp_path: Path) -> None:
    found = declared(tmp_path, {"requirements.txt": "a==1 ; python_version<'3.12'\na==2 ; python_version>='3.12'\n"})
    assert found.pinned["a"].splitlines() == ["a==1 ; python_version<'3.12'", "a==2 ; python_version>='3.12'"]


def test_included_files_and_where_to_look_come_along(tmp_path: Path) -> None:
    files = {
        "requirements.txt": "--extra-index-url https://wheels.example/cpu\n-r more/base.txt\n-c limits.txt\nsix==1\n",
        "more/base.txt": "-r deeper.txt\nidna==3.1\n",
        "more/deeper.txt": "--pre\nzipp==4.0\n",
    }
    found = declared(tmp_path, files)
    assert sorted(found.pinned) == ["idna", "six", "zipp"]
    assert found.options == ("--extra-index-url https://wheels.example/cpu", "--pre")


def test_the_project_itself_is_no_package_and_other_folders_become_wheels(tmp_path: Path) -> None:
    text = "-e .\n./libs/mine\nother @ file:///opt/other\ntool @ git+https://example.org/tool@abc\n./x-1.0-py3-none-any.whl\n"
    root = tmp_path.resolve()
    assert declared(tmp_path, {"requirements.txt": text}).local == (
        ("", f"{root}/libs/mine"),
        ("other", "/opt/other"),
        ("tool", "tool @ git+https://example.org/tool@abc"),
        ("", f"{root}/x-1.0-py3-none-any.whl"),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--index-url https://me:pw@host/x\nsix==1\n", r"requirements.txt:1 has a user name or password"),
        ("six==1\n-r requirements.txt\n", "includes itself"),
        ("--find-links ./wheels\nsix==1\n", r"requirements.txt:1 looks for packages in the folder ./wheels"),
        ("six==1\n???\n", r"requirements.txt:2 is no requirement"),
        ("-r nowhere.txt\n", "nowhere.txt cannot be read"),
    ],
)
def test_what_no_image_can_use_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        declared(tmp_path, {"requirements.txt": text})
    assert caught.value.hint
    assert "pw" not in caught.value.problem.replace("password", "")


@pytest.mark.parametrize("name", ["poetry.lock", "pdm.lock", "Pipfile.lock"])
def test_a_lock_of_another_tool_is_not_passed_over_in_silence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=name) as caught:
        declared(tmp_path, {name: ""})
    assert "requirements.txt" in str(caught.value.hint)
    assert declared(tmp_path, {"requirements.txt": "six==1\n"}).source == "requirements.txt"


def test_pylock_is_read_with_its_hashes(tmp_path: Path) -> None:
    text = """
lock-version = "1.0"
[[packages]]
name = "six"
version = "1.17.0"
marker = "python_version >= '3.11'"
wheels = [{ name = "six.whl", hashes = { sha256 = "aa" } }]
sdist = { name = "six.tar.gz", hashes = { sha256 = "bb" } }
[[packages]]
name = "mine"
directory = { path = "." }
"""
    found = declared(tmp_path, {"pylock.toml": text})
    assert found.hashed
    assert found.pinned == {
        "six": "six==1.17.0 ; python_version >= '3.11' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb"
    }


def test_uv_lock_is_exported_by_uv(tmp_path: Path) -> None:
    project = '[project]\nname = "mine"\nversion = "0.1"\nrequires-python = ">=3.11"\ndependencies = ["six"]\n'
    lock = """version = 1
requires-python = ">=3.11"

[[package]]
name = "mine"
version = "0.1"
source = { virtual = "." }
dependencies = [{ name = "six" }]

[package.metadata]
requires-dist = [{ name = "six" }]

[[package]]
name = "six"
version = "1.17.0"
source = { registry = "https://registry.example/index" }
wheels = [
    { url = "https://registry.example/six-1.17.0-py2.py3-none-any.whl", hash = "sha256:SIXTYFOUR", size = 1 },
]
""".replace("SIXTYFOUR", "a" * 64)
    found = declared(tmp_path, {"pyproject.toml": project, "uv.lock": lock})
    assert found.source == "uv.lock"
    assert found.pinned["six"].startswith("six==1.17.0")
    assert "sha256:" + "a" * 64 in found.pinned["six"]


def test_the_dependencies_in_pyproject_are_wanted(tmp_path: Path) -> None:
    found = declared(tmp_path, {"pyproject.toml": '[project]\nname="x"\ndependencies = ["pandas>=2", "six==1.17.0"]\n'})
    assert (found.source, list(found.pinned), [each.name for each in found.wanted]) == (
        "pyproject.toml",
        ["six"],
        ["pandas"],
    )


def test_a_lock_that_is_named_wins(tmp_path: Path) -> None:
    files = {"requirements.txt": "six==1\n", "prod/lock.txt": "idna==3\n"}
    assert list(declared(tmp_path, files, "prod/lock.txt").pinned) == ["idna"]
    with pytest.raises(ImageError, match="there is no file"):
        declared(tmp_path, files, "prod/gone.txt")
