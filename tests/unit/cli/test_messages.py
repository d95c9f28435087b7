"""Bad input gets one clear message each: what, where and the fix. The texts lie in messages/, one file per case.

After a wanted change: PENSTOCK_WRITE_MESSAGES=1 pytest tests/unit/cli/test_messages.py, and read the difference.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.cli.app import main

MESSAGES = Path(__file__).parent / "messages"

PIPELINE = """
from datetime import date
from typing import Literal
from penstock import Secret, Static, pipeline, step

@step
def train(depth: int, rate: float) -> float:
    return depth * rate

@pipeline
def churn(
    uri: str,
    depth: int = 4,
    depths: list[int] = [4, 6],
    rate: float = 0.5,
    fast: bool = False,
    kind: Literal["tree", "forest"] = "tree",
    day: date = date(2026, 1, 31),
    options: dict[str, int] = {},
    limit: int | None = None,
    name: str = "churn",
    folds: Static[int] = 2,
    token: str = Secret("API_TOKEN"),
) -> float:
    return train(depth, rate)
"""
HELLO = """
from penstock import pipeline, step

@step
def double(x: int) -> int:
    return 2 * x

@pipeline
def hello(x: int = 2) -> int:
    return double(x)
"""
TWO = HELLO + "\n@pipeline\ndef other() -> int:\n    return double(3)\n"
FAILS = HELLO.replace("return 2 * x", "raise ValueError('no rows')").replace("hello", "fails")
STEPS_ONLY = HELLO.partition("@pipeline")[0]
SYNTAX = "from penstock import pipeline\n\ndef broken(:\n    pass\n"
RAISES = "def load(path):\n    return open(path)\n\nload('/nowhere/at/all')\n"
NEEDS = "import pandsa\n"
EXITS = "import sys\nsys.exit('usage: me')\n"
WRONG = """
from penstock import pipeline, step

@step
def double(x: int) -> int:
    return 2 * x

@pipeline
def wrong() -> int:
    first = double(y=1)
    if first:
        return double("two")
    return first
