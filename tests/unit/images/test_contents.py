"""What goes into an image, and what never does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.core.errors import ImageError
from penstock.images import contents, contents_of
from penstock.images.contents import NEVER, copy_contents


def project(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root.resolve())


def names(root: str) -> list[str]:
    return [file.path for file in contents_of(root).files]


def test_what_is_no_part_of_the_code_is_never_copied_at_any_depth(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        {"pipeline.py": "", "lib/a.py": "", **{f"{name}/x.py": "" for name in NEVER}}
        | {f"lib/{name}/x.py": "" for name in NEVER}
        | {"envs/mine/pyvenv.cfg": "", "envs/mine/bin/tool.py": "", "lib/a.pyc": ""},
    )
    assert names(root) == ["lib/a.py", "pipeline.py"]


def test_stores_inside_the_project_stay_out(tmp_path: Path) -> None:
    root = project(tmp_path, {"pipeline.py": "", "kept/blob": "", "runs.db": ""})
    found = contents_of(root, [f"{root}/kept", f"{root}/runs.db"])
    assert [file.path for file in found.files] == ["pipeline.py"]


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.prod",
        "conf/prod.env",
        "ca.pem",
        "server.key",
        "home/.netrc",
        "secrets/token",
        ".ssh/config",
        "id_ed25519",
        "service-account-7.json",
        "my_secrets.yaml",
        "credentials.json",
        ".pypirc",
    ],
)
def test_a_file_whose_name_says_secret_is_refused_by_name_with_the_fix(tmp_path: Path, name: str) -> None:
    root = project(tmp_path, {"pipeline.py": "", name: "x"})
    with pytest.raises(ImageError) as caught:
        contents_of(root)
    assert name in caught.value.problem
    assert f"'{name}' in .dockerignore" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pipeline.py", 'KEY = """\n-----BEGIN RSA PRIVATE KEY-----\nabc\n"""'),
        ("notes.md", "x\nghp_" + "a" * 36),
        ("penstock.toml", 'x = 1\nruns = "postgresql://ml:tops3cret@db/penstock"'),
        ("conf/settings.yaml", "a: 1\nurl: redis://:tops3cret@host/0"),
    ],
)
def test_a_secret_written_in_a_file_is_refused_with_its_line_and_not_repeated(
    tmp_path: Path, name: str, text: str
) -> None:
    root = project(tmp_path, {"a.py": "", name: text})
    with pytest.raises(ImageError, match=f"{name}: line 2 ") as caught:
        contents_of(root)
    for secret in ("tops3cret", "ghp_", "abc"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env.example", "TOKEN="),
        ("penstock.toml", 'runs = "postgresql://ml@db/penstock"'),
        ("compose.yaml", "url: postgresql://ml:${PASSWORD}@db/x"),
        ("tokens.py", "def count(tokens): return len(tokens)"),
        ("test_db.py", 'URL = "postgresql://user:password@localhost/db"'),
        ("secretary.py", ""),
    ],
)
def test_what_only_resembles_a_secret_is_copied(tmp_path: Path, name: str, text: str) -> None:
    assert name in names(project(tmp_path, {name: text}))


def test_every_suspect_is_told_at_once(tmp_path: Path) -> None:
    root = project(tmp_path, {".env": "x", "a/b.pem": "x", "c.key": "x"})
    with pytest.raises(ImageError, match="3 files that look like secrets") as caught:
        contents_of(root)
    assert all(name in caught.value.problem for name in (".env", "a/b.pem", "c.key"))


def test_dockerignore_leaves_out_and_says_what_is_no_secret(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        {".env": "x", "certs/ca.pem": "public", "data/big.csv": "1", "data/small.csv": "1", "pipeline.py": ""}
        | {".dockerignore": "# mine\n.env\ndata\n!data/small.csv\n!certs/ca.pem\n"},
    )
    found = contents_of(root)
    assert [file.path for file in found.files] == [".dockerignore", "certs/ca.pem", "data/small.csv", "pipeline.py"]
    assert found.asked_for == ("certs/ca.pem",)


def test_large_files_are_copied_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LARGE_BYTES", 100)
    root = project(tmp_path, {"pipeline.py": "", "data/orders.csv": "x" * 101})
    found = contents_of(root)
    assert "data/orders.csv" in [file.path for file in found.files]
    assert any("data/orders.csv (101 B)" in note and ".dockerignore" in note for note in found.notes)


def test_a_link_inside_the_project_stays_a_link_and_one_that_leads_out_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root = project(tmp_path / "project", {"data/a.csv": "1", "sub/x.py": ""})
    os.symlink(f"{root}/data/a.csv", f"{root}/sub/a.csv")
    os.symlink(tmp_path / "elsewhere", f"{root}/out")
    found = contents_of(root)
    assert {file.path: file.link for file in found.files if file.link} == {"sub/a.csv": "../data/a.csv"}
    assert any("lead out of the project" in note and "out" in note for note in found.notes)


def test_copies_can_be_read_by_any_user_and_keep_their_time(tmp_path: Path) -> None:
    root = project(tmp_path / "project", {"pipeline.py": "x", "run.sh": "y"})
    os.chmod(f"{root}/pipeline.py", 0o600)
    os.chmod(f"{root}/run.sh", 0o700)
    os.utime(f"{root}/pipeline.py", (1_000_000_000, 1_000_000_000))
    before = os.umask(0o077)
    try:
        copy_contents(contents_of(root), tmp_path / "copy")
    finally:
        os.umask(before)
    copy = tmp_path / "copy"
    assert [oct((copy / name).stat().st_mode & 0o777) for name in ("pipeline.py", "run.sh", ".")] == [
        "0o644",
        "0o755",
        "0o755",
    ]
    assert (copy / "pipeline.py").stat().st_mtime == 1_000_000_000


def test_a_broken_or_looping_link_does_no_harm(tmp_path: Path) -> None:
    root = project(tmp_path / "project", {"pipeline.py": ""})
    os.symlink("loop", f"{root}/loop")
    os.symlink("nowhere.csv", f"{root}/broken")
    assert "pipeline.py" in names(root)
