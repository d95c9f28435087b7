"""A small project of steps and pipelines, as a user would write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from penstock import Cron, Retry, Secret, Static, optional, pipeline, step, when


class Split(NamedTuple):
    train: list[int]
    test: list[int]


@dataclass
class Verdict:
    passed: bool
    reasons: list[str]


@step
def extract(count: int = 3) -> list[int]:
    return list(range(count))


@step
def split(rows: list[int]) -> Split:
    return Split(rows[:2], rows[2:])


@step
def size_of(parts: Split) -> int:
    return len(parts.train) + len(parts.test)


@step
def square(x: int, plus: int = 0) -> int:
    return x * x + plus


@step(retry=Retry(2, base="1s"), timeout="10m")
def total(xs: list[int]) -> int:
    return sum(xs)


@step
def judge(score: int) -> Verdict:
    return Verdict(score > 1, ["because"])


@step
def say(score: int, verdict: Verdict | None = None, note: str | None = None) -> str:
    return f"{score} {verdict} {note}"


@step
async def fetch(url: str) -> str:
    return url.upper()


@step
def read(token: str) -> str:
    return "read"


@step
def days(shop: str) -> list[int]:
    return [1, 2] if shop == "a" else [3]


@step
def forecast(shop: str, day: int) -> str:
    return f"{shop}{day}"


@step
def flat(xs: list[list[str]]) -> list[str]:
    return [y for x in xs for y in x]


@step
def cleanup() -> None: ...


@pipeline
def named_outputs() -> int:
    parts = split(extract())
    train, test = parts
    square.partial(plus=1).map(x=train)
    square.named("tested").map(x=test)
    total(parts.test)
    return size_of(parts)


@pipeline(schedule=Cron("0 3 * * *", tz="Europe/Paris"), tags={"team": "growth"}, fail_fast=True)
def maps(depths: list[int], shift: int = 1) -> list[int]:
    square.map(x=depths)
    square.map(x=extract(), plus=depths)
    return square.partial(plus=shift).map(x=range(3), max_size=10)


@pipeline
def of_shop(shop: str) -> list[str]:
    return forecast.partial(shop).map(day=days(shop))


@pipeline
def nested_maps(shops: list[str]) -> list[str]:
    return flat(of_shop.map(shop=shops))


@pipeline
def scored(rows: list[int], times: Static[int] = 1) -> int:
    score = total(rows)
    for _ in range(times):
        score = square(score)
    return score


@pipeline
def nesting() -> dict[str, int]:
    return {"once": scored(extract()), "again": scored([1, 2], 2)}


@pipeline
def branching(note: str = "x") -> str:
    score = total(extract())
    verdict = judge(score)
    with when(verdict.passed):
        good = say(score)
        with when(note, is_="loud"):
            loud = say.named("loud")(score)
    with when(verdict.passed, is_=False):
        say.named("bad")(score)
    return say.named("last")(score, optional(verdict), optional(loud)) if good is not None else ""


@pipeline
def optional_fields() -> str:
    with when(judge(1).passed):
        verdict = judge(2)
    return say(3, optional(verdict))


@pipeline
def unrolled(times: Static[int], loud: Static[bool] = False) -> list[str]:
    urls = [fetch(f"u{n}") for n in range(times)]
    if loud:
        cleanup()
    return urls


@pipeline
def secretive(token: str = Secret("SHOP_TOKEN")) -> str:
    read(Secret("OTHER"))
    return read(token)


@pipeline
def ordered() -> None:
    rows = extract()
    first = total(rows)
    cleanup.after(first)().after(rows)
