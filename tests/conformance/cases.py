"""What a pipeline means, as data: tiny pipelines that every backend must run to the same end.

A backend's suite runs each case and compares what `tests/conformance/test_backends.py` calls its *meaning* with that of
the embedded engine running one step at a time. A case needs nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NONE: Mapping[str, Any] = MappingProxyType({})

HEAD = """
import asyncio, os, signal, sys, threading
from dataclasses import dataclass
from typing import NamedTuple
from penstock import Limits, Resources, Retry, Secret, Static, context, optional, pipeline, step, when

class Pair(NamedTuple):
    low: int
    high: int

@dataclass
class Verdict:
    passed: bool
    reasons: list[str]

@step
def one() -> int: return 1

@step
def same(x: int) -> int: return x

@step
def add(a: int, b: int) -> int: return a + b

@step
def upto(n: int) -> list[int]: return list(range(n))

@step
def square(x: int, plus: int = 0) -> int: return x * x + plus

@step
def total(xs: list[int]) -> int: return sum(xs)

@step
def pair(n: int) -> Pair: return Pair(n, n + 1)

@step
def judge(n: int) -> Verdict: return Verdict(n > 2, [f"n is {n}"])

@step
def told(a: int | None) -> str: return f"got {a}"

@step
def broken(x: int = 0) -> int: raise ValueError(f"no {x}")

@step
def picky(x: int) -> int:
    if x == 1: raise ValueError("not one")
    return x

@step(retry=Retry(3, base="10ms"))
def flaky(x: int = 0) -> int:
    if context().attempt < 3: raise OSError(f"attempt {context().attempt}")
    return x
"""


class Case(NamedTuple):
    name: str
    source: str  # of `main`, after HEAD
    parameters: Mapping[str, Any] = NONE
    output: Any = None  # what the pipeline returns where it succeeds
    state: str = "succeeded"
    environment: Mapping[str, str] = NONE


CASES = [
    Case("chain", "@pipeline\ndef main() -> int:\n    return same(same.named('again')(one()))\n", output=1),
    Case("diamond", """
@pipeline
def main(n: int) -> int:
    x = same(n)
    return add(square(x), same.named("right")(x))
""", {"n": 3}, 12),
    Case("named_outputs", """
@pipeline
def main() -> int:
    low, high = pair(4)
    return add(low, high)
""", output=9),
    Case("whole_value_passed_on", """
@step
def both(p: Pair, v: Verdict) -> list: return [p.low, p.high, v.passed, v.reasons]

@pipeline
def main() -> list:
    return both(pair(1), judge(3))
""", output=[1, 2, True, ["n is 3"]]),
    Case("wrong_named_outputs", """
@step
def wrong() -> Pair: return (1, 2)

@pipeline
def main() -> int:
    return same(wrong().low)
""", state="failed"),
    Case("result_forms", """
@pipeline
def main(n: int) -> dict:
    low, high = pair(n)
    return {"list": [low, [high]], "tuple": (one(), n), "plain": "text", "dict": {"n": n}}
""", {"n": 7}, {"list": [7, [8]], "tuple": (1, 7), "plain": "text", "dict": {"n": 7}}),
    Case("map_keeps_order", """
@pipeline
def main(xs: list[int]) -> list[int]:
    return square.partial(plus=1).map(x=xs)
""", {"xs": [3, 1, 2]}, [10, 2, 5]),
    Case("map_over_output", "@pipeline\ndef main() -> int:\n    return total(square.map(x=upto(4)))\n", output=14),
    Case("map_of_nothing", """
@pipeline
def main() -> list:
    return [square.map(x=[]), total(square.map(x=upto(0)))]
""", output=[[], 0]),
    Case("map_of_a_map", """
@pipeline
def main() -> int:
    return total(square.named("outer").map(x=square.map(x=upto(3))))
""", output=17),
    Case("map_side_by_side", "@pipeline\ndef main() -> list[int]:\n    return add.map(a=upto(3), b=[10, 20, 30])\n",
         output=[10, 21, 32]),
    Case("map_uneven", "@pipeline\ndef main() -> list[int]:\n    return add.map(a=upto(2), b=upto.named('b')(3))\n",
         state="failed"),
    Case("map_too_large", "@pipeline\ndef main() -> list[int]:\n    return same.map(x=upto(3), max_size=2)\n",
         state="failed"),
    Case("map_one_fails", """
@pipeline
def main() -> int:
    one()
    return total(picky.map(x=upto(3)))
""", state="failed"),
    Case("map_one_is_retried", """
@step(retry=Retry(2, base="10ms"))
def once(x: int) -> int:
    if x == 1 and context().attempt == 1: raise OSError("again")
    return x

@pipeline
def main() -> int:
    return total(once.map(x=upto(3)))
""", output=3),
    Case("map_of_a_failure", """
@step
def no_list() -> list[int]: raise ValueError("no list")

@pipeline
def main() -> int:
    return total(square.map(x=no_list()))
