"""What a run's record becomes when it is put back: a lock of exact versions, and files that are what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.core.canonical import digest_bytes
from penstock.core.errors import NotReproducibleError
from penstock.ports.records import CodePart, RunRecord
from penstock.wiring.config import Settings
from penstock.wiring.environments import lock_of
from penstock.wiring.project import Project
from penstock.wiring.recorded import restore


def locked(packages: dict[str, str], root: str = "/project", **origins: dict[str, Any]) -> Any:
    return lock_of({"python": "3.12.1", "packages": packages, "origins": origins}, root)


def test_every_package_of_an_index_is_locked_at_its_exact_version() -> None:
    lock = locked({"pandas": "2.2.0", "numpy": "2.0.1", "penstock": "0.1.0"})
    assert lock.lines == ("numpy==2.0.1", "pandas==2.2.0", "penstock==0.1.0")
    assert (lock.python, lock.own_penstock, lock.notes) == ("3.12.1", False, ())


def test_a_package_of_a_repository_is_locked_at_its_commit() -> None:
    lock = locked({"tool": "1.0", "penstock": "1"}, tool={"url": "https://a.b/tool", "vcs": "git", "commit": "c0ffee"})
    assert lock.lines == ("penstock==1", "tool @ git+https://a.b/tool@c0ffee")


def test_what_was_installed_from_a_folder_is_said_to_be_as_it_is_now_or_gone(tmp_path: Path) -> None:
    origin = {"url": f"file://{tmp_path}", "editable": True, "folder": True}
    lock = locked({"mine": "1.0", "penstock": "1"}, mine=origin)
    assert lock.lines == (f"-e {tmp_path}", "penstock==1")
    assert "installed from there as it is now" in lock.notes[0]
    gone = locked({"mine": "1.0", "penstock": "1"}, mine=origin | {"url": f"file://{tmp_path}/gone"})
    assert gone.lines == ("penstock==1",)
    assert "left out" in gone.notes[0]
    # The project itself: the run recorded its files.
    own = locked({"mine": "1.0", "penstock": "1"}, root=str(tmp_path), mine=origin)
    assert (own.lines, own.notes) == (("penstock==1",), ())


def test_a_penstock_that_was_never_released_is_not_asked_for_by_name() -> None:
    for lock in (
        locked({"numpy": "1"}),
        locked({"numpy": "1", "penstock": "0.1.0"}, penstock={"url": "file:///src", "editable": True, "folder": True}),
    ):
        assert lock.lines == ("numpy==1",)
        assert lock.own_penstock
        assert "the one that runs now is used" in lock.notes[0]


def test_the_same_lock_is_the_same_environment_and_another_version_is_another() -> None:
    digests = {locked({"a": version, "penstock": "1"}).digest for version in ("1", "1", "2")}
    assert len(digests) == 2


# -- files -------------------------------------------------------------------------------------------------------------


def part(name: str, content: str, *, kept: bool = True) -> CodePart:
    return CodePart(name, digest_bytes(content.encode()), content if kept else "")


def recorded(project: Project, *parts: CodePart, **code: Any) -> RunRecord:
    project.store.put_code("ab" * 32, parts, {})
    return RunRecord(
        id="r-1",
        pipeline="p",
        project="p",
        manifest="",
        parameters={},
        created_at=0,
        code={"sources": "ab" * 32, **code},
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "root").mkdir()
    return Project(Settings(root=str(tmp_path / "root"), home=str(tmp_path / "home"), runs="memory:"))


def test_recorded_files_come_back_and_data_is_what_lies_there_now(project: Project, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "pkg").mkdir()
    (root / "pkg" / "orders.csv").write_text("now")
    (root / "flow.py").write_text("now")
    (root / "unrelated.py").write_text("now")
    (root / "penstock.toml").write_text("seed = 3")
    made = restore(project, recorded(project, part("flow.py", "then"), part("pkg/a.py", "")), tmp_path / "into")
    into = tmp_path / "into"
    assert (into / "flow.py").read_text() == "then"
    assert (into / "pkg" / "a.py").read_text() == ""
    assert (into / "pkg" / "orders.csv").read_text() == "now"
    assert not (into / "unrelated.py").exists()
    assert (into / "penstock.toml").read_text() == ""  # settings come with the experiment
    assert (made.root, made.path, made.folder) == (str(into), (str(into),), str(into))
    assert (root / "flow.py").read_text() == "now"


def test_a_file_of_which_only_the_digest_was_kept_is_taken_from_where_it_is_while_it_is_the_same(
    project: Project, tmp_path: Path
) -> None:
    secret = tmp_path / "root" / "my_secrets.py"
    secret.write_text("KEY = 1")
    record = recorded(project, part("my_secrets.py", "KEY = 1", kept=False))
    restore(project, record, tmp_path / "into")
    assert (tmp_path / "into" / "my_secrets.py").read_text() == "KEY = 1"
    secret.write_text("KEY = 2")
    with pytest.raises(NotReproducibleError, match=r"my_secrets\.py is not what it was"):
        restore(project, record, tmp_path / "into")


def test_a_record_that_names_a_file_outside_the_project_is_refused(project: Project, tmp_path: Path) -> None:
    record = recorded(project, part("../evil.py", "x"))
    with pytest.raises(NotReproducibleError, match="outside its project"):
        restore(project, record, tmp_path / "into")
    assert not (tmp_path / "evil.py").exists()


def test_a_copy_in_the_run_log_that_was_altered_is_refused(project: Project, tmp_path: Path) -> None:
    record = recorded(project, CodePart("flow.py", digest_bytes(b"then"), "forged"))
    with pytest.raises(NotReproducibleError, match="is not what run r-1 put there"):
        restore(project, record, tmp_path / "into")


def test_a_commit_that_is_gone_is_said(project: Project, tmp_path: Path) -> None:
    record = recorded(project, part("flow.py", "then"), git={"commit": "0" * 40})
    made = restore(project, record, tmp_path / "into")
    assert "no longer in git" in made.notes[0]
    bare = RunRecord(
        id="r-1",
        pipeline="p",
        project="p",
        manifest="",
        parameters={},
        created_at=0,
        code={"git": {"commit": "0" * 40}},
    )
    with pytest.raises(NotReproducibleError, match="commit 000000000000 is no longer in git"):
        restore(project, bare, tmp_path / "into")
