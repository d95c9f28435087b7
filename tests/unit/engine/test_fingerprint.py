"""What fingerprints keep, where they look, what they admit not to see, and what they cost."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from penstock.core.errors import NotFoundError
from penstock.engine.environment import package_versions
from penstock.engine.fingerprint import Fingerprints, memo, reading
from penstock.engine.fingerprint.facts import ModuleFacts

HELLO = "from penstock import step\n\nimport helpers\n\n@step\ndef go(x: int) -> int:\n    return helpers.f(x)\n"


@pytest.fixture(autouse=True)
def _a_fresh_process() -> None:
    memo._in_process.clear()


def project(root: Path, **files: str) -> Path:
    for name, text in files.items():
        (root / f"{name}.py").write_text(textwrap.dedent(text))
    return root


def unseen(root: Path, target: str = "flow.py:go") -> str:
    return "\n".join(Fingerprints(root).of(target).unseen)


def analysed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Sources that are parsed from now on; the real analysis still runs."""
    sources: list[bytes] = []
    real = reading.analyse

    def noted(source: bytes) -> ModuleFacts:
        sources.append(source)
        return real(source)

    monkeypatch.setattr(reading, "analyse", noted)
    return sources


def test_parts_carry_the_source_as_written_and_the_step_comes_first(tmp_path: Path) -> None:
    project(tmp_path, flow=HELLO, helpers="def f(x):\n    '''doc'''\n    return x  # same\n")
    parts = Fingerprints(tmp_path).of("flow.py:go").parts
    assert [part.name for part in parts] == ["flow.py:go", "helpers.py:f"]
    assert parts[0].text == "@step\ndef go(x: int) -> int:\n    return helpers.f(x)"
    assert parts[1].text == "def f(x):\n    '''doc'''\n    return x  # same"


def test_an_outside_import_is_a_part_of_its_file_with_its_line(tmp_path: Path) -> None:
    project(tmp_path, flow="from math import (\n floor as lower)\nimport os, json\ndef go(x):\n    return lower(x)\n")
    parts = {part.name: part for part in Fingerprints(tmp_path).of("flow.py:go").parts}
    assert set(parts) == {"flow.py:go", "flow.py:imports"}


def test_a_second_process_parses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, flow=HELLO, helpers="def f(x): return x\n")
    first = Fingerprints(tmp_path, tmp_path / "cache").of("flow.py:go")
    memo._in_process.clear()
    parsed = analysed(monkeypatch)
    assert Fingerprints(tmp_path, tmp_path / "cache").of("flow.py:go") == first
    assert parsed == []


def test_only_the_edited_file_is_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, flow=HELLO, helpers="def f(x): return x\n")
    Fingerprints(tmp_path, tmp_path / "cache").of("flow.py:go")
    memo._in_process.clear()
    project(tmp_path, helpers="def f(x): return 2\n")
    parsed = analysed(monkeypatch)
    Fingerprints(tmp_path, tmp_path / "cache").of("flow.py:go")
    assert parsed == [b"def f(x): return 2\n"]


@pytest.mark.parametrize("damage", [b"", b"\x00\xff", b"\x93\x01\x02"])
def test_a_damaged_cache_is_the_same_as_none(tmp_path: Path, damage: bytes) -> None:
    project(tmp_path, flow=HELLO, helpers="def f(x): return x\n")
    first = Fingerprints(tmp_path, tmp_path / "cache").of("flow.py:go")
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(kept) >= 2
    for path in kept:
        path.write_bytes(damage)
    memo._in_process.clear()
    assert Fingerprints(tmp_path, tmp_path / "cache").of("flow.py:go") == first


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    project(tmp_path, flow=HELLO, helpers="def f(x): return x\n")
    (tmp_path / "file").write_text("")
    assert Fingerprints(tmp_path, tmp_path / "file").of("flow.py:go") == Fingerprints(tmp_path).of("flow.py:go")


def test_a_run_sees_one_state_of_the_code_until_it_refreshes(tmp_path: Path) -> None:
    project(tmp_path, flow=HELLO + "\n\ndef other(x): return helpers.f(x)\n", helpers="def f(x): return x\n")
    fingerprints = Fingerprints(tmp_path)
    before = fingerprints.of("flow.py:go")
    project(tmp_path, helpers="def f(x): return 2\n")
    assert fingerprints.of("flow.py:other").parts[1].digest == before.parts[1].digest
    fingerprints.refresh()
    assert fingerprints.of("flow.py:go") != before


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.py:go.*no file gone\.py"):
        Fingerprints(tmp_path).of("gone.py:go")


