"""Settings: the file, then the environment, then flags; mistakes say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.core.errors import ConfigError
from penstock.graph import Graph
from penstock.wiring.config import Settings, load_settings
from penstock.wiring.manifest import read_manifest, write_manifest
from penstock.wiring.project import Project


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKERS", "RUNS", "ARTIFACTS", "TRACKING", "HOME", "PROFILE", "DURABILITY", "SEED", "ROOT"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)


def settings(root: Path, text: str = "", file: str = "penstock.toml", **options: object) -> Settings:
    (root / file).write_text(text)
    return load_settings(str(root), **options)  # type: ignore[arg-type]


def test_with_no_file_everything_is_beside_the_code(tmp_path: Path) -> None:
    found = load_settings(str(tmp_path))
    assert found.home == f"{tmp_path}/.penstock"
    assert found.runs_url == f"sqlite:///{tmp_path}/.penstock/runs.db"


def test_later_wins_file_profile_environment_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "workers = 1\nseed = 5\n[profiles.prod]\nworkers = 2\n"
    assert settings(tmp_path, text).workers == 1
    assert settings(tmp_path, text, profile="prod").workers == 2
    assert settings(tmp_path, text, profile="prod").seed == 5
    monkeypatch.setenv("PENSTOCK_PROFILE", "prod")
    assert settings(tmp_path, text).workers == 2
    monkeypatch.setenv("PENSTOCK_WORKERS", "3")
    assert settings(tmp_path, text).workers == 3
    assert settings(tmp_path, text, workers=4).workers == 4


def test_pyproject_serves_where_there_is_no_file_of_our_own(tmp_path: Path) -> None:
    assert settings(tmp_path, "[tool.penstock]\nworkers = 7\n", "pyproject.toml").workers == 7
    assert settings(tmp_path, "workers = 8\n").workers == 8


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("workers = \n", {}, "is not valid TOML"),
        ("wrokers = 2\n", {}, "penstock.toml: unknown setting 'wrokers'\n  hint: did you mean 'workers'?"),
        ("workers = 'many'\n", {}, "'workers' is 'many', but it takes a number, ray, ray:N"),
        ("workers = true\n", {}, "'workers' is True"),
        ("workers = -1\n", {}, "workers is -1"),
        ("seed = -1\n", {}, "seed is -1\n  hint: write a number from 0 to 4294967295"),
        ("seed = 4294967296\n", {}, "seed is 4294967296"),
        ("seed = 99999999999999999999999\n", {}, "seed is 99999999999999999999999"),
        ("durability = 'none'\n", {}, "durability is 'none'"),
        ("profiles = 3\n", {}, "'profiles' is not a table"),
        ("[profiles]\nprod = 3\n", {"profile": "prod"}, "'profiles.prod' is not a table"),
        ("[profiles.prod]\nrun = ''\n", {"profile": "prod"}, "[profiles.prod]: unknown setting 'run'"),
        ("[profiles.prod]\n", {"profile": "prd"}, "no profile 'prd'\n  hint: did you mean 'prod'?"),
        ("", {"profile": "prod"}, "no profile 'prod'"),
    ],
)
def test_a_mistake_in_the_file_names_place_value_and_fix(
    tmp_path: Path, text: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, text, **options)
    assert message in str(caught.value)


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_WORKERS", "many")
    with pytest.raises(ConfigError, match="PENSTOCK_WORKERS is 'many'"):
        load_settings(str(tmp_path))


def test_the_largest_seed_is_a_seed_and_the_environment_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(tmp_path, "seed = 4294967295\n").seed == 2**32 - 1
    monkeypatch.setenv("PENSTOCK_SEED", "-1")
    with pytest.raises(ConfigError, match="seed is -1"):
        load_settings(str(tmp_path))


@pytest.mark.parametrize("name", ["../runs.db", "a/b", "", ".", "1A", "TÖKEN"])
def test_a_secrets_name_is_no_path(tmp_path: Path, name: str) -> None:
    secret = Project(load_settings(str(tmp_path))).services(Graph("p", "p.py:p")).secret
    with pytest.raises(ConfigError, match="cannot be a secret's name"):
        secret(name)


def test_a_tool_table_that_is_none_is_an_error_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        settings(tmp_path, "[tool]\npenstock = 3\n", "pyproject.toml")


def test_a_manifest_holds_no_password_and_comes_back(tmp_path: Path) -> None:
    there = Settings(
        root=str(tmp_path), home=str(tmp_path), runs="postgresql://ml:hush@db/x", artifacts="s3://key:hush@bucket/a"
    )
    path = write_manifest(there, Graph("p", "p.py:p"), tmp_path / "m" / "run.json")
    assert "hush" not in path.read_text()
    found = read_manifest(f"file://{path}")
    assert (found.settings.runs, found.graph.pipeline) == ("postgresql://ml@db/x", "p")
