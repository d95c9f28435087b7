"""Settings: the file, then the environment, then flags; mistakes say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.core.errors import ConfigError
from penstock.core.location import Location
from penstock.graph import Graph, Node, StepOptions
from penstock.wiring.config import Settings, check_pools, load_settings
from penstock.wiring.manifest import read_manifest, write_manifest
from penstock.wiring.project import Project


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKERS", "RUNS", "ARTIFACTS", "TRACKING", "HOME", "PROFILE", "DURABILITY", "SEED", "ROOT", "POOLS"):
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


def test_pools_are_numbers_by_name_and_later_ones_win_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[pools]\ngpu = 1\nio = 8\n[profiles.prod.pools]\ngpu = 4\n"
    assert settings(tmp_path, text).pools == {"gpu": 1, "io": 8}
    assert settings(tmp_path, text, profile="prod").pools == {"gpu": 4, "io": 8}
    monkeypatch.setenv("PENSTOCK_POOLS", "gpu=2,tape=1")
    assert settings(tmp_path, text, profile="prod").pools == {"gpu": 2, "io": 8, "tape": 1}


@pytest.mark.parametrize(
    "text", ["[pools]\ngpu = 0\n", "[pools]\ngpu = 'one'\n", "[pools]\ngpu = true\n", "pools = 3\n"]
)
def test_a_pool_has_at_least_one_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"pool 'gpu' has .* places\n.*from 1 up|'pools' is 3, but it takes numbers"):
        settings(tmp_path, text)


@pytest.mark.parametrize("text", ["gpu", "gpu=x", "gpu=1=2", "gpu=0"])
def test_a_mistake_in_the_variable_for_pools_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PENSTOCK_POOLS", text)
    with pytest.raises(ConfigError, match=r"POOLS is|pool .gpu. has 0"):
        settings(tmp_path)


def test_a_pool_that_no_setting_knows_is_an_error_with_the_line_to_write(tmp_path: Path) -> None:
    node = Node("fit", "p.py:fit", options=StepOptions(pool="gpus"), where=Location("p.py", 7))
    graph = Graph("p", "p.py:p", (node,))
    with pytest.raises(ConfigError) as caught:
        check_pools(graph, settings(tmp_path, "[pools]\ngpu = 1\n"))
    told = str(caught.value)
    assert told.startswith("p.py:7: step 'fit' needs a place of pool 'gpus'")
    assert "did you mean 'gpu'?" in told
    assert "[pools] gpus = 1" in told
    check_pools(graph, settings(tmp_path, "[pools]\ngpus = 1\n"))


def test_a_manifest_carries_the_pools_to_other_processes(tmp_path: Path) -> None:
    found = settings(tmp_path, "[pools]\ngpu = 3\n")
    path = write_manifest(found, Graph("p", "p.py:p"), tmp_path / "m.json")
    assert read_manifest(str(path)).settings.pools == {"gpu": 3}