def test_a_ready_made_step_counts_by_the_package_version(tmp_path: Path) -> None:
    found = Fingerprints(tmp_path).of("penstock.authoring.ready:deploy")
    assert found.packages == {"penstock": package_versions()["penstock"]}
    assert found.digest != Fingerprints(tmp_path).of("penstock.authoring.ready:register").digest


def test_penstock_itself_is_never_followed_even_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "src" / "penstock").mkdir(parents=True)
    (tmp_path / "src" / "penstock" / "__init__.py").write_text("def context(): ...\n")
    project(tmp_path, flow="from penstock import context\ndef go(x):\n    return context()\n")
    found = Fingerprints(tmp_path).of("flow.py:go")
    assert set(found.packages) == {"penstock"}
    assert [part.name for part in found.parts] == ["flow.py:go", "flow.py:imports"]


def test_a_step_made_by_a_call_counts_with_what_it_wraps(tmp_path: Path) -> None:
    source = "from penstock import step\ndef plain(x):\n    return {}\nmade = step(plain, timeout='1m')\n"
    project(tmp_path, flow=source.format(1))
    first = Fingerprints(tmp_path).of("flow.py:made")
    project(tmp_path, flow=source.format(2))
    assert Fingerprints(tmp_path).of("flow.py:made").digest != first.digest


def test_a_name_that_no_statement_binds_stands_for_its_whole_file(tmp_path: Path) -> None:
    project(tmp_path, flow="def one(): return 1\nglobals()['go'] = one\n")
    found = Fingerprints(tmp_path).of("flow.py:go")
    assert {part.name for part in found.parts} >= {"flow.py:one", "flow.py:globals"}
    assert "'go' is not defined" in found.unseen[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def go(x):\n    return eval(x)\n", "flow.py:2: eval runs code"),
        ("def go(x):\n    return open(x).read()\n", "flow.py:2: open opens a file"),
        ("import os\ndef go(x):\n    return os.environ['CITY']\n", "flow.py:3: reads environment variable CITY, "),
        (
            "import os\ndef go(x):\n    return os.environ.get('CITY', x)\n",
            "flow.py:3: reads environment variable CITY,",
        ),
        (
            "from os import getenv\ndef go(x):\n    return getenv('CITY')\n",
            "flow.py:3: reads environment variable CITY",
        ),
        (
            "import os\nCITY = os.environ['CITY']\ndef go(x):\n    return CITY\n",
            "flow.py:2: reads environment variable",
        ),
        ("import os\ndef go(x):\n    return os.getenv(x)\n", "flow.py:3: reads an environment variable that"),
        ("def go(x):\n    exec(x)\n", "flow.py:2: exec runs code"),
        ("def go(x):\n    return __import__(x)\n", "flow.py:2: __import__ imports a module"),
        ("import importlib\ndef go(x):\n    return importlib.import_module(x)\n", "flow.py:3: importlib.import_module"),
        ("from importlib import import_module as load\ndef go(x):\n    return load(x)\n", "flow.py:3: importlib"),
        ("import helpers\ndef go(x):\n    return getattr(helpers, x)\n", "flow.py:3: getattr on module 'helpers'"),
        ("import nowhere_zz\ndef go(x):\n    return nowhere_zz.f\n", "flow.py:1: module 'nowhere_zz' is neither"),
        ("from . import gone\ndef go(x):\n    return gone.f\n", "flow.py:3: 'gone' was not found in"),
        ("import broken\ndef go(x):\n    return broken.f\n", "broken.py:1: this file cannot be parsed"),
        ("import helpers\ndef go(x):\n    return helpers.TABLE[x]\n", "'TABLE' is changed by put"),
    ],
)
def test_what_cannot_be_followed_is_said(tmp_path: Path, source: str, said: str) -> None:
    project(tmp_path, flow=source, helpers="TABLE = {}\ndef put(k):\n    TABLE[k] = 1\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    assert said in unseen(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "def go(eval):\n    return eval(1)\n",
        "def eval(x): return x\ndef go(x):\n    return eval(x)\n",
        "import re\ndef go(x):\n    return re.compile(x)\n",
        "def go(x, environ):\n    return environ['CITY']\n",
        "import os\ndef go(x):\n    os.environ['CITY'] = x\n",
        "import os\ndef go(x):\n    return x\ndef other():\n    return os.environ['CITY'], open('a')\n",
        "import helpers\ndef go(x):\n    return getattr(helpers, 'f')\n",
        "def go(x):\n    return getattr(x, x.name)\n",
        "import importlib\ndef go(x):\n    return importlib.import_module('helpers').f(x)\n",
    ],
)
def test_what_can_be_followed_is_not_complained_of(tmp_path: Path, source: str) -> None:
    project(tmp_path, flow=source, helpers="def f(x): return x\n")
    assert unseen(tmp_path) == ""