"""

Arrange = Callable[[Path], None]


def files(**named: str) -> Arrange:
    def write(folder: Path) -> None:
        for name, text in named.items():
            (folder / name.replace("__", ".")).write_text(text)

    return write


def newer_store(folder: Path) -> None:
    files(hello__py=HELLO)(folder)
    assert main(["run", "hello.py", "--quiet"]) == 0
    with sqlite3.connect(folder / ".penstock" / "runs.db") as connection:
        connection.execute("INSERT INTO schema (version, min_writer, applied_at) VALUES (99, 99, 0)")
    connection.close()


def foreign_store(folder: Path) -> None:
    files(hello__py=HELLO)(folder)
    (folder / ".penstock").mkdir()
    (folder / ".penstock" / "runs.db").write_text("this is no database, it is a shopping list: bread, milk, butter")


def one_run(folder: Path) -> None:
    files(hello__py=HELLO)(folder)
    assert main(["run", "hello.py", "--quiet"]) == 0


def no_code(folder: Path) -> None:
    one_run(folder)
    with sqlite3.connect(folder / ".penstock" / "runs.db") as connection:
        connection.execute("UPDATE run_records SET code = '{}'")
    connection.close()


def lost_file(folder: Path) -> None:
    files(hello__py="from my_secrets import KEY\n" + HELLO, my_secrets__py="KEY = 1\n")(folder)
    assert main(["run", "hello.py", "--quiet"]) == 0
    files(my_secrets__py="KEY = 2\n")(folder)


def not_text(folder: Path) -> None:
    files(churn__py=PIPELINE)(folder)
    (folder / "p.yaml").write_bytes(b"uri: caf\xe9\n")


CASES: dict[str, tuple[Arrange, list[str]]] = {
    "no-file": (files(hello__py=HELLO), ["run", "helo.py"]),
    "no-file-without-suffix": (files(hello__py=HELLO), ["run", "hello"]),
    "no-folder": (files(), ["run", "nowhere/hello.py"]),
    "a-folder": (files(hello__py=HELLO), ["run", "."]),
    "not-python": (files(notes__md="# notes"), ["run", "notes.md"]),
    "which-file": (files(), ["run"]),
    "no-pipeline": (files(steps__py=STEPS_ONLY), ["run", "steps.py"]),
    "two-pipelines": (files(two__py=TWO), ["run", "two.py"]),
    "no-such-pipeline": (files(two__py=TWO), ["run", "two.py:helo"]),
    "syntax-error": (files(broken__py=SYNTAX), ["run", "broken.py"]),
    "import-raises": (files(raises__py=RAISES), ["run", "raises.py"]),
    "import-missing": (files(needs__py=NEEDS), ["run", "needs.py"]),
    "import-exits": (files(exits__py=EXITS), ["run", "exits.py"]),
    "definition": (files(wrong__py=WRONG), ["run", "wrong.py"]),
    "missing-parameter": (files(churn__py=PIPELINE), ["run", "churn.py"]),
    "mistyped-flag": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--dept", "4"]),
    "unknown-flag": (files(hello__py=HELLO), ["run", "hello.py", "--zebra", "4"]),
    "mistyped-own-flag": (files(hello__py=HELLO), ["run", "--no-cahce", "hello.py"]),
    "flag-before-file": (files(churn__py=PIPELINE), ["run", "--depth", "4", "churn.py"]),
    "plain-word": (files(churn__py=PIPELINE), ["run", "churn.py", "x.csv"]),
    "flag-without-value": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "--depth", "4"]),
    "wrong-int": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--depth", "four"]),
    "wrong-float": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--rate", "fast"]),
    "wrong-list": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--depths", "4,six"]),
    "wrong-json-list": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--depths", "[4, 6"]),
    "wrong-bool": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--fast=perhaps"]),
    "wrong-choice": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--kind", "forrest"]),
    "wrong-date": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--day", "31.1.2026"]),
    "wrong-dict": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--options", "a=1"]),
    "wrong-optional": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--limit", "few"]),
    "wrong-param": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--param", "nmae=y"]),
    "secret-as-flag": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--token", "abc"]),
    "wrong-workers": (files(hello__py=HELLO), ["run", "hello.py", "--workers", "0"]),
    "wrong-tag": (files(hello__py=HELLO), ["run", "hello.py", "--tag", "growth"]),
    "no-such-backend": (files(hello__py=HELLO), ["run", "hello.py", "--on", "airfow"]),
    "no-such-step": (files(hello__py=HELLO), ["run", "hello.py", "--from", "dubble"]),
    "params-unknown-key": (
        files(churn__py=PIPELINE, p__yaml="uri: x\ndepht: 4\n"),
        ["run", "churn.py", "--params", "p.yaml"],
    ),
    "params-wrong-type": (
        files(churn__py=PIPELINE, p__toml='uri = "x"\ndepth = "four"\n'),
        ["run", "churn.py", "--params", "p.toml"],
    ),
    "params-broken": (files(churn__py=PIPELINE, p__yaml="uri: [x\n"), ["run", "churn.py", "--params", "p.yaml"]),
    "params-doubled-yaml": (
        files(churn__py=PIPELINE, p__yaml="uri: x\ndepth: 3\ndepth: 4\n"),
        ["run", "churn.py", "--params", "p.yaml"],
    ),
    "params-doubled-json": (
        files(churn__py=PIPELINE, p__json='{"uri": "x", "uri": "y"}'),
        ["run", "churn.py", "--params", "p.json"],
    ),
    "params-doubled-spelling": (
        files(churn__py=PIPELINE.replace("uri: str", "base_uri: str"), p__yaml="base-uri: x\nbase_uri: y\n"),
        ["run", "churn.py", "--params", "p.yaml"],
    ),
    "params-not-text": (not_text, ["run", "churn.py", "--params", "p.yaml"]),
    "flag-twice": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--depth=3", "--depth=4"]),
    "list-twice": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--depths=3", "--depths=4"]),
    "bool-twice": (files(churn__py=PIPELINE), ["run", "churn.py", "--uri", "x", "--fast", "--no-fast"]),
    "param-twice": (files(churn__py=PIPELINE), ["run", "churn.py", "--param", "uri=x", "--param", "uri=y"]),
    "seed-too-large": (files(hello__py=HELLO, penstock__toml=f"seed = {10**23}\n"), ["run", "hello.py"]),
    "secret-name": (
        files(
            leaky__py=HELLO.replace("pipeline, step", "Secret, pipeline, step").replace(
                "x: int = 2", 'x: str = Secret("../x")'
            )
        ),
        ["run", "leaky.py"],
    ),
    "serve-no-reference": (files(), ["serve", "nope"]),
    "why-no-step": (one_run, ["why", "last"]),
    "diff-nothing-before": (one_run, ["diff", "last"]),
    "init-empty": (files(), ["init", ""]),
    "params-missing": (files(churn__py=PIPELINE), ["run", "churn.py", "--params", "p.yaml"]),
    "params-suffix": (files(churn__py=PIPELINE, p__txt=""), ["run", "churn.py", "--params", "p.txt"]),
    "unknown-command": (files(), ["rnu", "hello.py"]),
    "file-as-command": (files(hello__py=HELLO), ["hello.py"]),
    "unknown-global-flag": (files(), ["--verison"]),
    "nothing-run-yet": (files(penstock__toml=""), ["show"]),
    "nothing-run-here": (files(penstock__toml=""), ["ls"]),
    "unknown-run": (one_run, ["show", "churn-2020-01-01-aaaa"]),
    "unknown-step": (one_run, ["show", "last", "duble"]),
    "unknown-logs-step": (one_run, ["logs", "last", "duble"]),
    "unknown-state": (one_run, ["ls", "--state", "faild"]),
    "resume-succeeded": (one_run, ["resume", "last"]),
    "one-word-too-many": (one_run, ["show", "last", "double", "again"]),
    "broken-config": (files(hello__py=HELLO, penstock__toml="workers = \n"), ["run", "hello.py"]),
    "unknown-setting": (files(hello__py=HELLO, penstock__toml="wrokers = 2\n"), ["run", "hello.py"]),
    "wrong-setting": (files(hello__py=HELLO, penstock__toml='workers = "two"\n'), ["run", "hello.py"]),
    "unknown-profile": (
        files(hello__py=HELLO, penstock__toml="[profiles.prod]\nworkers = 2\n"),
        ["run", "hello.py", "--profile", "pord"],
    ),
    "no-such-project": (files(), ["ls", "--project", "nowhere"]),
    "unknown-store": (files(hello__py=HELLO, penstock__toml='runs = "mysql://db/runs"\n'), ["run", "hello.py"]),
    "unreachable-database": (
        files(hello__py=HELLO, penstock__toml='runs = "postgresql://me@127.0.0.1:1/runs?connect_timeout=2"\n'),
        ["run", "hello.py"],
    ),
    "reproduce-nothing-run": (files(hello__py=HELLO), ["reproduce", "last"]),
    "reproduce-unknown-run": (one_run, ["reproduce", "helo"]),
    "reproduce-wrong-tolerance": (one_run, ["reproduce", "last", "--rtol", "small"]),
    "reproduce-no-code": (no_code, ["reproduce", "last", "--here", "-q"]),
    "reproduce-lost-file": (lost_file, ["reproduce", "last", "--here", "-q"]),
    "verify-which-file": (files(), ["verify"]),
    "verify-mistyped-flag": (files(hello__py=HELLO), ["verify", "--no-serch", "hello.py"]),
    "verify-fails": (files(fails__py=FAILS), ["verify", "fails.py", "-q"]),
    "newer-store": (newer_store, ["ls"]),
    "newer-store-run": (newer_store, ["run", "hello.py"]),
    "foreign-store": (foreign_store, ["run", "hello.py"]),
    "init-over-files": (files(pipeline__py="", README__md=""), ["init", "."]),
    "no-manifest": (files(), ["exec-step", "--manifest", "m.json", "--run", "r", "--step", "s"]),
    "missing-flag": (files(), ["exec-step", "--run", "r", "--step", "s"]),
}


@pytest.fixture(autouse=True)
def _as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own that no other project surrounds, and no trace of its modules afterwards."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_") and name != "PENSTOCK_WRITE_MESSAGES"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = path


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_in_one_clear_message(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrange, words = CASES[case]
    arrange(tmp_path)
    _told_as_expected(case, words, tmp_path, capsys)


def test_a_missing_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files(hello__py=HELLO, penstock__toml='runs = "postgresql://me@127.0.0.1:1/runs"\n')(tmp_path)
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "penstock.stores.runlog.postgres", raising=False)
    _told_as_expected("missing-extra", ["run", "hello.py"], tmp_path, capsys)


def _told_as_expected(case: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    code = main(words)
    captured = capsys.readouterr()
    assert captured.out == ""
    shown = f"$ penstock {' '.join(words)}\n{_normal(captured.err, folder)}exit {int(code)}\n"
    expected = MESSAGES / f"{case}.txt"
    if os.environ.get("PENSTOCK_WRITE_MESSAGES"):
        expected.write_text(shown, encoding="utf-8")
    assert shown == expected.read_text(encoding="utf-8")


def test_no_message_lies_about_without_its_case() -> None:
    assert {path.stem for path in MESSAGES.glob("*.txt")} == {*CASES, "missing-extra"}


@pytest.mark.parametrize("case", ["no-file", "definition", "wrong-int"])
def test_with_json_the_error_is_an_object_on_stdout_too(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    arrange, words = CASES[case]
    arrange(tmp_path)
    assert main([*words, "--json"]) == 2
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["problem"].splitlines()[0] in captured.err
    assert f"error[{error['code']}]" in captured.err


def test_bad_input_harms_nothing_stored(tmp_path: Path) -> None:
    one_run(tmp_path)
    before = _stored(tmp_path / ".penstock")
    assert before["runs.db"]
    for words in (["run", "hello.py", "--x", "two"], ["run", "hello.py", "--from", "no"], ["show", "nothing"]):
        assert main(words) != 0
    assert _stored(tmp_path / ".penstock") == before


def _stored(home: Path) -> dict[str, object]:
    """Every row and every artifact. Not the database's bytes: SQLite may fold its log into the file at any time."""
    files = {str(path): path.read_bytes() for path in (home / "artifacts").rglob("*") if path.is_file()}
    database = sqlite3.connect(home / "runs.db")
    try:
        return {**files, "runs.db": list(database.iterdump())}
    finally:
        database.close()


def test_looking_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("")
    for words in (["ls"], ["show"], ["logs"], ["cancel"], ["resume"]):
        assert main(words) == 4
    assert not (tmp_path / ".penstock").exists()


def _normal(text: str, folder: Path) -> str:
    """Without this machine's paths and today's run ids."""
    text = text.replace(os.path.realpath(folder), "TMP").replace(str(folder), "TMP").replace(sys.executable, "PYTHON")
    return re.sub(r"\b(hello|churn)-20\d\d-\d\d-\d\d-[0-9a-z]{4}", r"\1-RUN", text)
