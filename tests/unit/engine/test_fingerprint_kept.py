"""A fingerprint that an earlier process kept is taken only while everything that it was made from is the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.engine import environment
from penstock.engine.fingerprint import Fingerprints, closure
from penstock.ports.records import Fingerprint

PRICES = """
import msgspec
def total(x):
    # all of it
    return msgspec.json.encode(x)
def idle(): 1
"""
FILES = {
    "flow.py": "import shop.prices\nfrom rates import RATE\ndef go(x):\n    return shop.prices.total(x) * RATE\n",
    "shop/__init__.py": "",
    "shop/prices.py": PRICES,
    "src/rates.py": "RATE = 2\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        write(tmp_path / name, text)
    of(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def of(root: Path) -> Fingerprint:
    return Fingerprints(root, root / ".penstock").of("flow.py:go")


def made_anew(root: Path) -> Fingerprint:
    return Fingerprints(root).of("flow.py:go")


def followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether names are followed, or the kept fingerprint is taken as it is."""
    seen: list[str] = []
    walk = closure.Closure.of

    def noted(self: closure.Closure, name: str) -> Fingerprint:
        seen.append(name)
        return walk(self, name)

    monkeypatch.setattr(closure.Closure, "of", noted)
    of(root)
    return bool(seen)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a reached function": lambda root: write(root / "shop/prices.py", PRICES.replace("(x)\n", "([x])\n")),
    "an unreached function": lambda root: write(root / "shop/prices.py", PRICES.replace("1", "2")),
    "a comment": lambda root: write(root / "shop/prices.py", PRICES.replace("all", "none")),
    "a file that comes first on the path": lambda root: write(root / "rates.py", "RATE = 3\n"),
    "a package where a file was": lambda root: write(root / "src/rates/__init__.py", "RATE = 3\n"),
    "an extension where a file was": lambda root: write(root / "src/rates.abi3.so", "binary"),
    "a file that is gone": lambda root: (root / "src/rates.py").unlink(),
    "a package that is a plain folder now": lambda root: (root / "shop/__init__.py").unlink(),
    "a folder that is an environment now": lambda root: write(root / "src/pyvenv.cfg", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_kept_gives_way_to_what_is(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CHANGES[name](root)
    found = of(root)
    assert found == made_anew(root)
    assert not followed(root, monkeypatch), "the new one is kept in its place"


UNCHANGED: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "the time of a file": lambda root: os.utime(root / "shop/prices.py", (1, 1)),
    "a file written again": lambda root: write(root / "shop/prices.py", PRICES),
    "a data file beside the code": lambda root: write(root / "rows.csv", "1,2\n"),
    "a compiled file": lambda root: write(root / "shop/prices.pyc", "compiled"),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_an_unchanged_project_is_only_looked_at(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made_anew(root)
    UNCHANGED[name](root)
    assert of(root) == before
    assert not followed(root, monkeypatch)


def test_another_version_of_any_package_is_looked_into(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(root)
    monkeypatch.setattr(environment, "_versions", {**environment.package_versions(), "msgspec": "0"})
    after = of(root)
    assert after.digest != before.digest
    assert after.packages == {"msgspec": "0"}


def test_another_search_path_is_looked_into(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "src/rates.py").rename(root / "rates.txt")
    assert any("'rates' is neither" in text for text in of(root).unseen)
    write(root.parent / "beside" / "rates.py", "RATE = 5\n")
    monkeypatch.syspath_prepend(str(root.parent / "beside"))
    assert not of(root).unseen


def test_a_kept_fingerprint_that_is_damaged_is_none(root: Path) -> None:
    before = of(root)
    kept = [path for path in (root / ".penstock").rglob("of-*") if path.is_file()]
    assert kept
    for damaged in (b"", b"\x00", kept[0].read_bytes()[:-3]):
        kept[0].write_bytes(damaged)
        assert of(root) == before


def test_what_was_kept_tells_of_every_hidden_input_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "flow.py", "import time\ndef go(x):\n    eval('x')\n    return time.time()\n")
    made = of(root)
    assert [each.name for each in made.hidden] == ["time.time()"]
    assert made.unseen
    assert not followed(root, monkeypatch)
    assert of(root) == made