""", state="failed"),
    Case("map_twins", "@pipeline\ndef main() -> list[int]:\n    return square.map(x=[2, 2, 2])\n", output=[4, 4, 4]),
    Case("nested_map", """
@step
def days(shop: str) -> list[int]: return [1, 2] if shop == "a" else []

@step
def label(shop: str, day: int) -> str: return f"{shop}{day}"

@pipeline
def per_shop(shop: str) -> list[str]:
    return label.partial(shop).map(day=days(shop))

@pipeline
def main(shops: list[str]) -> list[list[str]]:
    return per_shop.map(shop=shops)
""", {"shops": ["a", "b", "a"]}, [["a1", "a2"], [], ["a1", "a2"]]),
    Case("guard_true_and_false", """
@pipeline
def main(n: int) -> list:
    v = judge(n)
    with when(v.passed):
        yes = same.named("yes")(n)
    with when(v.passed, False):
        no = same.named("no")(n)
    return [told(optional(yes)), told.named("told_no")(optional(no))]
""", {"n": 3}, ["got 3", "got None"]),
    Case("skip_spreads", """
@pipeline
def main(go: bool) -> None:
    with when(go):
        x = one()
    y = same(x)
    same.named("second")(y)
    same.named("ordered").after(y)(5)
""", {"go": False}),
    Case("guarded_map", """
@pipeline
def main(go: bool) -> str:
    with when(go):
        xs = square.map(x=upto(3))
        t = total(xs)
    return told(optional(t))
""", {"go": False}, "got None"),
    Case("guard_on_failure", """
@pipeline
def main() -> None:
    with when(broken(), 1):
        one()
    told(optional(same(broken.named("again")(2))))
""", state="failed"),
    Case("failure_spreads", """
@pipeline
def main() -> int:
    x = add(broken(), one())
    same.named("ordered").after(x)(2)
    square(3)
    return x
""", state="failed"),
    Case("retry", "@pipeline\ndef main() -> int:\n    return same(flaky(4))\n", output=4),
    Case("retry_not_on", """
@step(retry=Retry(3, base="10ms", on=OSError))
def other() -> int: raise ValueError("not retried")

@step(retry=Retry(2, base="10ms"))
def never() -> int: raise OSError("always")

@pipeline
def main() -> None:
    other(); never()
""", state="failed"),
    Case("timeout_then_retry", """
@step(timeout="400ms", retry=Retry(2, base="10ms", on="timeout"))
def slow_once() -> int:
    if context().attempt == 1: threading.Event().wait(600)
    return 5

@step(timeout="400ms")
def slow() -> int:
    threading.Event().wait(600)

@pipeline
def main() -> int:
    same(slow())
    return slow_once()
""", state="failed"),
    Case("memory_limit", """
@step(limits=Limits(memory="64Mi"))
def greedy() -> int: return len([bytes(1 << 20) for _ in range(2000)])

@pipeline
def main() -> int:
    return greedy()
""", state="failed"),
    Case("process_dies", """
@step(isolation="process", retry=Retry(2, base="10ms", on="killed"))
def mortal() -> int:
    if context().attempt == 1: os.kill(os.getpid(), signal.SIGKILL)
    return 1

@pipeline
def main() -> int:
    return mortal()
""", output=1),
    Case("bad_ends", """
@step
def leaves() -> int: sys.exit(3)

@step
def unstorable() -> object: return threading.Lock()

@pipeline
def main() -> None:
    leaves(); unstorable()
""", state="failed"),
    Case("async_and_threads", """
@step
async def shout(word: str) -> str:
    await asyncio.sleep(0)
    return word.upper()

@step(isolation="thread")
def whisper(word: str) -> str: return word.lower()

@pipeline
def main() -> list[str]:
    return [shout("a"), whisper("B"), shout("c")]
""", output=["A", "b", "C"]),
    Case("nested_pipeline_and_static", """
@pipeline
def inner(x: int) -> int:
    return add(x, one())

@pipeline
def main(k: Static[int] = 3) -> list[int]:
    return [inner(i) for i in range(k)]
""", output=[1, 2, 3]),
    Case("secret", """
@step
def length(token: str) -> int: return len(token)

@pipeline
def main(token: str = Secret("PENSTOCK_TEST_TOKEN")) -> int:
    return length(token)
""", output=11, environment={"PENSTOCK_TEST_TOKEN": "hush hush !"}),
    Case("bytes_and_quiet_mutation", """
@step
def blob(n: int) -> bytes: return b"x" * n

@step
def spoil(rows: list[int]) -> int:
    rows.append(1)
    return len(rows)

@step
def look(rows: list[int], after: int, b: bytes) -> list[int]: return [len(rows), after, len(b)]

@pipeline
def main() -> list[int]:
    rows = upto(2)
    return look(rows, spoil(rows), blob(200_000))
""", output=[2, 3, 200_000]),
    Case("observed_metrics_and_notes", """
@step
def measured() -> int:
    context().metric("auc", 0.75); context().note = "fine"; context().observe("nowhere", "thing", "1")
    return 1

@pipeline
def main() -> int:
    return measured()
""", output=1),
]  # fmt: skip
