"""Large libraries taken as if they were the user's own code, and what really runs of them.

What a step reaches is not asked of the code under test: a profiler in a process of its own says which functions a call
entered, which names of their modules these read, and which files were imported at all.
"""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

STEPS = {
    "sklearn": """
import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

X = np.array([[0.0, 1], [1, 0], [2, 3], [3, 2.5], [0, 1.2], [4, 4]])
Y = np.array([0, 0, 1, 1, 0, 1])

def fit():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    return roc_auc_score(Y, model.predict_proba(X)[:, 1])

def grow():
    return DecisionTreeClassifier().fit(X, Y).predict(X)

def count():
    return CountVectorizer(stop_words="english").fit_transform(["a bc def", "bc gh"]).sum()

def group():
    return KMeans(2, n_init=1).fit(X).inertia_
""",
    "sympy": """
from sympy import integrate, symbols

def area():
    x = symbols("x")
    return str(integrate(x**2 + x, x))
""",
    "networkx": """
import networkx as nx

def rank():
    return nx.pagerank(nx.path_graph(9))

def way():
    return nx.shortest_path(nx.path_graph(5), 0, 4)
""",
}
BESIDE = {"sklearn": ("scikit_learn.libs",)}  # shared objects that a wheel keeps outside its package
TRACE = """
import dis, json, os, sys, types
root, *steps = sys.argv[1:]
sys.path.insert(0, root)
import flow
for step in steps[:-1]:  # a child for each: what one step has kept for later must not hide calls of the next
    if not (child := os.fork()):
        break
    os.waitpid(child, 0)
else:
    step = steps[-1]
entered = {}
def note(frame, event, _):
    code = frame.f_code
    if event != "call" or code in entered or not code.co_filename.startswith(root + os.sep):
        return
    outer = frame
    while outer is not None:
        if outer.f_code.co_name == "<module>" and outer.f_code is not main:
            return  # it runs because a module is imported now, which is no call of the step
        outer = outer.f_back
    names, packages = {}, {}
    for each in dis.get_instructions(code):
        if each.opname == "LOAD_GLOBAL" and each.argval in frame.f_globals:
            value = frame.f_globals[each.argval]
            names[each.argval] = None
            if isinstance(value, types.ModuleType):
                packages[each.argval] = value.__name__
    entered[code] = [code.co_filename[len(root) + 1:], code.co_firstlineno, code.co_qualname, list(names), packages]
main = sys._getframe().f_code
sys.setprofile(note)
getattr(flow, step)()
sys.setprofile(None)
files = [getattr(each, "__file__", None) or "" for each in list(sys.modules.values())]
imported = sorted({each[len(root) + 1:] for each in files if each.startswith(root + os.sep) and each.endswith(".py")})
print(json.dumps({"step": step, "entered": list(entered.values()), "imported": imported}))
"""


class Entered(msgspec.Struct, frozen=True, array_like=True):
    """A code object that ran: where it is, the names of its module that it reads, and modules of these."""

    file: str
    line: int
    qualname: str
    names: tuple[str, ...]
    modules: dict[str, str]


class Trace(msgspec.Struct, frozen=True):
    step: str
    entered: list[Entered]
    imported: list[str]


class RealProject:
    """A folder with a copy of an installed library and a file of steps that use it."""

    def __init__(self, library: str, root: Path) -> None:
        self.library = library
        self.root = root
        found = importlib.util.find_spec(library)
        assert found is not None
        assert found.origin is not None
        source = Path(found.origin).parent
        shutil.copytree(source, root / library, ignore=shutil.ignore_patterns("__pycache__", "tests", "*.pyc"))
        for name in BESIDE.get(library, ()):
            if (source.parent / name).exists():
                shutil.copytree(source.parent / name, root / name)
        (root / "flow.py").write_text(STEPS[library])
        self.steps = [node.name for node in ast.parse(STEPS[library]).body if isinstance(node, ast.FunctionDef)]
        command = [sys.executable, "-P", "-B", "-W", "ignore", "-c", TRACE, str(root), *self.steps]
        output = subprocess.run(command, capture_output=True, text=True, check=True)
        traces = [msgspec.json.decode(line, type=Trace) for line in output.stdout.splitlines() if line[:1] == "{"]
        self.traces = {trace.step: trace for trace in traces}
        assert self.traces.keys() == set(self.steps)

    def files(self) -> Iterator[Path]:
        """Every source file of the library."""
        return (path for path in sorted((self.root / self.library).rglob("*.py")))

    @property
    def imported(self) -> set[str]:
        """Files that any step imports."""
        return {name for trace in self.traces.values() for name in trace.imported}
