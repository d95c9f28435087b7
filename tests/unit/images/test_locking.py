"""Which versions an image gets. The packages are those of the environment that the tests run in."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from penstock import __version__
from penstock.core.errors import ImageError, MissingExtraError
from penstock.images import Declared, Locked, Needs, locked
from penstock.images.installed import Asked, Installed


def lock(declared: Declared | None = None, **needs: object) -> Locked:
    return locked("/nowhere", declared, Needs(**needs), __version__)  # type: ignore[arg-type]


def names(lines: tuple[str, ...]) -> set[str]:
    return {line.partition("==")[0].partition(">")[0] for line in lines if not line.startswith("-")}


def test_a_package_comes_with_all_that_it_needs_and_its_extras() -> None:
    here = Installed()
    plain = here.closure([Asked("pandera")])
    assert "typeguard" in plain
    assert "pytest" not in here.closure([Asked("pandas")])
    assert "psycopg-binary" not in here.closure([Asked("psycopg")])
    assert "psycopg-binary" in here.closure([Asked("psycopg", ("binary",))])
    # asked for again, with more
    assert "psycopg-binary" in here.closure([Asked("psycopg"), Asked("psycopg", ("binary",))])


def test_without_a_lock_what_the_code_imports_is_pinned_and_that_is_said() -> None:
    found = lock(packages=("pandas",))
    assert f"pandas=={version('pandas')}" in found.requirements
    assert f"numpy=={version('numpy')}" in found.requirements
    assert all("==" in line for line in found.requirements)
    assert list(found.requirements) == sorted(found.requirements)
    assert any("the project has no lock" in note for note in found.notes)
    assert found == lock(packages=("pandas",)), "the same project, the same lines"


def test_penstock_comes_with_what_it_needs_and_never_with_tools_of_development() -> None:
    found = lock(packages=("pandas",))
    assert {"msgspec", "blake3", "cloudpickle", "fsspec", "pyyaml", "pyarrow"} <= names(found.additions)
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & (names(found.additions) | names(found.requirements))
    assert "penstock" in {wheel.name for wheel in found.wheels} | names(found.additions)


def test_a_lock_is_used_as_it_is_and_only_completed_for_penstock() -> None:
    found = lock(Declared("requirements.txt", {"msgspec": "msgspec==0.20.0"}), packages=("pandas",))
    assert "msgspec==0.20.0" in found.requirements
    assert not any(line.startswith("msgspec") for line in found.additions)
    assert "pandas" not in names(found.requirements) | names(found.additions), "the lock decides what there is"
    assert "blake3" in names(found.additions)


def test_a_lock_with_hashes_gets_no_line_without_one() -> None:
    pinned = {"pandas": "pandas==3.0 \\\n    --hash=sha256:aa"}
    found = lock(Declared("requirements.txt", pinned, hashed=True))
    assert found.requirements == ("pandas==3.0 \\\n    --hash=sha256:aa",)
    assert found.hashed
    assert found.complete
    assert "pyarrow" in names(found.additions)


def test_a_dependency_without_a_version_gets_the_one_that_is_installed_within_its_limits() -> None:
    found = lock(Declared("requirements.txt", wanted=(Asked("pandas", (), ">=2,<99"),)))
    assert f"pandas>=2,<99,=={version('pandas')}" in found.requirements
    assert f"numpy=={version('numpy')}" in found.requirements
    assert any("does not pin everything" in note for note in found.notes)


def test_a_dependency_that_is_not_installed_cannot_be_pinned() -> None:
    with pytest.raises(ImageError, match="wants 'nosuchthing'") as caught:
        lock(Declared("requirements.txt", wanted=(Asked("nosuchthing"),)))
    assert "nosuchthing==VERSION" in str(caught.value.hint)
    other_platform = Asked("nosuchthing", (), "", "sys_platform == 'win32'")
    assert "nosuchthing" not in str(lock(Declared("requirements.txt", wanted=(other_platform,))).requirements)


@pytest.mark.parametrize(("url", "package"), [("postgresql://ml@db/x", "psycopg-binary"), ("s3://bucket/x", "s3fs")])
def test_the_clients_of_the_stores_come_along_and_are_named(url: str, package: str) -> None:
    assert package not in names(lock().additions)
    found = lock(places=(("runs", url),))
    assert package in names(found.additions)
    assert any(f"(runs is at {url.partition('://')[0]}://…)" in note for note in found.notes)


def test_urls_in_the_code_bring_their_client_where_it_is_installed() -> None:
    assert "s3fs" in names(lock(schemes=("s3", "gs")).additions)


def test_a_store_whose_client_is_not_installed_is_refused_with_the_fix() -> None:
    with pytest.raises(MissingExtraError, match=r"artifacts is at gs://….*'gcsfs'") as caught:
        lock(places=(("artifacts", "gs://bucket/x"),))
    assert caught.value.hint == "pip install gcsfs"
    assert lock(Declared("requirements.txt", {"gcsfs": "gcsfs==1"}), places=(("artifacts", "gs://bucket/x"),))


def test_a_pipeline_that_registers_models_gets_mlflow() -> None:
    assert "mlflow-skinny" not in names(lock().additions)
    assert {"mlflow-skinny", "sqlalchemy", "alembic"} <= names(lock(registry=True).additions)


def test_another_penstock_in_the_lock_is_refused() -> None:
    with pytest.raises(ImageError, match=r"requirements.txt has penstock ==0.0.1, and this is penstock"):
        lock(Declared("requirements.txt", {"penstock": "penstock==0.0.1"}))
    found = lock(Declared("requirements.txt", {"penstock": f"penstock=={__version__}"}))
    assert "penstock" not in names(found.requirements)


def test_options_of_the_lock_hold_for_both_files() -> None:
    found = lock(Declared("requirements.txt", {"six": "six==1"}, options=("--pre",)))
    assert found.requirements[0] == found.additions[0] == "--pre"


def test_packages_are_complete_where_the_machine_is_of_the_image_s_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lock().complete == (sys.platform == "linux")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not lock().complete
