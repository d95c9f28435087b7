"""What runs is what is written, also within the second in which Python cannot tell two versions of a file apart."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.authoring.bytecode import CarefulLoader, stale_bytecode

PIPELINE = """
from helpers import number
from penstock import pipeline, step

@step
def take() -> int:
    return number()

@pipeline
def main() -> int:
    return take()

if __name__ == "__main__":
    print(main.run().output)
"""


def edited_within_the_second(folder: Path) -> Path:
    """A module compiled as version 1 whose source says 2, with a size and a second that Python takes for the same."""
    source = folder / "helpers.py"
    source.write_text("def number() -> int:\n    return 1\n")
    second = int(source.stat().st_mtime)
    os.utime(source, ns=(second * 10**9, second * 10**9))
    compiled = Path(str(py_compile.compile(str(source), doraise=True)))
    os.utime(compiled, ns=(second * 10**9 + 1, second * 10**9 + 1))
    source.write_text("def number() -> int:\n    return 2\n")
    os.utime(source, ns=(second * 10**9 + 2, second * 10**9 + 2))
    return source


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def test_python_itself_would_run_the_old_code(tmp_path: Path) -> None:
    edited_within_the_second(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import helpers; print(helpers.number())"],
        cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "1\n"


def test_the_careful_loader_compiles_again(tmp_path: Path) -> None:
    source = edited_within_the_second(tmp_path)
    assert stale_bytecode(str(source)) is not None
    code = CarefulLoader("helpers", str(source)).get_code("helpers")
    scope: dict[str, object] = {}
    assert code is not None
    exec(code, scope)
    assert scope["number"]() == 2  # type: ignore[operator]


def test_a_run_uses_what_is_written(tmp_path: Path) -> None:
    edited_within_the_second(tmp_path)
    (tmp_path / "flow.py").write_text(PIPELINE)
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "run", "flow.py"],
        cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "output: 2" in done.stderr + done.stdout


def test_a_script_that_imported_old_code_already_is_refused(tmp_path: Path) -> None:
    edited_within_the_second(tmp_path)
    (tmp_path / "flow.py").write_text(PIPELINE)
    done = subprocess.run(
        [sys.executable, "flow.py"], cwd=tmp_path, env=environment(), check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Python loaded a compiled file that is older than helpers.py" in done.stderr


def test_a_script_itself_is_never_under_suspicion(tmp_path: Path) -> None:
    """Its workers leave a compiled file of it, which `python file.py` never reads."""
    script = edited_within_the_second(tmp_path).with_name("flow.py")
    script.write_text(PIPELINE.replace("from helpers import number", "def number() -> int:\n    return 3\n"))
    compiled = Path(str(py_compile.compile(str(script), doraise=True)))
    os.utime(compiled, ns=(0, script.stat().st_mtime_ns - 1))
    assert stale_bytecode(str(script)) is not None
    done = subprocess.run(
        [sys.executable, "flow.py"], cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True
    )
    assert done.stdout == "3\n"


@pytest.mark.parametrize("later_ns", [1, 10**9])
def test_a_compiled_file_newer_than_its_source_is_used(tmp_path: Path, later_ns: int) -> None:
    source = tmp_path / "helpers.py"
    source.write_text("x = 1\n")
    compiled = str(py_compile.compile(str(source), doraise=True))
    os.utime(compiled, ns=(0, source.stat().st_mtime_ns + later_ns))
    assert stale_bytecode(str(source)) is None


EDITED = """
import importlib
from pathlib import Path
from penstock.core.errors import DefinitionError
import flow, helpers

print(flow.main.run().output)
helper = Path("helpers.py")
helper.write_text(helper.read_text().replace("return 1", "return 22"))
try:
    print(flow.main.run().output)
except DefinitionError as error:
    print(error)
importlib.reload(helpers)
print(importlib.reload(flow).main.run().output)
helper.touch()  # written again, not changed
print(flow.main.run().output)
"""


def test_what_is_edited_after_its_import_does_not_run_under_the_name_of_the_new_code(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").touch()
    (tmp_path / "helpers.py").write_text("def number() -> int:\n    return 1\n")
    (tmp_path / "flow.py").write_text(PIPELINE.partition("\nif __name__")[0])
    done = subprocess.run(
        [sys.executable, "-c", EDITED], cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True
    )
    assert "helpers.py was edited after this process imported it" in done.stdout
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["1", "22", "22"]
