"""The pipeline that is killed: a map, a retry, a condition, several outputs, a nested pipeline, artifacts in files.

A copy of this file is a case's project. Every step says in `ran` that it begins, and checks what it is given: an input
that is half there ends the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from penstock import Retry, context, optional, pipeline, step, when

APART = os.environ.get("SOAK_ISOLATION", "auto")
ROWS = 40_000


def began() -> int:
    """Leave a line behind; one write, so that lines of several processes do not mix."""
    now = context()
    file = os.open(Path(__file__).parent / "ran", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, f"{now.step}|{now.index}|{now.attempt}\n".encode())
    os.close(file)
    return now.attempt


def whole(rows: list[int], first: int, count: int) -> list[int]:
    if len(rows) != count or rows[0] != first or rows[-1] != first + count - 1:
        raise RuntimeError(f"half of an input: {len(rows)} rows of {count}")
    return rows


class Split(NamedTuple):
    train: list[int]
    test: list[int]


@step(isolation=APART)
def extract(rows: int) -> list[int]:
    began()
    print("extracting")
    return list(range(rows))


@step(isolation=APART)
def split(rows: list[int]) -> Split:
    began()
    whole(rows, 0, ROWS)
    return Split(rows[: ROWS // 2], rows[-4:])


@step(retry=Retry(3, base="20ms"))
def fit(row: int, train: list[int]) -> list[int]:
    attempt = began()
    whole(train, 0, ROWS // 2)
    if row % 4 == 1 and attempt == 1:
        raise OSError("busy, as planned")
    return [row + each for each in train[:5000]]


@step(isolation=APART)
def pick(models: list[list[int]]) -> int:
    began()
    return sum(whole(model, ROWS - 4 + at, 5000)[0] for at, model in enumerate(models))


@step
def good(score: int) -> bool:
    began()
    return score > 5


@step
def tell(score: int) -> str:
    began()
    return f"told {score}"


@step
def refuse(score: int) -> str:
    began()
    return f"refused {score}"


@step
def end(said: str | None, not_said: str | None) -> list[str | None]:
    began()
    return [said, not_said]


@pipeline
def fitted(train: list[int], rows: list[int]) -> int:
    return pick(fit.partial(train=train).map(row=rows))


@pipeline
def flow(rows: int = ROWS) -> list[str | None]:
    train, test = split(extract(rows))
    score = fitted(train, test)
    fine = good(score)
    with when(fine):
        said = tell(score)
    with when(fine, is_=False):
        not_said = refuse(score)
    return end(optional(said), optional(not_said))
