"""The record of a run's surroundings: what it says, and that it never gets in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from penstock.engine.environment import canonical_name, environment, git_record, package_versions

AUTHOR = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(root: Path, *words: str) -> str:
    environ = {**os.environ, **AUTHOR, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True, env=environ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("A = 1\nB = 2\n")
    (tmp_path / "b.py").write_text("C = 3\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_the_environment_names_python_platform_and_packages() -> None:
    found = environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["implementation"] == "cpython"
    assert found["platform"] == sys.platform
    assert found["packages"]["msgspec"] == metadata.version("msgspec")


def test_every_installed_version_is_what_its_metadata_says() -> None:
    listed = package_versions()
    for each in metadata.distributions():
        assert canonical_name(each.metadata["Name"]) in listed
    for name in ("rich", "pyyaml", "blake3", "pytest"):
        assert listed[name] == metadata.version(name)


def test_no_value_of_an_environment_variable_is_recorded(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_TOKEN", "s3cr3t-value")
    (repository / ".env").write_text("TOKEN=s3cr3t-value\n")
    (repository / "a.py").write_text("A = 9\n")
    git(repository, "add", "-f", ".env")
    record = git_record(repository)
    assert "s3cr3t-value" not in f"{environment()}{record}"
    assert ".env" in record["text"]
    assert "+A = 9" in record["text"]


def test_a_clean_checkout_has_its_commit_and_branch(repository: Path) -> None:
    record = git_record(repository)
    assert record == {
        "commit": git(repository, "rev-parse", "HEAD").strip(),
        "branch": "main",
        "dirty": False,
        "untracked": 0,
    }
    (repository / "deep").mkdir()
    assert git_record(repository / "deep") == record


def test_the_difference_is_kept_as_git_shows_it(repository: Path) -> None:
    (repository / "a.py").write_text("A = 1\nB = 20\n")
    record = git_record(repository)
    assert record["dirty"] is True
    assert record["text"].startswith("diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ ")
    assert record["text"].endswith("-B = 2\n+B = 20\n")


def test_staging_a_change_does_not_change_its_digest(repository: Path) -> None:
    (repository / "a.py").write_text("A = 1\nB = 20\n")
    (repository / "b.py").write_text("C = 30\n" + "-" * 49 + "\n")
    (repository / "c.py").write_text("new\n")
    git(repository, "add", "-N", "c.py")
    unstaged = git_record(repository)
    git(repository, "add", "b.py")
    assert git_record(repository)["digest"] == unstaged["digest"]
    git(repository, "add", ".")
    assert git_record(repository)["digest"] == unstaged["digest"]
    (repository / "b.py").write_text("C = 31\n")
    assert git_record(repository)["digest"] != unstaged["digest"]


def test_a_changed_binary_file_changes_the_digest(repository: Path) -> None:
    (repository / "model.bin").write_bytes(b"\x00\x01")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "binary")
    digests = set()
    for content in (b"\x00\x02", b"\x00\x03"):
        (repository / "model.bin").write_bytes(content)
        digests.add(git_record(repository)["digest"])
        git(repository, "add", ".")
        digests.add(git_record(repository)["digest"])
        git(repository, "reset", "-q")
    assert len(digests) == 2


def test_untracked_files_are_counted_and_ignored_ones_are_not(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.log\n")
    (repository / "x.log").write_text("")
    (repository / "new one.py").write_text("")
    record = git_record(repository)
    assert record["untracked"] == 2
    assert record["dirty"] is False


def test_a_packed_ref_a_detached_head_and_a_worktree_have_their_commit(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "pack-refs", "--all")
    assert git_record(repository)["commit"] == commit
    git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "tree"))
    record = git_record(tmp_path / "tree")
    assert (record["branch"], record["commit"]) == ("side", commit)
    git(repository, "checkout", "-q", "--detach")
    record = git_record(repository)
    assert (record["branch"], record["commit"]) == (None, commit)


def test_a_checkout_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    record = git_record(tmp_path)
    assert (record["branch"], record["commit"]) == ("main", None)


def test_a_long_difference_is_cut_and_still_digested(repository: Path) -> None:
    (repository / "a.py").write_text("x = 'é'\n" * 200_000 + "A = 1\n")
    first = git_record(repository)
    assert len(first["text"].encode()) <= 1 << 20
    assert first["truncated"] is True
    (repository / "a.py").write_text("x = 'é'\n" * 200_000 + "A = 2\n")
    assert git_record(repository)["digest"] != first["digest"]


@pytest.mark.parametrize("damage", ["no repository", "no HEAD", "a bad pointer", "no git"])
def test_whatever_is_missing_no_error_comes_of_it(
    tmp_path: Path, repository: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "no git":
        monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
        assert set(git_record(repository)) == {"commit", "branch"}
        return
    if damage == "no repository":
        root = Path(repository.anchor)
    elif damage == "no HEAD":
        (repository / ".git" / "HEAD").unlink()
        root = repository
    else:
        root = tmp_path / "linked"
        root.mkdir()
        (root / ".git").write_text("gitdir: /nowhere/at/all\n")
    assert git_record(root) == {}


def test_the_kept_difference_holds_no_secret_of_a_tracked_file_and_the_digest_is_of_all_of_it(repository: Path) -> None:
    secret = "hunter-{}-zz".format
    lines = [
        f'PASSWORD = "{secret(1)}"',
        f'db_password: str = "{secret(2)}"',
        f"  api-key: {secret(3)}",
        f"""os.environ["APP_TOKEN"] = '{secret(4)}'""",
        "secret = (",
        f'    "{secret(5)}"',
        ")",
        f'url = "postgresql://me:{secret(6)}@db/x"',
        'aws = "AKIAIOSFODNN7EXAMPLE"',
        "-----BEGIN RSA PRIVATE KEY-----",
        secret(7),
        "-----END RSA PRIVATE KEY-----",
        "tokenizer = Tokenizer(lower=True)",
        "if password == given: pass",
    ]
    (repository / "a.py").write_text("\n".join(lines) + "\n")
    first = git_record(repository)
    assert "hunter-" not in first["text"]
    assert "AKIAIOSFODNN7EXAMPLE" not in first["text"]
    assert "+tokenizer = Tokenizer(lower=True)" in first["text"]
    assert "+if password == given: pass" in first["text"]
    (repository / "a.py").write_text("\n".join(lines).replace("hunter-1", "hunter-8") + "\n")
    second = git_record(repository)
    assert second["text"] == first["text"]
    assert second["digest"] != first["digest"]
