"""What the code of a pipeline reaches by its imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.core.errors import ImageError
from penstock.images import Reached, import_folders, reached
from penstock.images.reached import python_files


def found(root: Path, files: dict[str, str], *entries: str) -> Reached:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    real = root.resolve()
    return reached(str(real), [str(real / entry) for entry in entries or ("pipeline.py",)])


def test_imports_are_followed_through_the_project_s_own_files_also_inside_functions(tmp_path: Path) -> None:
    code = found(
        tmp_path,
        {
            "pipeline.py": "import os\nfrom lib import clean\n\ndef late():\n    from lib.deep import x\n",
            "lib/__init__.py": "import yaml\n",
            "lib/clean.py": "import numpy as np\nfrom . import more\n",
            "lib/more.py": "from sklearn.linear_model import Ridge\n",
            "lib/deep.py": "import msgspec.json\n",
            "lib/unused.py": "import pandas\n",
        },
    )
    assert code.packages == ("msgspec", "numpy", "pyyaml", "scikit-learn")
    assert code.modules == {
        "msgspec": "lib/deep.py:1",
        "numpy": "lib/clean.py:1",
        "sklearn": "lib/more.py:1",
        "yaml": "lib/__init__.py:1",
    }
    assert not code.missing


def test_what_only_a_type_checker_imports_is_not_needed(tmp_path: Path) -> None:
    text = "import typing\nfrom typing import TYPE_CHECKING\n"
    text += "if TYPE_CHECKING:\n    import pandas\nelse:\n    import yaml\n"
    text += "if typing.TYPE_CHECKING:\n    import numpy\n"
    assert found(tmp_path, {"pipeline.py": text}).packages == ("pyyaml",)


def test_what_the_code_can_do_without_is_taken_where_it_is_installed_and_not_asked_for(tmp_path: Path) -> None:
    text = "try:\n    import yaml\n    import nosuchthing\nexcept ImportError:\n    import nosuchthing2\n"
    code = found(tmp_path, {"pipeline.py": text})
    assert (code.packages, code.modules, code.missing) == (("pyyaml",), {}, {})


def test_what_is_not_installed_is_told_with_its_place(tmp_path: Path) -> None:
    code = found(tmp_path, {"pipeline.py": "def late():\n    import nosuchthing.deep\n"})
    assert code.missing == {"nosuchthing": "pipeline.py:2"}


def test_schemes_of_urls_in_the_code_are_noticed(tmp_path: Path) -> None:
    text = 'A = "s3://raw/x"\nB = ["postgresql://ml@db/x"]\nC = "see s3://… for more"\nD = "https://x"\n'
    assert found(tmp_path, {"pipeline.py": text}).schemes == ("postgresql", "s3")


def test_code_beside_the_project_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "mine.py").write_text("import yaml\n")
    monkeypatch.syspath_prepend(str(tmp_path / "beside"))
    code = found(tmp_path / "project", {"pipeline.py": "import mine\n", "penstock.toml": ""})
    assert list(code.beside) == [str(tmp_path / "beside" / "mine.py")]
    assert code.packages == ("pyyaml",)


def test_a_file_that_is_no_python_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"lib.py:2 is no valid Python"):
        found(tmp_path, {"pipeline.py": "import lib\n", "lib.py": "x = 1\ny = (\n"})


def test_tests_are_not_the_code_of_a_project() -> None:
    paths = ["a.py", "test_a.py", "tests/x.py", "sub/a_test.py", "conftest.py", "data.csv", "sub/contest.py"]
    assert python_files("/p", paths) == ["/p/a.py", "/p/sub/contest.py"]


def test_folders_that_the_interpreter_imports_from_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path.resolve())
    (tmp_path / "src").mkdir()
    monkeypatch.setattr(sys, "path", [root, "/elsewhere", f"{root}/src", f"{root}/.venv/lib/site-packages"])
    assert import_folders(root) == ("src",), "the first entry is where the program was started"