def test_a_literal_import_module_is_followed(tmp_path: Path) -> None:
    project(
        tmp_path,
        flow="import importlib\ndef go(x):\n    return importlib.import_module('helpers').f(x)\n",
        helpers="def f(x): return x\n",
    )
    assert "helpers.py:f" in {part.name for part in Fingerprints(tmp_path).of("flow.py:go").parts}


def test_an_extension_module_counts_by_its_bytes(tmp_path: Path) -> None:
    project(tmp_path, flow="import fast\ndef go(x):\n    return fast.f(x)\n")
    binary = tmp_path / "fast.cpython-311-x86_64-linux-gnu.so"
    binary.write_bytes(b"\x7fELF 1")
    first = Fingerprints(tmp_path).of("flow.py:go")
    assert "extension module" in first.unseen[0]
    binary.write_bytes(b"\x7fELF 2")
    assert Fingerprints(tmp_path).of("flow.py:go").digest != first.digest


def test_a_file_that_cannot_be_parsed_counts_whole(tmp_path: Path) -> None:
    project(tmp_path, flow=HELLO, helpers="def f(:\n")
    first = Fingerprints(tmp_path).of("flow.py:go").digest
    project(tmp_path, helpers="def g(:\n")
    assert Fingerprints(tmp_path).of("flow.py:go").digest != first


def test_an_expression_hundreds_deep_is_still_read(tmp_path: Path) -> None:
    terms = " + ".join(["x"] * 1500)
    project(tmp_path, flow=f"def go(x):\n    return {terms} + LAST\nLAST = 1\n")
    assert len(Fingerprints(tmp_path).of("flow.py:go").parts) == 2


def test_a_huge_integer_is_still_read(tmp_path: Path) -> None:
    project(tmp_path, flow=f"BIG = 0x{'f' * 6000}\ndef go(x):\n    return BIG\n")
    assert len(Fingerprints(tmp_path).of("flow.py:go").parts) == 2


def test_an_environment_inside_the_root_is_not_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "env" / "lib" / "site-packages"
    (site / "Their_Lib-1.2.dist-info").mkdir(parents=True)
    (site / "Their_Lib-1.2.dist-info" / "RECORD").write_text("theirs.py,,\n")
    (site / "theirs.py").write_text("def f(): ...\n")
    project(tmp_path, flow="import theirs\ndef go(x):\n    return theirs.f\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    monkeypatch.setattr("penstock.engine.environment._versions", None)
    found = Fingerprints(tmp_path).of("flow.py:go")
    assert found.packages == {"their-lib": "1.2"}
    monkeypatch.setattr("penstock.engine.environment._versions", None)


@pytest.mark.parametrize(
    ("module", "distributions"),
    [
        ("sklearn.linear_model", {"scikit-learn"}),
        ("yaml", {"pyyaml"}),
        ("dateutil.parser", {"python-dateutil"}),
        ("attr", {"attrs"}),
        ("git", {"gitpython"}),
        ("six", {"six"}),
        ("typing_extensions", {"typing-extensions"}),
        ("opentelemetry.sdk.trace", {"opentelemetry-sdk"}),
        ("ruamel.yaml", {"ruamel-yaml"}),
        ("pandas", {"pandas"}),
        ("json", set()),
    ],
)
def test_a_module_is_known_by_its_distribution(tmp_path: Path, module: str, distributions: set[str]) -> None:
    if not distributions <= set(package_versions()):
        pytest.skip(f"not installed: {', '.join(distributions)}")
    project(tmp_path, flow=f"import {module} as it\ndef go(x):\n    return it.f\n")
    for _ in range(2):  # looked up, then remembered
        found = Fingerprints(tmp_path, tmp_path / "cache").of("flow.py:go")
        assert set(found.packages) == distributions


def test_a_new_version_of_a_reached_package_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, flow="import yaml, rich\ndef go(x):\n    return yaml.f\n")
    before = Fingerprints(tmp_path).of("flow.py:go").digest
    monkeypatch.setitem(package_versions(), "rich", "99")
    assert Fingerprints(tmp_path).of("flow.py:go").digest == before
    monkeypatch.setitem(package_versions(), "pyyaml", "99")
    assert Fingerprints(tmp_path).of("flow.py:go").digest != before


# ---- functions without a file


def test_a_cell_counts_with_the_constants_around_it(tmp_path: Path) -> None:
    fingerprints = Fingerprints(tmp_path)
    source = "@step\ndef go(x):\n    return x + LIMIT\n"
    first = fingerprints.of_source("go", source, {"LIMIT": 3, "OTHER": 1})
    assert first is not None
    assert first.parts[0].text == source.rstrip()
    same = fingerprints.of_source("go", source.replace("LIMIT\n", "LIMIT  # limit\n"), {"LIMIT": 3, "OTHER": 2})
    assert same is not None
    assert same.digest == first.digest
    other = fingerprints.of_source("go", source, {"LIMIT": 4})
    assert other is not None
    assert other.digest != first.digest


