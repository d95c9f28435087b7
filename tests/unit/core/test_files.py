"""Files that appear whole."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from penstock.core.errors import UsageError
from penstock.core.files import put_generated, put_text


def test_a_file_is_told_as_new_only_when_it_is_another(tmp_path: Path) -> None:
    file = tmp_path / "made.txt"
    assert put_text(file, "one")
    before = file.stat()
    assert not put_text(file, "one")
    assert file.stat() == before
    assert put_text(file, "two")
    assert [each.name for each in tmp_path.iterdir()] == ["made.txt"]


def test_python_never_takes_the_compiled_form_of_the_version_before(tmp_path: Path) -> None:
    """It tells a version by its second and its length."""
    file = tmp_path / "made.py"
    for number in range(5):
        put_text(file, f"number = {number}\n")
        loader = SourceFileLoader("made", str(file))
        spec = spec_from_loader("made", loader)
        assert spec is not None
        loader.exec_module(module := module_from_spec(spec))
        assert module.number == number


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "made.txt"
    file.write_bytes(b"\xff\xfe")
    assert put_text(file, "text")
    assert file.read_text() == "text"


def test_a_file_that_penstock_has_not_written_stays(tmp_path: Path) -> None:
    file = tmp_path / "churn_dag.py"
    file.write_text("# mine\n")
    with pytest.raises(UsageError, match="no file that penstock has written"):
        put_generated(file, "# made by penstock\n", hint="another name")
    assert file.read_text() == "# mine\n"
    file.write_text("# made by penstock 0\n")
    assert put_generated(file, "# made by penstock 1\n", hint="another name")
