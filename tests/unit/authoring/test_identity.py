"""A step is its project-relative file and qualified name, however its file came to be loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.authoring import identity
from penstock.authoring.loader import FileLoader
from penstock.core.errors import DefinitionError, UsageError

STEP = "from penstock import pipeline, step\n\n@step\ndef one() -> int:\n    return {value}\n"
PIPELINE = STEP + "\n@pipeline\ndef ones() -> int:\n    return one()\n"


def test_a_target_is_relative_to_the_project_whatever_the_working_directory(
    user_file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = user_file(PIPELINE.format(value=1), "flows/churn.py")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    traced = module.ones.trace()
    assert traced.graph.target == "flows/churn.py:ones"
    assert traced.graph.node("one").target == "flows/churn.py:one"
    assert traced.root == str(tmp_path)


def test_a_file_moved_into_a_package_keeps_working_under_its_dotted_name(user_file: Any, tmp_path: Path) -> None:
    user_file("", "shop/__init__.py", load=False)
    user_file("LIMIT = 3\n", "shop/limits.py", load=False)
    module = user_file("from .limits import LIMIT\n" + PIPELINE.format(value="LIMIT"), "shop/flows.py")
    assert module.__name__ == "shop.flows"
    assert sys.modules["shop"].flows is module  # type: ignore[attr-defined]
    assert module.ones.trace().graph.target == "shop/flows.py:ones"
    assert FileLoader(str(tmp_path)).load("shop/flows.py:one").fn() == 3


def test_a_package_that_imports_its_own_file_has_it_once(user_file: Any, tmp_path: Path) -> None:
    user_file("from .flows import one\n", "shop/__init__.py", load=False)
    module = user_file(PIPELINE.format(value=1), "shop/flows.py")
    assert sys.modules["shop"].one is module.one  # type: ignore[attr-defined]
    assert identity.load_file(str(tmp_path / "shop" / "__init__.py")) is sys.modules["shop"]


def test_two_files_with_the_same_name_are_two_modules_and_both_are_found_again(user_file: Any, tmp_path: Path) -> None:
    first = user_file(STEP.format(value=1), "a/steps.py")
    second = user_file(STEP.format(value=2), "b/steps.py")
    third = user_file(STEP.format(value=3), "c/steps.py")
    assert len({first.__name__, second.__name__, third.__name__}) == 3
    loader = FileLoader(str(tmp_path))
    assert [loader.load(f"{folder}/steps.py:one").fn() for folder in "abc"] == [1, 2, 3]
    assert identity.load_file(str(tmp_path / "b" / "steps.py")) is second


def test_a_file_named_like_a_module_of_python_leaves_that_module_alone(user_file: Any, tmp_path: Path) -> None:
    import json

    module = user_file(PIPELINE.format(value=1), "json.py")
    assert sys.modules["json"] is json
    assert module.ones.trace().graph.node("one").target == "json.py:one"
    assert FileLoader(str(tmp_path)).load("json.py:one").fn() == 1


def test_a_name_that_is_no_identifier_is_loaded_too(user_file: Any) -> None:
    assert user_file(PIPELINE.format(value=1), "churn.v2-final.py").ones.trace().graph.pipeline == "ones"


def test_a_running_file_is_known_by_its_name_and_loaded_once(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").touch()
    (tmp_path / "hello.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom penstock import pipeline, step\n"
        "with open(Path(__file__).parent / 'loads', 'a') as log:\n    log.write(__name__ + '\\n')\n"
        "class Mine: ...\n"
        "@step\ndef one() -> int:\n    return 1\n"
        "@pipeline\ndef ones() -> int:\n    return one()\n"
        "if __name__ == '__main__':\n"
        "    from penstock.authoring.loader import FileLoader\n"
        "    traced = ones.trace()\n"
        "    found = FileLoader(traced.root, traced.graph.target).load(traced.graph.nodes[0].target)\n"
        "    import hello\n"
        "    print(traced.graph.target, found.fn is one.fn, hello.Mine is Mine, Mine.__module__)\n"
    )
    ran = subprocess.run(
        [sys.executable, "hello.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.split() == ["hello.py:ones", "True", "True", "hello"]
    assert (tmp_path / "loads").read_text().split() == ["__main__"]


NOTEBOOK = """
from penstock import pipeline, step

offset = 2

@step
def one() -> int:
    return 1 + offset

@pipeline
def ones() -> int:
    return one()
"""


def notebook(source: str = NOTEBOOK) -> ModuleType:
    """A module as a notebook has it: code that is in no file."""
    module = ModuleType("cell")
    exec(compile(source, "<cell 1>", "exec"), module.__dict__)
    return module


def test_functions_of_a_notebook_travel_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = notebook()
    traced = module.ones.trace()
    target = traced.graph.node("one").target
    assert target == "<notebook>:one"
    assert traced.functions == {target: module.one.fn}
    assert FileLoader(str(tmp_path), functions=traced.functions).load(target).fn() == 3
    with pytest.raises(DefinitionError, match="lives in a notebook") as caught:
        FileLoader(str(tmp_path)).load(target)
    assert "move the function to a .py file" in str(caught.value)


def test_two_functions_of_a_notebook_with_one_name_are_told_apart_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = notebook(
        "from penstock import pipeline, step\n"
        "a = step(lambda: 1).named('a')\nb = step(lambda: 2).named('b')\n"
        "@pipeline\ndef both() -> None:\n    a()\n    b()\n"
    )
    with pytest.raises(DefinitionError, match="two different functions are named"):
        module.both.trace()


def test_what_a_target_names_must_be_there_and_be_a_step(user_file: Any, tmp_path: Path) -> None:
    user_file(PIPELINE.format(value=1) + "\ndef plain(): ...\n")
    loader = FileLoader(str(tmp_path))
    with pytest.raises(DefinitionError, match="is a function, not a step"):
        loader.load("churn.py:plain")
    with pytest.raises(DefinitionError, match="did you mean 'one' or 'ones'"):
        loader.load("churn.py:onse")
    with pytest.raises(UsageError, match="there is no file") as caught:
        loader.load("chrun.py:one")
    assert "did you mean 'churn.py'" in str(caught.value)


def test_a_file_that_fails_to_import_is_not_left_half_loaded(user_file: Any, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            user_file("1 / 0\n", "broken.py")
    assert "broken" not in sys.modules


def test_the_project_is_the_nearest_marked_folder_and_else_the_files_own(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").touch()
    assert identity.project_root(str(inner / "f.py")) == str(tmp_path / "a")
