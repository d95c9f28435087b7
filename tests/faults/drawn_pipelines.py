"""Pipelines that a seed draws, written through the public API: chains, diamonds, maps in maps, conditions, retries.

The steps are a few pure functions; which attempt of which instance fails is a `Behaviour` of its own. A step that may
fail gets its own name as an argument, so that no other one computes the same.
"""

import zlib
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from penstock import Pipeline, Retry, optional, pipeline, step, when
from penstock.graph import Graph


class Pair(NamedTuple):
    count: int
    rows: list[int]
    good: bool


def mixed(*values: Any) -> int:
    return zlib.crc32(repr(values).encode())


@step
def number(name: Any, a: Any = None, b: Any = None) -> int:
    return mixed(a, b) % 1000


@step
def good(name: Any, a: Any = None, b: Any = None) -> bool:
    return mixed(a, b) % 2 == 0


@step
def rows(name: Any, a: Any = None, b: Any = None) -> list[int]:
    return [mixed(a, b, n) % 5 for n in range(mixed(a, b) % 4)]


@step
def tables(name: Any, a: Any = None, b: Any = None) -> list[list[int]]:
    return [[mixed(a, n) % 3 for n in range(size)] for size in range(mixed(a, b) % 3)]


@step
def large(name: Any, a: Any = None, b: Any = None) -> list[int]:
    return [mixed(a, b), *range(4000)]  # more than a run log keeps: a file


@step
def pair(name: Any, a: Any = None, b: Any = None) -> Pair:
    return Pair(mixed(a, b) % 9, [mixed(a, b) % 7, 1], mixed(a, b) % 3 > 0)


@step
def chatty(name: Any, a: Any = None, b: Any = None) -> int:
    print(mixed(a, b))
    return 1


STEPS = (number, number, good, rows, rows, tables, large, pair, chatty)
ERRORS: tuple[type[Exception], ...] = (OSError, ConnectionError, ValueError, KeyError, MemoryError)


class Flaw(NamedTuple):
    """The first `times` attempts fail, of the elements whose place is in `only`."""

    times: int
    error: type[Exception]
    only: int


