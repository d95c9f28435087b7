"""A Path inside a stored value: kept by content where something is there, by name where nothing is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pytest

from penstock.core.errors import ArtifactError
from penstock.core.jsonvalue import dumps, loads
from penstock.stores.artifacts import ArtifactStore
from penstock.stores.blobs import open_blobs


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(lambda: open_blobs(str(tmp_path / "store"), home=tmp_path / "home"))


@dataclass
class Report:
    page: Path
    rows: int


class Odd:
    pass


def a_file(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("wrap", [lambda p: [p], lambda p: {"page": p}, lambda p: (1, [p]), lambda p: Report(p, 3)])
def test_a_file_inside_a_container_outlives_its_original(store: ArtifactStore, tmp_path: Path, wrap: Any) -> None:
    page = a_file(tmp_path, "page.txt", "first")
    ref = store.save(wrap(page))
    page.unlink()
    held = loads(dumps(store.load(ref)))
    while not isinstance(held, Path):
        held = held.page if isinstance(held, Report) else list(held.values() if isinstance(held, dict) else held)[-1]
    assert (held.name, held.read_text()) == ("page.txt", "first")
    assert held != page


def test_other_content_under_the_same_name_is_another_value(store: ArtifactStore, tmp_path: Path) -> None:
    page = a_file(tmp_path, "page.txt", "first")
    first = store.save([page])
    page.write_text("other")
    assert store.save([page]).digest != first.digest
    assert store.save([a_file(tmp_path / "elsewhere", "page.txt", "first")]).digest == first.digest


def test_folders_sets_and_tables_beside_files_come_back(store: ArtifactStore, tmp_path: Path) -> None:
    files = {a_file(tmp_path / "in", f"{name}.txt", name) for name in "abcde"}
    (tmp_path / "in" / "empty").mkdir()
    table = pd.DataFrame({"x": [1, 2]})
    ref = store.save({"files": files, "folder": tmp_path / "in", "table": table, "name": Path("not/there")})
    found = store.load(ref)
    assert {path.read_text() for path in found["files"]} == set("abcde")
    assert sorted(path.name for path in found["folder"].iterdir()) == [*(f"{x}.txt" for x in "abcde"), "empty"]
    pd.testing.assert_frame_equal(found["table"], table)
    assert found["name"] == Path("not/there")
    again = {a_file(tmp_path / "two", f"{name}.txt", name) for name in "edcba"}
    assert store.save(files).digest == store.save(again).digest


def test_a_path_where_nothing_is_and_a_pure_path_stay_names(store: ArtifactStore, tmp_path: Path) -> None:
    value = [tmp_path / "nothing", PurePosixPath(tmp_path)]
    ref = store.save(value)
    assert ref.inline is not None
    assert store.load(ref) == value


def test_a_parameter_that_is_a_path_is_its_name(tmp_path: Path) -> None:
    assert loads(dumps(tmp_path), Path) == tmp_path


def test_a_container_that_needs_a_pickle_does_not_keep_a_name_in_silence(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="kept by name only"):
        store.save([a_file(tmp_path, "page.txt", "first"), Odd()])


def test_the_folder_of_the_store_is_not_stored_in_itself(store: ArtifactStore, tmp_path: Path) -> None:
    for value in (tmp_path, [tmp_path]):
        with pytest.raises(ArtifactError, match="holds the artifact store itself"):
            store.save(value)