def test_a_cell_knows_the_step_decorator_of_an_earlier_cell(tmp_path: Path) -> None:
    from penstock import step

    fingerprints = Fingerprints(tmp_path)
    source = "@step(timeout='1m')\ndef go(x):\n    return x\n"
    first = fingerprints.of_source("<notebook>:go", source, {"step": step})
    second = fingerprints.of_source("<notebook>:go", source.replace("1m", "2m"), {"step": step})
    assert first is not None
    assert second is not None
    assert first.digest == second.digest
    assert first.packages == {}


def test_an_inner_function_is_cached_only_with_the_variables_around_it(tmp_path: Path) -> None:
    fingerprints = Fingerprints(tmp_path)
    source = "    def go(x):\n        return x + outer\n"
    assert fingerprints.of_source("<notebook>:make.<locals>.go", source, {}) is None
    found = fingerprints.of_source("<notebook>:make.<locals>.go", source, {"outer": 1})
    assert found is not None
    assert found.unseen == ()


def test_a_cell_follows_modules_and_functions_of_the_project(tmp_path: Path) -> None:
    project(tmp_path, helpers_of_cell="def f(x):\n    return x\n")
    code = compile((tmp_path / "helpers_of_cell.py").read_text(), str(tmp_path / "helpers_of_cell.py"), "exec")
    space: dict[str, object] = {"__name__": "helpers_of_cell"}
    exec(code, space)
    found = Fingerprints(tmp_path).of_source("go", "def go(x):\n    return f(x)\n", {"f": space["f"]})
    assert found is not None
    assert "helpers_of_cell.py:f" in {part.name for part in found.parts}


def test_a_cell_without_known_source_is_not_cached(tmp_path: Path) -> None:
    fingerprints = Fingerprints(tmp_path)
    space: dict[str, object] = {"__name__": "__main__"}
    exec("def hidden(x): return x", space)
    assert fingerprints.of_source("go", None, {}) is None
    assert fingerprints.of_source("go", "def go(x):\n    return hidden(x)\n", space) is None
    assert fingerprints.of_source("go", "def go(x):\n    return thing\n", {"thing": object()}) is None


def test_a_cell_follows_other_cells_that_linecache_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import linecache

    cell = "def helper(x):\n    return x\n"
    digests = []
    for text in (cell, cell.replace("return x", "return -x"), cell.replace("return x", "return x  # x")):
        monkeypatch.setitem(linecache.cache, "<cell 1>", (len(text), None, text.splitlines(keepends=True), "<cell 1>"))
        space: dict[str, object] = {"__name__": "__main__"}
        exec(compile(text, "<cell 1>", "exec"), space)
        found = Fingerprints(tmp_path).of_source("go", "def go(x):\n    return helper(x)\n", space)
        assert found is not None
        digests.append(found.digest)
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]


# ---- cost


def test_a_warm_fingerprint_imports_no_parser_and_no_metadata(tmp_path: Path) -> None:
    project(tmp_path, flow=HELLO, helpers="import yaml\ndef f(x): return yaml.safe_load(x)\n")
    script = (
        "import sys, msgspec; before = set(sys.modules); from pathlib import Path;"
        "from penstock.engine.fingerprint import Fingerprints; root = Path(sys.argv[1]);"
        "Fingerprints(root, root / 'cache').of('flow.py:go'); print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    cold, warm = (subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(2))
    assert "penstock.engine.fingerprint.reading" in cold
    assert "penstock.engine.fingerprint.reading" not in warm
    assert not {"ast", "inspect", "dataclasses", "importlib.metadata", "subprocess"} & set(cold)


def test_a_chain_of_two_hundred_functions_in_twenty_files_is_reached_whole(tmp_path: Path) -> None:
    for number in range(20):
        after = f"from m{number + 1} import f0 as after\n" if number < 19 else "def after(x): return x\n"
        body = "".join(
            f"\ndef f{each}(x, y=LIMIT):\n    rows = [value for value in range(x) if value > y]\n"
            f"    return {f'f{each + 1}' if each < 9 else 'after'}(x) + sum(rows)\n"
            for each in range(10)
        )
        (tmp_path / f"m{number}.py").write_text(f"{after}LIMIT = {number}\n{body}")
    cold = Fingerprints(tmp_path, tmp_path / "cache").of("m0.py:f0")
    memo._in_process.clear()
    warm = Fingerprints(tmp_path, tmp_path / "cache").of("m0.py:f0")
    assert len(cold.parts) > 200
    assert warm == cold
