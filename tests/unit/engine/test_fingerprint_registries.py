"""What other files do to a step's names when they are imported, and code that lies beside the project."""

# ruff: noqa: E501
from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from penstock.engine.fingerprint import Fingerprints

STEP = "import plugins\nfrom registry import TABLE\ndef go(x):\n    return TABLE[x]\n"
# name: files, then (file, old, new) of an edit that must be a miss
MISSES: dict[str, tuple[dict[str, str], tuple[str, str, str]]] = {
    "an item that another file puts in": (
        {"flow": STEP, "registry": "TABLE = {}\n", "plugins": "from registry import TABLE\nTABLE['a'] = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "the function that is put in": (
        {
            "flow": STEP,
            "registry": "TABLE = {}\n",
            "plugins": "import registry\ndef one(x): return 1\nregistry.TABLE['a'] = one\n",
        },
        ("plugins", "return 1", "return 2"),
    ),
    "a decorator that collects": (
        {
            "flow": STEP,
            "registry": "TABLE = {}\ndef register(name):\n    def add(fn):\n        TABLE[name] = fn\n        return fn\n"
            "    return add\n",
            "plugins": "from registry import register\n@register('a')\ndef one(x): return 1\n",
        },
        ("plugins", "return 1", "return 2"),
    ),
    "a decorator that collects through another function": (
        {
            "flow": STEP,
            "registry": "TABLE = {}\ndef register(fn):\n    keep(fn)\n    return fn\ndef keep(fn):\n    TABLE[1] = fn\n",
            "plugins": "import registry as r\n@r.register\ndef one(x): return 1\n",
        },
        ("plugins", "return 1", "return 2"),
    ),
    "a decorator of a third file": (
        {
            "flow": STEP,
            "registry": "TABLE = {}\n",
            "deco": "import registry\ndef register(fn):\n    registry.TABLE[1] = fn\n    return fn\n",
            "plugins": "from deco import register\n@register\ndef one(x): return 1\n",
        },
        ("plugins", "return 1", "return 2"),
    ),
    "a plugin of a plugin": (
        {
            "flow": STEP,
            "registry": "TABLE = {}\n",
            "plugins": "import more\n",
            "more": "from registry import TABLE\nTABLE.update(a=1)\n",
        },
        ("more", "a=1", "a=2"),
    ),
    "a function that is called to fill": (
        {
            "flow": STEP,
            "registry": "TABLE = {}\n",
            "plugins": "import registry\ndef fill():\n    registry.TABLE['a'] = 1\nfill()\n",
        },
        ("plugins", "= 1", "= 2"),
    ),
    "a constant that is set from outside": (
        {"flow": "import plugins, config\ndef go(x):\n    return config.DEPTH\n", "config": "DEPTH = 1\n",
         "plugins": "import config\nconfig.DEPTH = 5\n"},
        ("plugins", "= 5", "= 6"),
    ),
    "a constant that is set by setattr": (
        {"flow": "import plugins, config\ndef go(x):\n    return config.LIMITS.low\n",
         "config": "class L: low = 1\nLIMITS = L()\n",
         "plugins": "from config import LIMITS\nsetattr(LIMITS, 'low', 5)\n"},
        ("plugins", "5", "6"),
    ),
    "a function that is replaced from outside": (
        {"flow": "import plugins, config\ndef go(x):\n    return config.f()\n", "config": "def f(): return 1\n",
         "plugins": "import config\nconfig.f = lambda: 2\n"},
        ("plugins", ": 2", ": 3"),
    ),
    "a case of single dispatch": (
        {"flow": "import plugins\nfrom shape import area\ndef go(x):\n    return area(x)\n",
         "shape": "from functools import singledispatch\n@singledispatch\ndef area(x): return 0\n",
         "plugins": "from shape import area\n@area.register\ndef _(x: int): return 1\n"},
        ("plugins", "return 1", "return 2"),
    ),
    "a subclass that its base keeps": (
        {"flow": "import plugins\nfrom shape import Shape\ndef go(x):\n    return Shape.known[x]()\n",
         "shape": "class Shape:\n    known = {}\n    def __init_subclass__(cls):\n        cls.known[cls.__name__] = cls\n",
         "plugins": "from shape import Shape\nclass Round(Shape):\n    sides = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "a class that a metaclass keeps, behind a base": (
        {"flow": "import plugins\nfrom shape import KNOWN\ndef go(x):\n    return KNOWN[x]()\n",
         "shape": "KNOWN = {}\nclass Meta(type):\n    def __init__(cls, *a):\n        KNOWN[cls.__name__] = cls\n"
         "class Shape(metaclass=Meta): pass\n",
         "plugins": "from shape import Shape\nclass Round(Shape):\n    sides = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "a name behind a star": (
        {"flow": STEP, "registry": "TABLE = {}\n", "plugins": "from registry import *\nTABLE['a'] = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "a plugin imported inside the step": (
        {"flow": "from registry import TABLE\ndef go(x):\n    import plugins\n    return TABLE[x], plugins.f()\n",
         "registry": "TABLE = {}\n", "plugins": "from registry import TABLE\nTABLE[1] = 1\ndef f(): return 0\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "the package around an imported module": (
        {"flow": "import kit.inner\nfrom registry import TABLE\ndef go(x):\n    return TABLE[x]\n",
         "registry": "TABLE = {}\n", "kit/__init__": "from registry import TABLE\nTABLE['a'] = 1\n", "kit/inner": ""},
        ("kit/__init__", "= 1", "= 2"),
    ),
}  # fmt: skip
HITS: dict[str, tuple[dict[str, str], tuple[str, str, str]]] = {
    "a file that nothing imports": (
        {"flow": STEP, "registry": "TABLE = {}\n", "plugins": "", "idle": "from registry import TABLE\nTABLE['a'] = 1\n"},
        ("idle", "= 1", "= 2"),
    ),
    "a registry that the step does not reach": (
        {"flow": STEP, "registry": "TABLE = {}\nOTHER = {}\n", "plugins": "from registry import OTHER\nOTHER['a'] = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "what another file only reads": (
        {"flow": STEP, "registry": "TABLE = {}\n", "plugins": "import registry\nSIZE = len(registry.TABLE) + 1\n"},
        ("plugins", "+ 1", "+ 2"),
    ),
    "a function that would fill and is not called": (
        {"flow": STEP, "registry": "TABLE = {}\n", "plugins": "import registry\ndef fill():\n    registry.TABLE['a'] = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "another setting of the same file": (
        {"flow": "import plugins, config\ndef go(x):\n    return config.DEPTH\n", "config": "DEPTH = 1\nWIDTH = 1\n",
         "plugins": "import config\nconfig.WIDTH = 5\n"},
        ("plugins", "= 5", "= 6"),
    ),
    "a subclass of a plain class": (
        {"flow": "import plugins\nfrom shape import Shape\ndef go(x):\n    return Shape()\n", "shape": "class Shape: pass\n",
         "plugins": "from shape import Shape\nclass Round(Shape):\n    sides = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "a subclass that its base only marks": (
        {"flow": "import plugins\nfrom shape import Shape\ndef go(x):\n    return Shape()\n",
         "shape": "class Shape:\n    def __init_subclass__(cls):\n        cls.tags = set()\n        cls.tags.add('x')\n",
         "plugins": "from shape import Shape\nclass Round(Shape):\n    sides = 1\n"},
        ("plugins", "= 1", "= 2"),
    ),
    "a call of a reached function elsewhere": (
        {"flow": "import plugins\nfrom shape import area\ndef go(x):\n    return area(x)\n", "shape": "def area(x): return x\n",
         "plugins": "from shape import area\nprint(area(1))\n"},
        ("plugins", "area(1)", "area(2)"),
    ),
}  # fmt: skip


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def digests(root: Path, edit: tuple[str, str, str]) -> tuple[str, str]:
    """The digest of flow.py:go before and after an edit of one file."""
    before = Fingerprints(root).of("flow.py:go").digest
    path = root / f"{edit[0]}.py"
    text = path.read_text()
    assert text.count(edit[1]) == 1
    path.write_text(text.replace(edit[1], edit[2]))
    return before, Fingerprints(root).of("flow.py:go").digest


@pytest.mark.parametrize("name", MISSES)
def test_a_change_of_what_another_file_does_when_it_is_imported_misses(tmp_path: Path, name: str) -> None:
    files, edit = MISSES[name]
    write(tmp_path, files)
    before, after = digests(tmp_path, edit)
    assert before != after


@pytest.mark.parametrize("name", HITS)
def test_what_an_import_does_to_other_things_hits(tmp_path: Path, name: str) -> None:
    files, edit = HITS[name]
    write(tmp_path, files)
    before, after = digests(tmp_path, edit)
    assert before == after


def test_names_of_files_do_not_matter_to_registries(tmp_path: Path) -> None:
    files = dict(MISSES["a decorator of a third file"][0])
    write(tmp_path / "one", files)
    files["ztable"] = files.pop("registry")
    renamed = {name: text.replace("registry", "ztable") for name, text in files.items()}
    write(tmp_path / "two", {**renamed, "deco": "import ztable as registry\n" + files["deco"].partition("\n")[2]})
    first = Fingerprints(tmp_path / "one").of("flow.py:go")
    assert Fingerprints(tmp_path / "two").of("flow.py:go").digest == first.digest
    assert "plugins.py:one" in {part.name for part in first.parts}


def test_code_beside_the_project_counts_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable install puts its folder on the path, and so does PYTHONPATH."""
    monkeypatch.syspath_prepend(str(tmp_path / "library" / "src"))
    write(tmp_path / "work", {"flow": "import shopkit.prices as p\ndef go(x):\n    return p.total(x)\n"})
    text = "from .deep import rate\ndef total(x): return rate(x)\ndef other(x): return 1\n"
    write(tmp_path / "library" / "src" / "shopkit", {"__init__": "", "prices": text, "deep": "def rate(x): return x\n"})

    def now() -> str:
        return Fingerprints(tmp_path / "work").of("flow.py:go").digest

    before = now()
    found = Fingerprints(tmp_path / "work").of("flow.py:go")
    assert {part.name for part in found.parts} == {"flow.py:go", "shopkit/prices.py:total", "shopkit/deep.py:rate"}
    assert not found.unseen
    prices = tmp_path / "library" / "src" / "shopkit" / "prices.py"
    prices.write_text(text.replace("return 1", "return 2"))
    assert now() == before
    (tmp_path / "library" / "src" / "shopkit" / "deep.py").write_text("def rate(x): return 2 * x\n")
    assert now() != before


def test_an_editable_install_by_a_finder_counts_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = ModuleType("__editable___shopkit_1_0_finder")  # what setuptools makes for a package outside any src folder
    finder.MAPPING = {"shopkit": str(tmp_path / "library" / "shopkit")}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, finder.__name__, finder)
    write(tmp_path / "work", {"flow": "from shopkit import total\ndef go(x):\n    return total(x)\n"})
    write(
        tmp_path / "library" / "shopkit",
        {"__init__": "from .prices import total\n", "prices": "def total(x): return x\n"},
    )
    before = Fingerprints(tmp_path / "work").of("flow.py:go").digest
    (tmp_path / "library" / "shopkit" / "prices.py").write_text("def total(x): return 2 * x\n")
    assert Fingerprints(tmp_path / "work").of("flow.py:go").digest != before


def test_an_installed_package_still_counts_by_its_version(tmp_path: Path) -> None:
    write(tmp_path, {"flow": "import msgspec, yaml\ndef go(x):\n    return msgspec.json.encode(yaml.safe_load(x))\n"})
    found = Fingerprints(tmp_path).of("flow.py:go")
    assert set(found.packages) == {"msgspec", "pyyaml"}
    assert [part.name for part in found.parts] == ["flow.py:go", "flow.py:imports"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def go(x):\n    return x.__doc__\n", "flow.py:2: __doc__ reads docstrings"),
        ("import inspect\ndef go(x):\n    return inspect.getdoc(x)\n", "flow.py:3: inspect.getdoc reads docstrings"),
        ("def go(x):\n    return x.__subclasses__()\n", "flow.py:2: __subclasses__ finds classes"),
        ("from importlib.resources import files\ndef go(x):\n    return files(x)\n", "flow.py:3: importlib.resources.files"),
        ("import pkgutil\ndef go(x):\n    return pkgutil.get_data(x, 'a')\n", "flow.py:3: pkgutil.get_data reads a file"),
        ("from importlib.metadata import entry_points\ndef go():\n    return entry_points()\n", "entry_points finds modules"),
    ],
)  # fmt: skip
def test_what_no_name_leads_to_is_said(tmp_path: Path, source: str, said: str) -> None:
    write(tmp_path, {"flow": source})
    assert said in "\n".join(Fingerprints(tmp_path).of("flow.py:go").unseen)


def test_a_docstring_that_is_only_passed_on_is_not_complained_of(tmp_path: Path) -> None:
    write(tmp_path, {"flow": "def go(x):\n    def inner(): pass\n    inner.__doc__ = x.__doc__\n    return inner\n"})
    assert not Fingerprints(tmp_path).of("flow.py:go").unseen
