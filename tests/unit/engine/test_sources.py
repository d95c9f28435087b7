"""The files that a run records: all that it needs to be imported again, byte for byte."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.core.canonical import digest_bytes
from penstock.engine.environment import environment
from penstock.engine.fingerprint import Fingerprints, digest_of


def test_every_file_that_a_fingerprint_read_is_kept_whole_under_its_path(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text("from shapes.square import area\n\ndef fit():\n    return area(2)\n")
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "__init__.py").write_text("")
    odd = b"# caf\xe9, which is no UTF-8\ndef area(a):\n    return a * a\n"
    (tmp_path / "shapes" / "square.py").write_bytes(b"# coding: latin-1\n" + odd)
    (tmp_path / "never.py").write_text("x = 1\n")
    known = Fingerprints(tmp_path)
    known.of("flow.py:fit")
    found = {part.name: part for part in known.sources()}
    assert "never.py" not in found
    assert {"flow.py", "shapes/square.py"} <= set(found)
    back = found["shapes/square.py"].text.encode("utf-8", "surrogateescape")
    assert back == b"# coding: latin-1\n" + odd
    assert digest_bytes(back) == found["shapes/square.py"].digest


def test_a_module_that_is_imported_and_reached_by_no_step_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flow.py").write_text("def fit():\n    return 1\n")
    (tmp_path / "penstock_test_unreached.py").write_text("y = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("penstock_test_unreached")
    monkeypatch.delitem(sys.modules, "penstock_test_unreached", raising=False)
    known = Fingerprints(tmp_path)
    known.of("flow.py:fit")
    without = [part.name for part in known.sources()]
    __import__("penstock_test_unreached")
    known = Fingerprints(tmp_path)
    known.of("flow.py:fit")
    assert {*[part.name for part in known.sources()]} - {*without} == {"penstock_test_unreached.py"}
    sys.modules.pop("penstock_test_unreached")


def test_of_a_file_that_holds_secrets_or_is_very_large_only_the_digest_is_kept(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from my_secrets import KEY\nfrom big import TEXT\nfrom aws import ID\n\ndef fit():\n    return KEY, TEXT, ID\n"
    )
    (tmp_path / "aws.py").write_text(f"ID = 'AKIA{'Q' * 16}'\n")
    (tmp_path / "my_secrets.py").write_text("KEY = 'opensesame'\n")
    (tmp_path / "big.py").write_text(f"TEXT = '{'x' * (1 << 20)}'\n")
    known = Fingerprints(tmp_path)
    known.of("flow.py:fit")
    found = {part.name: part for part in known.sources()}
    for name in ("my_secrets.py", "big.py", "aws.py"):
        assert found[name].text == ""
        assert found[name].digest == digest_bytes((tmp_path / name).read_bytes())


def test_the_name_of_a_set_of_files_changes_with_any_byte_of_any_of_them(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text("def fit():\n    return 1\n")
    names = set()
    for comment in ("", "# only a comment\n"):
        (tmp_path / "flow.py").write_text("def fit():\n    return 1\n" + comment)
        known = Fingerprints(tmp_path)
        known.of("flow.py:fit")
        names.add(digest_of(known.sources()))
    assert len(names) == 2


def test_variables_that_decide_how_libraries_add_up_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("API_TOKEN", "opensesame")
    found = environment()
    assert found["settings"]["OMP_NUM_THREADS"] == "3"
    assert "API_TOKEN" not in found["settings"]
    assert found["cpus"] >= 1
