"""Which definitions a step reaches: Python's own rules of scope and import, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.engine.fingerprint import Fingerprints

CASES = [
    (
        "method target",
        "flow.py:K.m",
        "flow.py:K flow.py:h",
        {"flow.py": "def h(): 1\nclass K:\n    def m(self): return h()\n"},
    ),
    (
        "cyc imports",
        "flow.py:go",
        "b.py:g flow.py:go flow.py:x",
        {"flow.py": "from b import g\nx=1\ndef go(): return g()\n", "b.py": "from flow import x\ndef g(): return x\n"},
    ),
    (
        "cyc same name",
        "flow.py:go",
        "flow.py:go",
        {"flow.py": "from b import g\ndef go(): return g()\n", "b.py": "from flow import g\n"},
    ),
    (
        "class scope skip",
        "flow.py:go",
        "flow.py:K flow.py:go flow.py:x",
        {"flow.py": "x=1\nclass K:\n    x=2\n    def m(self): return x\ndef go(): return K()\n"},
    ),
    (
        "class x=x",
        "flow.py:go",
        "flow.py:K flow.py:go flow.py:x",
        {"flow.py": "x=1\nclass K:\n    x=x\ndef go(): return K()\n"},
    ),
    (
        "class own",
        "flow.py:go",
        "flow.py:K flow.py:go",
        {"flow.py": "x=1\nclass K:\n    x=2\n    y=x\ndef go(): return K()\n"},
    ),
    ("walrus comp", "flow.py:go", "flow.py:go", {"flow.py": "y=1\ndef go(a): return [y := b for b in a], y\n"}),
    ("comp iter outer", "flow.py:go", "flow.py:go flow.py:x", {"flow.py": "x=1\ndef go(): return [x for x in x]\n"}),
    (
        "match",
        "flow.py:go",
        "flow.py:P flow.py:go",
        {
            "flow.py": "class P: ...\ny=1\nz=2\ndef go(a):\n    match a:\n        case P(q=y): return y\n"
            "        case [*z]: return z\n",
        },
    ),
    (
        "except name",
        "flow.py:go",
        "flow.py:go",
        {"flow.py": "e=1\ndef go():\n    try: 1\n    except ValueError as e: return e\n"},
    ),
    (
        "nonlocal",
        "flow.py:go",
        "flow.py:go",
        {
            "flow.py": "n=1\ndef go():\n    n=0\n    def i():\n        nonlocal n\n        n+=1\n"
            "        return n\n    return i\n",
        },
    ),
    (
        "global in nested",
        "flow.py:go",
        "flow.py:go flow.py:n",
        {"flow.py": "n=1\ndef go():\n    n=0\n    def i():\n        global n\n        return n\n    return i\n"},
    ),
    ("del param", "flow.py:go", "flow.py:go", {"flow.py": "n=1\ndef go(n):\n    del n\n"}),
    ("for local", "flow.py:go", "flow.py:go", {"flow.py": "n=1\ndef go(a):\n    for n in a: print(n)\n"}),
    (
        "lambda default",
        "flow.py:go",
        "flow.py:go flow.py:n",
        {"flow.py": "n=1\ndef go(a):\n    return lambda n=n: n\n"},
    ),
    (
        "lambda const",
        "flow.py:go",
        "flow.py:f flow.py:go flow.py:n",
        {"flow.py": "n=1\nf=lambda a: a+n\ndef go(a):\n    return f(a)\n"},
    ),
    (
        "partial",
        "flow.py:go",
        "flow.py:f flow.py:go flow.py:imports flow.py:n",
        {"flow.py": "from functools import partial\ndef n(a,b):1\nf=partial(n,1)\ndef go(a):\n    return f(a)\n"},
    ),
    (
        "type hints union str",
        "flow.py:go",
        "flow.py:A flow.py:B flow.py:go",
        {"flow.py": 'class A:...\nclass B:...\ndef go(a: "list[A] | None") -> "B": 1\n'},
    ),
    ("local annotated", "flow.py:go", "flow.py:A flow.py:go", {"flow.py": "class A:...\ndef go(a):\n    x: A = a\n"}),
    (
        "src layout",
        "flow.py:go",
        "flow.py:go src/lib/__init__.py:f",
        {"flow.py": "import lib\ndef go(a): return lib.f(a)\n", "src/lib/__init__.py": "def f(a): 1\n"},
    ),
    (
        "namespace",
        "flow.py:go",
        "flow.py:go ns/sub/m.py:f",
        {"flow.py": "import ns.sub.m\ndef go(a): return ns.sub.m.f(a)\n", "ns/sub/m.py": "def f(a): 1\n"},
    ),
    (
        "ns from",
        "flow.py:go",
        "flow.py:go flow.py:imports ns/sub/m.py:f",
        {"flow.py": "from ns.sub import m as q\ndef go(a): return q.f(a)\n", "ns/sub/m.py": "def f(a): 1\n"},
    ),
    (
        "pipelines subdir",
        "pipes/flow.py:go",
        "helpers.py:f pipes/flow.py:go pipes/near.py:g",
        {
            "pipes/flow.py": "import helpers, near\ndef go(a): return helpers.f(a), near.g()\n",
            "helpers.py": "def f(a): 1\n",
            "pipes/near.py": "def g(): 1\n",
        },
    ),
    (
        "rel from pkg",
        "pk/a/flow.py:go",
        "pk/a/flow.py:go pk/b.py:f",
        {
            "pk/__init__.py": "",
            "pk/a/__init__.py": "",
            "pk/a/flow.py": "from .. import b\ndef go(a): return b.f(a)\n",
            "pk/b.py": "def f(a): 1\n",
        },
    ),
    (
        "chained star",
        "flow.py:go",
        "c.py:f flow.py:go",
        {
            "flow.py": "from a import *\ndef go(a): return f(a)\n",
            "a.py": "from b import *",
            "b.py": "from c import *",
            "c.py": "def f(a):1\ndef g(): 1\n",
        },
    ),
    (
        "star cyc",
        "flow.py:go",
        "flow.py:go",
        {"flow.py": "from a import *\ndef go(a): return zz(a)\n", "a.py": "from b import *", "b.py": "from a import *"},
    ),
    (
        "try import alt",
        "flow.py:go",
        "a.py:f b.py:f flow.py:f flow.py:go",
        {
            "flow.py": "try:\n    from a import f\nexcept ImportError:\n    from b import f\ndef go(a): return f(a)\n",
            "a.py": "def f(a):1\n",
            "b.py": "def f(a): 1\n",
        },
    ),
    (
        "decor class",
        "flow.py:go",
        "flow.py:K flow.py:go flow.py:imports",
        {"flow.py": "from dataclasses import dataclass\n@dataclass\nclass K:\n    x: int = 1\ndef go(k: K): 1\n"},
    ),
    (
        "getattr str mod",
        "flow.py:go",
        "flow.py:go h.py:f h.py:g",
        {"flow.py": 'import h\ndef go(a): return getattr(h,"f")\n', "h.py": "def f():1\ndef g():1\n"},
    ),
    ("kw default", "flow.py:go", "flow.py:d flow.py:go", {"flow.py": "d=1\ndef go(*, a=d): 1\n"}),
    (
        "overloads",
        "flow.py:go",
        "flow.py:f flow.py:f@(2) flow.py:go",
        {"flow.py": "def f():1\nf=f\ndef go(): return f()\n"},
    ),
    (
        "if def",
        "flow.py:go",
        "flow.py:f flow.py:go flow.py:h flow.py:imports",
        {
            "flow.py": "import sys\ndef h():1\n"
            'if sys.platform=="x":\n    def f(): return h()\nelse:\n    def f(): 2\ndef go(): return f()\n'
        },
    ),
    (
        "enum",
        "flow.py:go",
        "flow.py:E flow.py:go flow.py:imports",
        {"flow.py": "import enum\nclass E(enum.Enum):\n    A=1\ndef go(): return E.A.value\n"},
    ),
    (
        "global filler only",
        "flow.py:go",
        "flow.py:go flow.py:init flow.py:init@(2)",
        {"flow.py": "def init():\n    global CFG\n    CFG = 1\ninit()\ndef go(): return CFG\n"},
    ),
    (
        "stats decorator: siblings out",
        "flow.py:go",
        "flow.py:T flow.py:go flow.py:timed",
        {"flow.py": "T=[]\ndef timed(f):\n    T.append(f)\n    return f\n@timed\ndef go(): 1\n@timed\ndef sib(): 1\n"},
    ),
    (
        "os environ filler",
        "flow.py:go",
        "flow.py:go flow.py:imports",
        {"flow.py": 'import os\ndef put(): os.environ["a"]="b"\ndef go(): return os.getcwd()\n'},
    ),
    (
        "class registry subclass",
        "flow.py:go",
        "flow.py:B flow.py:C flow.py:go",
        {
            "flow.py": "class B:\n    subs=[]\n    def __init_subclass__(cls): B.subs.append(cls)\n"
            "class C(B): 1\ndef go(): return B.subs\n",
        },
    ),
    ("future", "flow.py:go", "flow.py:go", {"flow.py": "from __future__ import annotations\ndef go(): 1\n"}),
    ("bom crlf", "flow.py:go", "flow.py:go flow.py:n", {"flow.py": "\ufeffn=1\r\ndef go():\r\n    return n\r\n"}),
    (
        "mutated by import",
        "flow.py:go",
        "cfg.py:X flow.py:X flow.py:go",
        {"flow.py": "from cfg import X\nX.append(2)\ndef go(): return X\n", "cfg.py": "X=[1]\n"},
    ),
    (
        "module attr set",
        "flow.py:go",
        "cfg.py:X flow.py:cfg flow.py:go",
        {"flow.py": "import cfg\ncfg.X = 3\ndef go(): return cfg.X\n", "cfg.py": "X=1\n"},
    ),
]


@pytest.mark.parametrize(("target", "reached", "files"), [each[1:] for each in CASES], ids=[each[0] for each in CASES])
def test_a_step_reaches_exactly_these(tmp_path: Path, target: str, reached: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    parts = Fingerprints(tmp_path).of(target).parts
    assert {part.name for part in parts} == {each.replace("@", " ") for each in reached.split()}
