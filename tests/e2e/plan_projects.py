"""Generated projects of steps, helpers, constants and classes, and edits of them: what plans are tried on."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

HEAD = """
from __future__ import annotations

import truth_trace
from penstock import context, optional, pipeline, step, when
from penstock.data.files import FileObserver
from alpha import *
import beta
from kinds import Scale

"""
HELPER = """
def {name}(x: int) -> int:
    {doc}
    return (x * {a} + {b}{more}) % 1009
"""
KINDS = """
BASE = {base}


class Scale:
    {doc}

    factor = {factor}

    def of(self, x: int) -> int:
        return x * self.factor + BASE
"""


@dataclass
class StepCode:
    """One step as it is written: its shape, the number in its body, the helper that it calls."""

    name: str
    shape: str
    needs: list[str]
    number: int
    helper: str
    comment: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass
class Generated:
    """A project as text, and everything outside it that its runs depend on."""

    steps: list[StepCode]
    helpers: dict[str, dict[str, Any]]
    constants: dict[str, int]
    parameters: dict[str, Any]
    data: str = "1\n2\n3\n"
    region: str = "north"
    blank: int = 0

    def files(self) -> dict[str, str]:
        found = {"kinds.py": KINDS.format(doc='"""Kinds."""', **self.constants)}
        for file in ("alpha", "beta"):
            text = "" if file == "alpha" else "from alpha import *\n"
            for name, each in self.helpers.items():
                if each["file"] == file:
                    more = f" + {each['calls']}(x + 1)" if each["calls"] else ""
                    text += HELPER.format(name=name, more=more, a=each["a"], b=each["b"], doc=f'"""{each["doc"]}"""')
            found[f"{file}.py"] = text
        body = "\n" * self.blank + "".join(self._step(each) for each in self.steps)
        found["flow.py"] = HEAD + body + self._pipeline()
        return found

    def _step(self, each: StepCode) -> str:
        called = each.helper if self.helpers[each.helper]["file"] == "alpha" else f"beta.{each.helper}"
        options = ", ".join(f"{name}={text}" for name, text in {"isolation": '"thread"', **each.options}.items())
        head, result = SHAPES[each.shape]
        lines = [f"@step({options})", f"def {each.name}({head}", f"    truth_trace.ran({each.name!r})"]
        lines += [f"    {each.comment}"] if each.comment else []
        return (
            "\n".join([*lines, *(f"    {line}" for line in result.format(h=called, n=each.number).splitlines())])
            + "\n\n\n"
        )

    def _pipeline(self) -> str:
        lines = ["@pipeline", "def flow(n: int, sizes: list[int], least: int, uri: str) -> None:"]
        for each in self.steps:
            first, second = (*(f"v_{need}" for need in each.needs), "n", "n")[:2]
            call = CALLS.get(each.shape, "{s}({a})")
            if each.shape == "guarded":
                lines.append(f"    with when({first}):")
            indent = "        " if each.shape == "guarded" else "    "
            lines.append(f"{indent}v_{each.name} = {call.format(s=each.name, a=first, b=second)}")
            if each.shape == "twin":
                lines.append("    " + call.format(s=f"{each.name}.named('{each.name}b')", a=first, b=second))
        return "\n".join(lines) + "\n"


# shape: how the pipeline calls it, where that is not step(first need)
CALLS = {
    "source": "{s}(n)",
    "file": "{s}(uri)",
    "region": "{s}()",
    "two": "{s}({a}, {b})",
    "spread": "{s}.map(x=sizes)",
    "mapped": "{s}.map(x={a})",
    "gate": "{s}({a}, least)",
    "guarded": "{s}({b})",
    "after": "{s}.after({a})(n)",
    "maybe": "{s}(optional({a}))",
}
# shape: the rest of its signature, its last lines; {h} is a helper, {n} a number that edits change
SHAPES = {
    "source": ("n: int) -> int:", "return {h}(n) + {n}"),
    "file": (
        "uri: str) -> int:",
        'context().observe("file", uri, FileObserver().version(uri) or "gone")\n'
        "return sum(int(line) for line in Path(uri).read_text().split()) + {n}",
    ),
    "region": (") -> int:", 'import os\nreturn len(os.environ.get("TRUTH_REGION", "")) + {n}'),
    "one": ("x: int) -> int:", "return {h}(x) + {n}"),
    "coarse": ("x: int) -> int:", "return {h}(x) // 400 + 0 * {n}"),
    "two": ("x: int, y: int) -> int:", "return {h}(x) - y * {n}"),
    "kind": ("x: int) -> int:", "return Scale().of({h}(x)) + {n}"),
    "listed": ("x: int) -> list[int]:", "return [{h}(i) + {n} for i in range(x % 4)]"),
    "large": ("x: int) -> list[int]:", "return [10**4000 + x + {n}] * 3"),  # too large to be kept inline
    "spread": ("x: int) -> int:", "return {h}(x) + {n}"),
    "mapped": ("x: int) -> int:", "return {h}(x) % 50 + {n}"),
    "joined": ("xs: list[int]) -> int:", "return sum(xs) % 1000 + {n}"),
    "twin": ("x: int) -> int:", "return {h}(x) + {n}"),
    "gate": ("x: int, least: int) -> bool:", "return ({h}(x) + {n}) % 10 >= least"),
    "guarded": ("x: int) -> int:", "return {h}(x) + {n}"),
    "maybe": ("x: int | None) -> int:", "return -1 if x is None else x + {n}"),
    "fails": ("x: int) -> int:", "if ({h}(x) + {n}) % 5 == 0:\n    raise ValueError(x)\nreturn x"),
    "after": ("n: int) -> int:", "return n + {n}"),
    "effect": ("x: int) -> str:", 'return f"told {{x}} {n}"'),
}
HEAD = HEAD.replace("import truth_trace\n", "from pathlib import Path\n\nimport truth_trace\n")
OFTEN = (
    "gate",
    "guarded",
    "guarded",
    "maybe",
    "listed",
    "mapped",
    "mapped",
    "joined",
    "coarse",
    "twin",
    "two",
    "two",
    "two",
)
GIVES = {
    "listed": "list",
    "large": "list",
    "spread": "list",
    "mapped": "list",
    "gate": "bool",
    "guarded": "skips",
    "effect": "text",
}


def generate(chance: random.Random) -> Generated:
    """A project of 5 to 15 steps; each takes what earlier ones give."""
    helpers = {}
    for number in range(6):
        file = "alpha" if number < 3 else "beta"
        calls = chance.choice(
            ["", *(name for name, each in helpers.items() if each["file"] == "alpha" or file == "beta")]
        )
        helpers[f"h{number}"] = {
            "file": file,
            "a": chance.randint(2, 9),
            "b": chance.randint(0, 99),
            "calls": calls,
            "doc": "x",
        }
    given: dict[str, list[str]] = {"int": [], "list": [], "bool": [], "skips": [], "text": []}
    steps: list[StepCode] = []
    names = ["source", "file", *chance.choices([*SHAPES, *OFTEN], k=chance.randint(3, 12))]
    for number, shape in enumerate(names):
        needs = _needs(shape, given, chance)
        if needs is None:
            shape, needs = "one", [chance.choice(given["int"])]
        each = StepCode(f"s{number}", shape, needs, chance.randint(1, 9), chance.choice([*helpers]))
        match shape:
            case "region":
                each.options["env"] = '("TRUTH_REGION",)'
            case "effect":
                each.options["effect"] = chance.choice(['"at-least-once"', '"exactly-once"', '"at-most-once"'])
        if chance.random() < 0.08:
            each.options["cache"] = "False"
        given[GIVES.get(shape, "int")].append(each.name)
        steps.append(each)
    constants = {"base": chance.randint(1, 9), "factor": chance.randint(1, 9)}
    parameters = {"n": chance.randint(1, 50), "sizes": [1, 2, 3][: chance.randint(0, 3)], "least": chance.randint(0, 9)}
    return Generated(steps, helpers, constants, parameters)


def _needs(shape: str, given: dict[str, list[str]], chance: random.Random) -> list[str] | None:
    match shape:
        case "source" | "file" | "region" | "spread":
            wanted: list[str] = []
        case "mapped" | "joined":
            wanted = ["list"]
        case "maybe":
            wanted = ["skips"]
        case "guarded":
            wanted = ["bool", "int"]
        case "two":
            wanted = ["int", "int"]
        case _:
            wanted = ["int"]
    if any(not given[each] for each in wanted):
        return None
    return [chance.choice(given[each]) for each in wanted]


# ---- edits: each changes the project, and gives the options of the next run


def edit(project: Generated, history: list[Generated], chance: random.Random) -> tuple[str, dict[str, Any]]:
    """One edit, in words, and how the next run is asked for."""
    kind = chance.choice(EDITS)
    each, helper = chance.choice(project.steps), chance.choice([*project.helpers])
    options: dict[str, Any] = {}
    match kind:
        case "a helper":
            project.helpers[helper][chance.choice("ab")] += chance.randint(1, 5)
        case "a helper's docstring":
            project.helpers[helper]["doc"] += "!"
        case "a moved helper" if not project.helpers[helper]["calls"] and helper == "h2":
            project.helpers[helper]["file"] = "beta" if project.helpers[helper]["file"] == "alpha" else "alpha"
        case "a step":
            each.number += chance.randint(1, 5)
        case "a comment":
            each.comment += "# more "
        case "blank lines":
            project.blank += 1
        case "a constant":
            project.constants[chance.choice([*project.constants])] += 1
        case "a parameter":
            project.parameters["n"] = chance.randint(1, 50)
        case "the list":
            project.parameters["sizes"] = [chance.randint(1, 5) for _ in range(chance.randint(0, 4))]
        case "the threshold":
            project.parameters["least"] = chance.randint(0, 9)
        case "the data":
            project.data = "".join(f"{chance.randint(1, 9)}\n" for _ in range(3))
        case "the region":
            project.region = chance.choice(["north", "south", "west"])
        case "cache off":
            each.options = {k: v for k, v in each.options.items() if k != "cache"} | (
                {} if "cache" in each.options else {"cache": "False"}
            )
        case "back":
            older = copy.deepcopy(chance.choice(history))
            project.__dict__.update(older.__dict__)
        case "no cache":
            options["cache"] = False
        case "from a step":
            options["restart_from"] = (each.name,)
    return f"{kind} ({each.name}, {helper})", options


EDITS = [
    *("a helper", "a helper", "a helper's docstring", "a moved helper", "a step", "a step", "a comment", "blank lines"),
    *(
        "a constant",
        "a parameter",
        "the list",
        "the threshold",
        "the data",
        "a touched file",
        "lost bytes",
        "the region",
    ),
    *("cache off", "back", "back", "no cache", "from a step", "nothing"),
]
