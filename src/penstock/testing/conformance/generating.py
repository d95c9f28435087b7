"""Pipelines that nobody thought of: graph shapes and options, drawn and written down as a user's file.

All that is drawn comes from one `random.Random`. With `Random(seed)` a seed is a pipeline, the same for every engine;
with hypothesis's own one (`programs`), an example that fails is made as small as it can be: a draw of 0 is the simplest
choice. `fail_fast` is not drawn: what it stops depends on who is quicker.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from .case import Act, Case

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_HEAD = '''"""Generated: {about}."""

from typing import NamedTuple

from penstock import Retry, context, optional, pipeline, step, when


class Pair(NamedTuple):
    low: int
    high: int
'''


class Program(NamedTuple):
    """A pipeline's file, and the name of the pipeline in it."""

    name: str
    source: str


def written(chance: Random, name: str) -> Program:
    """The pipeline that these draws make."""
    return _Writer(chance, name).program()


def programs() -> SearchStrategy[Program]:
    """A hypothesis strategy; needs hypothesis."""
    from hypothesis import strategies

    return strategies.randoms(use_true_random=False).map(lambda chance: written(chance, "generated"))


def generated_cases(seeds: range, folder: Path) -> tuple[Case, ...]:
    """A case per seed, whose file is written into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for seed in seeds:
        program = written(Random(f"conformance {seed}"), f"generated_{seed}")
        (folder / f"{program.name}.py").write_text(program.source, encoding="utf-8")
        cases.append(Case(program.name, "generated", acts=(Act(state=""),), folder=folder))
    return tuple(cases)


class _Writer:
    """Writes statement by statement. `_pool` holds, by type, the expressions that a statement may use."""

    def __init__(self, chance: Random, name: str) -> None:
        self._chance = chance
        self._name = name
        self._steps: list[str] = []  # definitions, in order
        self._shapes: set[str] = set()
        self._count = 0
        self._pool: dict[str, list[str]] = {"int": [], "list": [], "bool": [], "step": []}

    def program(self) -> Program:
        chance = self._chance
        numbers = [chance.randrange(4) for _ in range(chance.randrange(4))]
        flag, number = chance.random() < 0.5, chance.randrange(9)
        self._pool = {"int": ["number"], "list": ["numbers"], "bool": ["flag"], "step": []}
        body = self._statements(chance.randint(2, 6), 0)
        results = self._pool["step"]
        shown = ", ".join(f"optional({each})" for each in chance.sample(results, min(3, len(results))))
        pipeline = [
            "@pipeline",
            f"def {self._name}(numbers: list[int] = {numbers}, flag: bool = {flag}, number: int = {number}) -> object:",
            *(f"    {line}" for line in body),
            f"    return [{shown}]",
        ]
        about = ", ".join(sorted(self._shapes)) or "a chain"
        source = "\n\n\n".join([_HEAD.format(about=about).rstrip(), *self._steps, "\n".join(pipeline)]) + "\n"
        return Program(self._name, source)

    # -- statements ------------------------------------------------------------------------------------------------

    def _statements(self, size: int, depth: int) -> list[str]:
        lines: list[str] = []
        for _ in range(size):
            draw = self._chance.random()
            if draw < 0.5 or depth > 1:
                lines += self._call()
            elif draw < 0.72:
                lines += self._map()
            elif draw < 0.85:
                lines += self._guard(depth)
            else:
                lines += self._nested(depth)
        return lines

    def _call(self) -> list[str]:
        kind = self._chance.choice(["int", "int", "int", "list", "bool", "pair", "total", "maybe"])
        step, name = self._step(kind), self._fresh("v")
        after = ""
        if self._pool["step"] and self._chance.random() > 0.85:
            self._shapes.add("order without data")
            after = f".after({self._chance.choice(self._pool['step'])})"
        call = f"{step}{after}({self._given(kind)})"
        if kind == "pair":
            self._shapes.add("several outputs")
            self._pool["int"] += [f"{name}.low", f"{name}.high"]
        else:
            self._pool[{"total": "int", "maybe": "int"}.get(kind, kind)].append(name)
        self._pool["step"].append(name)
        return [f"{name} = {call}"]

    def _map(self) -> list[str]:
        self._shapes.add("map")
        kind = self._chance.choice(["int", "int", "list"])
        step, name = self._step(kind), self._fresh("v")
        over = self._chance.choice(self._pool["list"])
        line = f"{name} = {step}.partial(b={self._chance.choice(self._pool['int'])}).map(a={over})"
        if kind == "int":
            self._pool["list"].append(name)
        self._pool["step"].append(name)
        return [line]

    def _guard(self, depth: int) -> list[str]:
        self._shapes.add("condition")
        before = [] if self._pool["bool"] else self._call_of("bool")
        flag = self._chance.choice(self._pool["bool"])
        wanted = "" if self._chance.random() < 0.6 else ", is_=False"
        inner = self._statements(self._chance.randint(1, 2), depth + 1)
        return [*before, f"with when({flag}{wanted}):", *(f"    {line}" for line in inner)]

    def _nested(self, depth: int) -> list[str]:
        """A pipeline of its own, called once or for each element of a list."""
        self._shapes.add("nested pipeline")
        mapped = self._chance.random() < 0.7
        over = self._chance.choice(self._pool["list"] if mapped else self._pool["int"])
        outer, name, handle = self._pool, self._fresh("inner"), self._fresh("v")
        own = f"{self._name}_{name}"
        self._pool = {"int": ["a"], "list": [], "bool": [], "step": []}
        opening = self._call_of("list")
        body = [*opening, *self._statements(self._chance.randint(1, 2), depth + 1), *self._call_of("int")]
        result = self._pool["step"][-1]
        definition = [
            "@pipeline", f"def {own}(a: int) -> int:", *(f"    {line}" for line in body), f"    return {result}"
        ]  # fmt: skip
        self._steps.append("\n".join(definition))
        self._pool = outer
        if mapped:
            self._shapes.add("nested map")
        self._pool["list" if mapped else "int"].append(handle)
        self._pool["step"].append(handle)
        return [f"{handle} = {own}.map(a={over})" if mapped else f"{handle} = {own}({over})"]

    def _fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _call_of(self, kind: str) -> list[str]:
        line = f"{(name := self._fresh('v'))} = {self._step(kind)}({self._given(kind)})"
        self._pool[kind].append(name)
        self._pool["step"].append(name)
        return [line]

    def _given(self, kind: str) -> str:
        chance = self._chance
        if kind == "total":
            return chance.choice(self._pool["list"]) if self._pool["list"] else f"[{chance.choice(self._pool['int'])}]"
        if kind == "maybe":
            calls = [each for each in self._pool["int"] if each in self._pool["step"]]
            return f"optional({chance.choice(calls)})" if calls else chance.choice(self._pool["int"])
        return f"{chance.choice(self._pool['int'])}, {chance.choice(self._pool['int'])}"

    # -- steps -----------------------------------------------------------------------------------------------------

    def _step(self, kind: str) -> str:
        """Writes the definition of a step with options of its own; returns its name."""
        chance = self._chance
        name = f"{self._name}_{self._fresh('s')}"
        salt = chance.randrange(50)
        options, trouble = self._trouble(kind)
        if chance.random() > 0.88:
            options.append("cache=False")
        if chance.random() > 0.92:
            options.append('isolation="process"')
        head = f"@step({', '.join(options)})" if options else "@step"
        keyword = "async def" if chance.random() > 0.9 else "def"
        signature, result = {
            "int": ("a: int, b: int) -> int", f"(a * 3 + b + {salt}) % 101"),
            "list": ("a: int, b: int) -> list[int]", f"[(a + n * b + {salt}) % 5 for n in range((a + {salt}) % 4)]"),
            "bool": ("a: int, b: int) -> bool", f"(a + b + {salt}) % 2 == 0"),
            "pair": ("a: int, b: int) -> Pair", f"Pair(a + {salt}, a + b)"),
            "total": ("a: list[int]) -> int", f"sum(a) + {salt}"),
            "maybe": ("a: int | None) -> int", f"{salt} if a is None else a"),
        }[kind]
        lines = [head, f"{keyword} {name}({signature}:", *(f"    {line}" for line in trouble), f"    return {result}"]
        self._steps.append("\n".join(lines))
        return name

    def _trouble(self, kind: str) -> tuple[list[str], list[str]]:
        """Options, and lines that make some attempts fail."""
        chance = self._chance
        draw = chance.random()
        if draw < 0.72 or kind in ("total", "maybe"):
            return [], []
        error = chance.choice(["OSError", "ConnectionError", "ValueError"])
        some = f"a % {chance.randint(2, 3)} == {chance.randrange(2)}" if chance.random() < 0.5 else "True"
        if draw < 0.78:
            self._shapes.add("failure")
            return [], [f"if {some}:", f'    raise {error}(f"no {{a}}")']
        self._shapes.add("retry")
        attempts, times = chance.randint(2, 3), chance.randint(1, 3)
        jitter = chance.choice(["", "", ', jitter="full"', ', jitter="equal"'])
        on = chance.choice(["", "", ", on=OSError", ", not_on=ValueError"])
        retry = f'retry=Retry(attempts={attempts}, base="30ms", factor={chance.choice([1, 2])}{jitter}{on})'
        return [retry], [
            f"if {some} and context().attempt <= {times}:",
            f'    raise {error}(f"attempt {{context().attempt}}")',
        ]
