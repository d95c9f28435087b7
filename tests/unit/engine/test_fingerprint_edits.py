"""A corpus of edits to a small project: each must change the fingerprint of churn.py:train, or must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.engine.fingerprint import Fingerprints

PROJECT = {
    "churn.py": '''
"""The pipeline."""
from __future__ import annotations
import functools
import math as m
from math import floor as lower
from typing import TYPE_CHECKING
import yaml
from penstock import pipeline, step, Retry
import helpers
import shapes.round as rnd
from config import DEPTH, settings
from local_alias import first as one, second as two
from pkg import clean, widen as wide
from star import *
from . import sibling
import registry
import dispatch
import unused_module
from lazy import made

if TYPE_CHECKING:
    from schemas import Orders

LIMIT = 10
TABLE = {}
TABLE["a"] = 1
ROWS = [1]
ROWS.append(2)
TOTAL = 1
TOTAL += 2
for key in ("x", "y"):
    TABLE[key] = len(key)
if LIMIT > 5:
    MODE = "big"
else:
    MODE = "small"
try:
    import missing_package_zz as fast
except ImportError:
    fast = None
with open(__file__) as handle:
    FIRST = handle.readline()
SHUFFLED = [3, 1, 2]
m.fsum(SHUFFLED)
print("hello")
UNUSED = 1
COUNTER = 0
NAMES = ["f"]
first_pair, second_pair = 1, 2


def set_counter(n=5):
    global COUNTER
    COUNTER = n


set_counter()


def timed(fn):
    @functools.wraps(fn)
    def inner(*args):
        """inner doc"""
        return fn(*args)
    return inner


def default_depth():
    return 3


class Base:
    rate = 0.1

    def scale(self, x):
        return x * self.rate


class Meta(type):
    level = 1


class Model(Base, metaclass=Meta):
    """A model."""

    kind: str = "tree"

    def fit(self, x):
        return self.scale(x) + bump(x)

    @timed
    def never_called(self):
        return 1


def bump(x):
    return x + offset(x)


def offset(x):
    return 1 if x < 0 else bump(-x - 1)


def unreached(x):
    return x * 2


def shadow(x):
    return x


def nested_only():
    return 7


def in_fstring():
    return "f"


def in_lambda(v):
    return v


def in_comprehension(v):
    return v


@step
def other(rows):
    """Another step."""
    return len(rows)


@timed
@step(retry=Retry(attempts=3), timeout="10m")
def train(rows: list[int], orders: Orders, depth: int = DEPTH, kind: "Kind" = None, *, start=default_depth()) -> int:
    """Train a model."""
    # a comment
    from inner_import import deep
    import pkg.sub.leaf
    shadow = 3
    model = Model()

    def inside():
        return nested_only()

    total = sum(in_comprehension(row) for row in rows)
    text = f"{in_fstring()}"
    run = lambda value: in_lambda(value) + shadow
    total += helpers.mean(rows) + rnd.half(total) + settings.alpha + one(1) - two(2)
    total += clean(total) + wide(total) + starred(total) + sibling.near(total) + lower(total)
    total += registry.REGISTRY["a"](1) + dispatch.convert(total) + made(1)
    yaml.safe_load("a: 1")
    getattr(bare, NAMES[0])(total)
    return other(rows) + deep(total) + pkg.sub.leaf.grow(total) + TABLE["a"] + ROWS[0] + TOTAL + len(MODE) \\
        + len(FIRST) + SHUFFLED[0] + COUNTER + first_pair + LIMIT + (1 if fast else 2) + model.fit(inside()) \\
        + run(len(text))


import bare


class Kind:
    pass


@pipeline
def churn():
    return train([1], None)


if __name__ == "__main__":
    print(churn.run(), LIMIT, train)
''',
    "helpers.py": "import statistics\n\ndef mean(rows):\n    return total(rows) / len(rows)\n\n"
    "def total(rows):\n    return sum(rows)\n\ndef median(rows):\n    return statistics.median(rows)\n",
    "shapes/__init__.py": "WIDTH = 3\n",
    "shapes/round.py": "from . import WIDTH\nfrom .square import side as edge\n\n"
    "def half(x):\n    return x / 2 + WIDTH + edge(x)\n\ndef whole(x):\n    return x\n",
    "shapes/square.py": "from ..config import SIDE if False else None\n",
    "config.py": "import os\nDEPTH: int = 4\nOTHER = 5\n\nclass Settings:\n    alpha = 1\n    beta = 2\n\n"
    "settings = Settings()\nsettings.alpha = 3\n\ndef unused_setting():\n    return OTHER\n",
    "local_alias.py": "def first(x):\n    return x + STEP\n\ndef second(x):\n    return x + STEP\n\nSTEP = 1\n",
    "pkg/__init__.py": 'from .clean import clean\nfrom .wide import *\n__all__ = ["clean", "widen"]\nDEBUG = False\n',
    "pkg/clean.py": "from ._inner import strip\n\ndef clean(x):\n    return strip(x)\n\ndef dirty(x):\n    return x\n",
    "pkg/_inner.py": "def strip(x):\n    return x - 1\n",
    "pkg/wide.py": "def widen(x):\n    return x * _factor\n\n_factor = 2\n\ndef narrow(x):\n    return x\n",
    "pkg/sub/__init__.py": "",
    "pkg/sub/leaf.py": "def grow(x):\n    return x + 100\n\ndef shrink(x):\n    return x\n",
    "star.py": "def starred(x):\n    return x + _hidden\n\n_hidden = 5\n\ndef unstarred(x):\n    return x\n",
    "sibling.py": "def near(x):\n    return x\n\ndef far(x):\n    return -x\n",
    "registry.py": "REGISTRY = {}\n\n"
    "def register(name):\n    def add(fn):\n        REGISTRY[name] = fn\n        return fn\n"
    '    return add\n\n@register("a")\ndef impl_a(x):\n    return x\n\ndef plain(x):\n    return x\n',
    "dispatch.py": "from functools import singledispatch\n\n@singledispatch\ndef convert(x):\n    return x\n\n"
    "@convert.register\ndef _(x: int):\n    return x + 1\n\ndef stray(x):\n    return x\n",
    "lazy.py": "def __getattr__(name):\n    return maker(name)\n\n"
    "def maker(name):\n    return abs\n\ndef idle():\n    return 0\n",
    "inner_import.py": "def deep(x):\n    return x + 1\n\ndef shallow(x):\n    return x\n",
    "bare.py": "def f(x):\n    return x\n\ndef g(x):\n    return x\n",
    "unused_module.py": "VALUE = 1\n",
    "schemas.py": "class Orders:\n    amount: float\n\nclass Customers:\n    name: str\n",
}
PROJECT["shapes/square.py"] = "from config import OTHER as SIDE\n\ndef side(x):\n    return SIDE\n"

MISS = [
    # the function itself
    ("the body", "churn.py", "shadow = 3", "shadow = 4"),
    ("an operator", "churn.py", "helpers.mean(rows) + rnd", "helpers.mean(rows) - rnd"),
    ("its default's text", "churn.py", 'kind: "Kind" = None', 'kind: "Kind" = 1'),
    ("an annotation", "churn.py", "rows: list[int], orders", "rows: list[float], orders"),
    ("another decorator", "churn.py", "@timed\n@step(retry", "@step(retry"),
    ("int becomes float", "churn.py", "shadow = 3", "shadow = 3.0"),
    ("int becomes bool", "churn.py", "TOTAL = 1\n", "TOTAL = True\n"),
    # what it reaches in its own file
    ("a constant", "churn.py", "LIMIT = 10", "LIMIT = 11"),
    ("an item assignment", "churn.py", 'TABLE["a"] = 1', 'TABLE["a"] = 2'),
    ("an append", "churn.py", "ROWS.append(2)", "ROWS.append(3)"),
    ("an augmented assignment", "churn.py", "TOTAL += 2", "TOTAL += 3"),
    ("a loop that fills", "churn.py", "TABLE[key] = len(key)", "TABLE[key] = len(key) + 1"),
    ("what a loop runs over", "churn.py", '("x", "y")', '("x", "z")'),
    ("a branch that binds", "churn.py", 'MODE = "small"', 'MODE = "tiny"'),
    ("a condition that binds", "churn.py", "if LIMIT > 5", "if LIMIT > 6"),
    ("a try that imports", "churn.py", "    fast = None", "    fast = 1"),
    ("a with that binds", "churn.py", "handle.readline()", "handle.read()"),
    ("a call on a reached name", "churn.py", "m.fsum(SHUFFLED)", "m.prod(SHUFFLED)"),
    ("a new statement that changes", "churn.py", "UNUSED = 1\n", "UNUSED = 1\nROWS.reverse()\n"),
    ("a deletion", "churn.py", "UNUSED = 1\n", "UNUSED = 1\ndel TABLE['a']\n"),
    ("a function that sets a global", "churn.py", "    COUNTER = n", "    COUNTER = n + 1"),
    ("the call that sets a global", "churn.py", "\nset_counter()\n", "\nset_counter(6)\n"),
    ("tuple unpacking", "churn.py", "first_pair, second_pair = 1, 2", "first_pair, second_pair = 2, 1"),
    ("a decorator's body", "churn.py", "return fn(*args)", "return fn(*args) or 0"),
    (
        "a default argument's function",
        "churn.py",
        "def default_depth():\n    return 3",
        "def default_depth():\n    return 4",
    ),
    ("a base class", "churn.py", "rate = 0.1", "rate = 0.2"),
    ("a metaclass", "churn.py", "level = 1", "level = 2"),
    ("a class attribute", "churn.py", 'kind: str = "tree"', 'kind: str = "bush"'),
    ("a class annotation", "churn.py", 'kind: str = "tree"', 'kind: bytes = "tree"'),
    ("a method", "churn.py", "self.scale(x) + bump(x)", "self.scale(x) - bump(x)"),
    (
        "a method nobody calls",
        "churn.py",
        "def never_called(self):\n        return 1",
        "def never_called(self):\n        return 2",
    ),
    ("a helper's helper, in a cycle", "churn.py", "return 1 if x < 0", "return 2 if x < 0"),
    ("used in a nested function", "churn.py", "return 7", "return 8"),
    ("used in an f-string", "churn.py", 'return "f"', 'return "g"'),
    ("used in a lambda", "churn.py", "def in_lambda(v):\n    return v", "def in_lambda(v):\n    return -v"),
    (
        "used in a comprehension",
        "churn.py",
        "def in_comprehension(v):\n    return v",
        "def in_comprehension(v):\n    return -v",
    ),
    ("a quoted annotation's class", "churn.py", "class Kind:\n    pass", "class Kind:\n    size = 1"),
    ("another step", "churn.py", "return len(rows)\n\n\n@timed", "return len(rows) + 1\n\n\n@timed"),
    ("what an outside alias stands for", "churn.py", "floor as lower", "ceil as lower"),
    ("two aliases swapped", "churn.py", "first as one, second as two", "second as one, first as two"),
    ("a builtin that gets shadowed", "churn.py", "UNUSED = 1\n", "UNUSED = 1\ndef sum(x): return 0\n"),
    # other files
    ("import module, attribute", "helpers.py", "total(rows) / len", "total(rows) // len"),
    ("one further", "helpers.py", "return sum(rows)", "return sum(rows) + 1"),
    ("a submodule under an alias", "shapes/round.py", "return x / 2", "return x / 3"),
    ("a constant of a package", "shapes/__init__.py", "WIDTH = 3", "WIDTH = 4"),
    ("a relative import under an alias", "shapes/square.py", "return SIDE", "return SIDE + 1"),
    ("an alias of an alias", "config.py", "OTHER = 5", "OTHER = 6"),
    ("a default argument's constant", "config.py", "DEPTH: int = 4", "DEPTH: int = 5"),
    ("an instance's class", "config.py", "beta = 2", "beta = 3"),
    ("an attribute set on an instance", "config.py", "settings.alpha = 3", "settings.alpha = 4"),
    ("a re-export's definition", "pkg/clean.py", "return strip(x)", "return strip(x) + 1"),
    ("behind a re-export", "pkg/_inner.py", "return x - 1", "return x - 2"),
    ("a re-export by star", "pkg/wide.py", "return x * _factor", "return x + _factor"),
    ("a private name behind a star", "pkg/wide.py", "_factor = 2", "_factor = 3"),
    ("import of a dotted module inside", "pkg/sub/leaf.py", "return x + 100", "return x + 101"),
    ("a star import", "star.py", "return x + _hidden", "return x - _hidden"),
    ("from . import module", "sibling.py", "def near(x):\n    return x", "def near(x):\n    return x + 1"),
    ("a registered implementation", "registry.py", "def impl_a(x):\n    return x", "def impl_a(x):\n    return x + 1"),
    ("a new registered implementation", "registry.py", "def plain", '@register("b")\ndef plain'),
    ("a single-dispatch case", "dispatch.py", "return x + 1", "return x + 2"),
    ("a module-level __getattr__", "lazy.py", "return abs", "return round"),
    ("an import inside the function", "inner_import.py", "return x + 1", "return x + 2"),
    ("a module used bare", "bare.py", "def g(x):\n    return x", "def g(x):\n    return -x"),
    ("a class for type checkers", "schemas.py", "amount: float", "amount: int"),
]

HIT = [
    ("a comment", "churn.py", "# a comment", "# another comment"),
    ("a docstring", "churn.py", '"""Train a model."""', '"""Fit it."""'),
    ("no docstring", "churn.py", '    """Train a model."""\n', ""),
    ("a class docstring", "churn.py", '    """A model."""\n', '    """Any model."""\n'),
    ("a nested docstring", "churn.py", '"""inner doc"""', '"""other"""'),
    ("the module's docstring", "churn.py", '"""The pipeline."""', '"""Pipelines."""'),
    ("blank lines", "churn.py", "def bump(x):\n", "\n\n\ndef bump(x):\n\n\n"),
    ("quotes", "churn.py", 'MODE = "small"', "MODE = 'small'"),
    ("parentheses", "churn.py", "return x + offset(x)", "return (x + (offset(x)))"),
    ("a joined line", "churn.py", "len(MODE) \\\n        +", "len(MODE) +"),
    ("a number's spelling", "churn.py", "LIMIT = 10", "LIMIT = 0xA"),
    ("the retry policy", "churn.py", "attempts=3", "attempts=9"),
    ("the timeout", "churn.py", 'timeout="10m"', 'timeout="20m"'),
    ("other's decorator", "churn.py", "@step\ndef other", '@step(timeout="1m")\ndef other'),
    ("the pipeline", "churn.py", "return train([1], None)", "return train([2], None)"),
    ("the main block", "churn.py", "print(churn.run(), LIMIT, train)", "print(LIMIT + 1, train, 5)"),
    ("an unreached function", "churn.py", "return x * 2", "return x * 3"),
    ("an unreached constant", "churn.py", "UNUSED = 1", "UNUSED = 2"),
    ("a shadowed name's definition", "churn.py", "def shadow(x):\n    return x", "def shadow(x):\n    return -x"),
    ("a side effect on nothing reached", "churn.py", 'print("hello")', 'print("bye")'),
    ("a new unreached function", "churn.py", "UNUSED = 1\n", "UNUSED = 1\n\ndef fresh():\n    return UNUSED\n"),
    ("the order of definitions", "churn.py", "class Kind:\n    pass\n", "NEW = 1\n\n\nclass Kind:\n    pass\n"),
    (
        "the order of imports",
        "churn.py",
        "import functools\nimport math as m\n",
        "import math as m\nimport functools\n",
    ),
    ("an unused import", "churn.py", "import unused_module\n", ""),
    ("a stdlib import added", "churn.py", "import functools\n", "import functools, json\n"),
    ("an unreached helper", "helpers.py", "statistics.median(rows)", "statistics.mean(rows)"),
    ("a helper's comment", "helpers.py", "def total(rows):\n", "def total(rows):\n    # adds\n"),
    (
        "an unreached function of a submodule",
        "shapes/round.py",
        "def whole(x):\n    return x",
        "def whole(x):\n    return 1",
    ),
    ("an unreached config function", "config.py", "return OTHER", "return OTHER + 1"),
    (
        "an unreached name beside a re-export",
        "pkg/clean.py",
        "def dirty(x):\n    return x",
        "def dirty(x):\n    return 0",
    ),
    ("an unreached constant of a package", "pkg/__init__.py", "DEBUG = False", "DEBUG = True"),
    (
        "an unreached name behind a star",
        "star.py",
        "def unstarred(x):\n    return x",
        "def unstarred(x):\n    return 2",
    ),
    ("an unregistered function", "registry.py", "def plain(x):\n    return x", "def plain(x):\n    return 2"),
    ("a function beside single dispatch", "dispatch.py", "def stray(x):\n    return x", "def stray(x):\n    return 3"),
    ("a function beside __getattr__", "lazy.py", "return 0", "return 1"),
    (
        "an unreached neighbour of a local import",
        "inner_import.py",
        "def shallow(x):\n    return x",
        "def shallow(x): 1",
    ),
    ("an unreached schema", "schemas.py", "name: str", "name: bytes"),
    ("a module nobody mentions", "unused_module.py", "VALUE = 1", "VALUE = 2"),
]


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def fingerprint(root: Path, target: str = "churn.py:train") -> str:
    return Fingerprints(root, None).of(target).digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, PROJECT)
    return tmp_path


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("untouched")
    write(root, PROJECT)
    return fingerprint(root)


def edit(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text()
    assert text.count(old) == 1, f"the edit must name one place, not {text.count(old)}"
    compile(text.replace(old, new), file, "exec", dont_inherit=True)
    (root / file).write_text(text.replace(old, new))


@pytest.mark.parametrize(("file", "old", "new"), [each[1:] for each in MISS], ids=[each[0] for each in MISS])
def test_an_edit_of_what_a_step_reaches_misses(root: Path, untouched: str, file: str, old: str, new: str) -> None:
    edit(root, file, old, new)
    assert fingerprint(root) != untouched


@pytest.mark.parametrize(("file", "old", "new"), [each[1:] for each in HIT], ids=[each[0] for each in HIT])
def test_an_edit_that_a_step_cannot_notice_hits(root: Path, untouched: str, file: str, old: str, new: str) -> None:
    edit(root, file, old, new)
    assert fingerprint(root) == untouched


def test_a_renamed_file_keeps_the_digest(root: Path, untouched: str) -> None:
    (root / "churn.py").rename(root / "renamed.py")
    assert fingerprint(root, "renamed.py:train") == untouched


def test_a_definition_moved_to_another_file_keeps_the_digest(root: Path, untouched: str) -> None:
    text = (root / "helpers.py").read_text()
    (root / "moved.py").write_text("def total(rows):\n    return sum(rows)\n")
    (root / "helpers.py").write_text(
        text.replace("def total(rows):\n    return sum(rows)\n", "").replace(
            "import stat", "from moved import total\nimport stat"
        )
    )
    assert fingerprint(root) == untouched


def test_the_package_behind_an_import_is_recorded_with_its_version(root: Path) -> None:
    found = Fingerprints(root, None).of("churn.py:train")
    assert set(found.packages) == {"pyyaml"}
    assert found.packages["pyyaml"][0].isdigit()


def test_what_cannot_be_followed_is_said_with_its_place(root: Path) -> None:
    found = Fingerprints(root, None).of("churn.py:train")
    assert any("getattr on module 'bare'" in each and each.startswith("churn.py:") for each in found.unseen)


def test_digests_do_not_depend_on_the_hash_seed(root: Path, untouched: str) -> None:
    script = (
        "import sys; from pathlib import Path; from penstock.engine.fingerprint import Fingerprints;"
        "print(Fingerprints(Path(sys.argv[1]), None).of('churn.py:train').digest)"
    )
    for seed in ("1", "77"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script, str(root)]
        seen = subprocess.run(command, capture_output=True, text=True, check=True, env=environ).stdout.strip()
        assert seen == untouched


def test_names_count_wherever_the_project_lies(tmp_path: Path, untouched: str) -> None:
    write(tmp_path / "deeper" / "still", PROJECT)
    assert fingerprint(tmp_path / "deeper" / "still") == untouched
    assert fingerprint(tmp_path, "deeper/still/churn.py:train") == untouched
