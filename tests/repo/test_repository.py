"""Rules of the house that no other tool holds."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import penstock
from penstock.core import errors

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "penstock"
HEAVY = (
    "pandas", "numpy", "pyarrow", "polars", "pydantic", "sqlalchemy", "fastapi", "starlette", "uvicorn", "fsspec",
    "mlflow", "sklearn", "rich", "yaml", "cloudpickle", "httpx", "psycopg",
)  # fmt: skip
PLACES = [str(path) + "/" for path in (ROOT, Path.home()) if len(path.parts) > 2 or path == Path("/root")]
MACHINE = re.compile("|".join([*map(re.escape, PLACES), r"https?://[^\s\"'`)>]+/simple\b"]))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


def tracked() -> list[Path]:
    """Files of the repository, and those that are about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def error_classes() -> list[type[errors.PenstockError]]:
    found = [errors.PenstockError]
    for kind in found:
        found += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == errors.__name__]


# -- the public surface ----------------------------------------------------------------------------------------------


def test_the_public_names_are_sorted_loadable_and_the_same_for_reader_and_type_checker() -> None:
    names = penstock.__all__
    assert names == sorted(names)
    assert set(names) == set(penstock._PLACES)
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.asname or alias.name for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(names)
    for name in names:
        assert getattr(penstock, name) is not None
        assert name in dir(penstock)
    with pytest.raises(AttributeError, match="no attribute 'stepp'"):
        _ = penstock.stepp


@pytest.mark.parametrize(
    "code",
    [
        "import penstock",
        "from penstock import step, pipeline",
        "from penstock import step, pipeline, Retry, when, optional, context, Static, Secret",
        "import penstock.wiring.runner",
    ],
)
def test_importing_penstock_loads_no_heavy_library(code: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, sep='\\n')"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split()  # fmt: skip
    assert [name for name in HEAVY if name in loaded] == []


def test_the_core_has_at_most_ten_direct_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= 10


# -- rooms and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", sorted(path.parent.name for path in SOURCE.glob("*/__init__.py")))
def test_every_room_says_at_its_door_what_it_is(room: str) -> None:
    door = importlib.import_module(f"penstock.{room}").__doc__ or ""
    assert door.startswith(f"{room}: "), f"write: {room}: what it is, what it may know, what it never does"
    assert 3 <= len(door.strip().splitlines()) <= 10


def test_no_room_hides_a_public_name() -> None:
    """Python binds a subpackage over the name of the same spelling, as soon as anything imports it."""
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} & set(penstock.__all__) == set()


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [str(path) for path in python_files() if path.stem in FORBIDDEN_NAMES] == []


def test_no_python_file_is_too_long_to_read() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()
    }
    limit = {name: 600 if name.startswith("src/") else 1000 for name in lengths}
    assert {name: length for name, length in lengths.items() if length > limit[name]} == {}


def test_no_file_names_a_path_of_somebodys_machine_or_a_package_registry() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path == Path(__file__):
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE.finditer(text)]
    assert found == []


def test_the_layers_named_in_the_contract_are_the_rooms_that_exist() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(each for each in contracts if each["type"] == "layers")["layers"]
    named = {name.strip().removeprefix("penstock.") for layer in layers for name in layer.split("|")}
    assert named == {path.parent.name for path in SOURCE.glob("*/__init__.py")}


# -- errors ----------------------------------------------------------------------------------------------------------


def test_every_error_class_has_a_code_of_its_own_and_is_in_the_drawn_tree() -> None:
    kinds = error_classes()
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    drawn = re.findall(r"^[│├└─ ]*(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(kind.__name__ for kind in kinds)


def test_the_drawn_tree_has_every_class_below_its_parent() -> None:
    parents: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([│├└─ ]*)(\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        parents = [each for each in parents if each[0] < depth]
        kind = getattr(errors, match[2])
        if parents:
            assert parents[-1][1] in {base.__name__ for base in kind.__bases__}, match[2]
        parents.append((depth, match[2]))


def test_every_error_survives_pickle_and_json_with_all_that_it_says() -> None:
    import json
    import pickle

    from penstock.core.location import Location

    for kind in error_classes():
        error = kind("what", hint="do", where=Location("f.py", 3))
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert str(again) == str(error) == "f.py:3: what\n  hint: do"
        assert json.loads(json.dumps(error.as_record()))["code"] == kind.code


def test_every_error_code_is_documented_under_an_anchor() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    anchors = {heading.strip(" `") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    anchors |= set(re.findall(r'(?:id|name)="([\w-]+)"', text)) | set(re.findall(r"\{#([\w-]+)\}", text))
    assert {kind.code for kind in error_classes()} <= anchors