class Drawn:
    """What a seed draws. `size` is about how many statements the pipeline's body has."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed = seed
        self.size = size
        chance = Random(f"pipeline {seed}")
        self.cache = chance.random() < 0.6
        self.flaws: dict[str, Flaw] = {}
        self.parameters = {
            "numbers": [chance.randrange(3) for _ in range(chance.randrange(4))],
            "on": chance.random() < 0.5,
        }
        fail_fast = chance.random() < 0.15

        def drawn(numbers: list[int], on: bool) -> Any:
            self.flaws.clear()
            return _Body(self, Random(f"body {seed}")).all(numbers, on, size)

        self.pipeline: Pipeline[..., Any] = pipeline(fail_fast=fail_fast)(drawn)

    def behaviour(self, name: str, index: str, attempt: int) -> BaseException | None:
        flaw = self.flaws.get(name)
        if flaw is None or attempt > flaw.times or (index and zlib.crc32(index.encode()) % 3 > flaw.only):
            return None
        return flaw.error(f"attempt {attempt}")

    def functions(self, graph: Graph) -> dict[str, Callable[..., Any]]:
        known = {each.fn.__name__: each.fn for each in STEPS}
        return {node.target: known[node.target.rpartition(":")[2]] for node in graph.nodes}


class _Body:
    """Writes one pipeline body, statement by statement. What a statement may use is in `pool`, by type."""

    def __init__(self, drawn: Drawn, chance: Random) -> None:
        self._drawn = drawn
        self._chance = chance
        self._names = 0
        self._path: list[str] = []
        self._pool: dict[str, list[Any]] = {"any": [], "list": [], "bool": [], "step": []}

    def all(self, numbers: Any, on: Any, size: int) -> Any:
        self._take(numbers, "list", is_step=False)
        self._take(on, "bool", is_step=False)
        self._statements(size, 0)
        steps = self._pool["step"]
        chosen = self._chance.sample(steps, min(3, len(steps)))
        shown = [optional(each) if self._chance.random() < 0.7 else each for each in chosen]
        return {f"r{at}": each for at, each in enumerate(shown)} if shown else None

    def _statements(self, size: int, depth: int) -> None:
        chance = self._chance
        for _ in range(size):
            what = chance.random()
            if what < 0.5 or (depth > 2 and what >= 0.72):
                self._call()
            elif what < 0.72:
                self._map()
            elif what < 0.84:
                with when(self._one("bool"), is_=chance.random() < 0.6):
                    self._statements(chance.randint(1, 2), depth + 1)
            elif what < 0.92:
                self._nested(depth, mapped=True)
            else:
                self._nested(depth, mapped=False)

    def _call(self) -> Any:
        chosen = self._step()
        named = self._named(chosen)
        handle = named(self._salt(chosen), **self._arguments())
        if self._pool["step"] and self._chance.random() < 0.12:
            handle.after(self._one("step"))
        self._keep(chosen, handle)
        return handle

    def _map(self) -> Any:
        chosen = self._step()
        named = self._named(chosen, mapped=True)
        over = {"a": self._one("list")}
        fixed = {"b": self._argument()} if self._chance.random() < 0.5 else {}
        handle = named.partial(self._salt(chosen), **fixed).map(**over)
        self._take(handle, "list", is_step=True)
        return handle

    def _nested(self, depth: int, *, mapped: bool) -> None:
        """A pipeline in the pipeline, once or per element, with a body of its own."""
        chance, outer = self._chance, self._pool
        self._names += 1
        name = f"inner{self._names}"
        size = chance.randint(1, 3)

        def body(a: Any, b: Any) -> Any:
            self._pool = {"any": [], "list": [], "bool": list(outer["bool"]), "step": []}
            self._path.append(name)
            self._take(a, "any", is_step=False)
            self._take(b, "any", is_step=False)
            self._statements(size, depth + 1)
            last = self._call()
            self._path.pop()
            return last

        inner = pipeline(name=name)(body)
        given = self._argument()
        handle = inner.partial(b=given).map(a=self._one("list")) if mapped else inner(self._argument(), given)
        self._pool = outer
        self._take(handle, "list" if mapped else "any", is_step=True)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _step(self) -> Any:
        return self._chance.choice(STEPS)

    def _named(self, chosen: Any, *, mapped: bool = False) -> Any:
        chance = self._chance
        self._names += 1
        self._last = f"s{self._names}"
        changes: dict[str, Any] = {}
        if chance.random() < 0.35:
            changes["retry"] = self._retry()
        if chance.random() < 0.2:
            changes["cache"] = False
        if chance.random() < 0.08:
            changes["effect"] = chance.choice(["at-most-once", "at-least-once", "exactly-once"])
        self._flawed = False
        if chance.random() < 0.22:
            times = chance.choice((1, 1, 2, 3, 10_000))
            self._drawn.flaws["/".join([*self._path, self._last])] = Flaw(
                times, chance.choice(ERRORS), chance.randrange(3)
            )
            self._flawed = True
            if self._path or mapped:
                changes["cache"] = False  # of elements that compute the same, one may fail where another does not
        return chosen.named(self._last).with_options(**changes)

    def _salt(self, chosen: Any) -> str | None:
        return self._last if self._flawed or self._chance.random() < 0.4 else None

    def _retry(self) -> Any:
        chance = self._chance
        if chance.random() < 0.2:
            return chance.randint(1, 4)
        return Retry(
            attempts=chance.randint(1, 4),
            base=chance.choice(("10ms", "2s", "10m")),
            factor=chance.choice((1, 2, 3.5)),
            cap=chance.choice(("1s", "5m", "2h")),
            jitter=chance.choice(("none", "full", "equal")),
            on=chance.choice(((), (), (OSError,), (ValueError, KeyError), ("out_of_memory",))),
            not_on=chance.choice(((), (), (), (ConnectionError,), (LookupError,))),
        )

    # -- values --------------------------------------------------------------------------------------------------

    def _arguments(self) -> dict[str, Any]:
        return {name: self._argument() for name in "ab" if self._chance.random() < 0.75}

    def _argument(self) -> Any:
        chance = self._chance
        what = chance.random()
        if what < 0.12 or not self._pool["any"]:
            return chance.choice((0, 1, "text", [1, 2], None))
        if what < 0.22:
            return [self._one("any"), chance.randrange(2), self._one("any")]
        if what < 0.27:
            return {"x": self._one("any"), "y": (self._one("any"), 1)}
        if what < 0.5 and self._pool["step"]:
            return optional(self._one("step"))
        return self._one("any")

    def _one(self, kind: str) -> Any:
        found = self._pool[kind]
        if not found:
            return [0, 2] if kind == "list" else found
        return found[max(self._chance.randrange(len(found)), self._chance.randrange(len(found)))]  # rather a late one

    def _keep(self, chosen: Any, handle: Any) -> None:
        if chosen is pair:
            self._take(handle.count, "any", is_step=True)
            self._take(handle.rows, "list", is_step=True)
            self._take(handle.good, "bool", is_step=True)
            self._pool["any"].append(handle)
            return
        kind = {number: "any", good: "bool", rows: "list", tables: "list", large: "any", chatty: "any"}[chosen]
        self._take(handle, kind, is_step=True)

    def _take(self, handle: Any, kind: str, *, is_step: bool) -> None:
        self._pool["any"].append(handle)
        if kind != "any":
            self._pool[kind].append(handle)
        if is_step:
            self._pool["step"].append(handle)
