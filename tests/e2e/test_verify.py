"""`penstock verify` with real processes: each planted fault is found in its step and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "OMP_", "PYTHONHASH"))}

FAULTY = """
import random
from pathlib import Path
from penstock import pipeline, step

COUNT = 0
CACHE: dict[str, int] = {}
SETTINGS = {"scale": 1}

class Model:
    def __init__(self, weights):
        self.weights = weights
        self.seen = {f"column_{each}" for each in range(30)}

@step
def counted(x: int) -> int:
    global COUNT
    COUNT += 1
    return x + COUNT

@step
def drawn(x: int) -> float:
    return x + random.random()

@step
def ordered(x: int) -> list[str]:
    return list({f"column_{each}" for each in range(30)})

@step
def remembered(x: int) -> int:
    return CACHE.setdefault("x", x)

@step
def mutating(x: int) -> int:
    SETTINGS["scale"] += 1
    return x

@step
def scaled(x: int) -> int:
    return x * SETTINGS["scale"]

@step
def model(x: int) -> Model:
    return Model([x])

@step
def left_behind(x: int, where: str) -> int:
    Path(where).write_text("here")
    return x

@step
def found(x: int, where: str) -> bool:
    there = Path(where).exists()
    Path(where).unlink(missing_ok=True)
    return there

@step
def clean(x: int) -> dict[str, list[float]]:
    return {f"key {each}": [each / 3, float(x)] for each in sorted({"b", "a"}) for each in (1, 2)}

@step
def after(drawn: float) -> list[float]:
    return [drawn + 1, *map(float, {"3", "1", "2", "5", "4"})]

@step
def last(after: list[float]) -> float:
    return sum(sorted(after))

@pipeline
def faulty(where: str) -> None:
    last(after(drawn(1)))
    counted(1)
    ordered(1)
    remembered.map(x=[1, 2])
    mutating(1)
    scaled.named("twice")(2)
    scaled(1)
    model(1)
    left_behind(1, where)
    found(1, where)
    clean(1)
"""
RELIABLE = """
import random
from typing import NamedTuple
from penstock import context, pipeline, step

class Split(NamedTuple):
    train: list[float]
    test: list[float]

@step
def orders() -> list[float]:
    rng = random.Random(context().seed)
    return [rng.gauss(0, 1) for _ in sorted({f"order {each}" for each in range(50)})]

@step
def split(orders: list[float]) -> Split:
    return Split(orders[:40], orders[40:])

@step
def fit(train: list[float], depth: int) -> float:
    return sum(train) * depth

@step
def best(models: list[float]) -> float:
    return max(models)

@step(effect="at-least-once")
def ship(model: float) -> str:
    open("shipped.txt", "a").close()
    return "done"

@pipeline
def reliable(depths: list[int] = [2, 3]) -> None:
    train, test = split(orders())
    ship(best(fit.partial(train).map(depth=depths)))
"""
BROKEN = """
from penstock import pipeline, step

@step
def best() -> float:
    raise ValueError("no models")

@pipeline
def broken() -> float:
    return best()
"""


def verify(folder: Path, text: str, *words: str, code: int = 0) -> Any:
    (folder / "flow.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "verify", "flow.py", *words, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**CLEAN, "PYTHONPATH": str(SOURCE)},
        timeout=280,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_every_planted_fault_is_found_in_its_step_with_its_cause(tmp_path: Path) -> None:
    found = verify(tmp_path, FAULTY, "--where", str(tmp_path / "shared"), code=6)
    told = {each["step"]: (each["kind"], each["cause"]["kind"], each["cause"]["sure"]) for each in found["findings"]}
    hidden = ("hidden state", "hidden state", "proven")
    assert told == {
        "drawn": ("nondeterminism", "seed", "proven"),
        "after": ("hash order", "hash order", "proven"),  # judged once `drawn` is held still
        "counted": hidden,
        "ordered": ("hash order", "hash order", "proven"),
        "remembered": hidden,
        "scaled": hidden,
        "twice": hidden,
        "model": ("unstable encoding", "unknown", "proven"),
        "found": hidden,
    }
    by_step = {each["step"]: each for each in found["findings"]}
    assert "COUNT (flow.py)" in by_step["counted"]["cause"]["text"]
    assert "SETTINGS (flow.py)" in by_step["scaled"]["cause"]["text"]
    assert (by_step["remembered"]["index"], by_step["remembered"]["elements"]) == ("1", 1)
    assert by_step["found"]["condition"] == "reordered"
    assert by_step["drawn"]["where"] == "flow.py:drawn"
    assert found["unjudged"] == []  # nor is `last` blamed for what it is given


def test_a_pipeline_without_a_fault_is_told_to_be_reliable_and_its_effects_are_not_made(tmp_path: Path) -> None:
    found = verify(tmp_path, RELIABLE)
    assert (found["reliable"], found["findings"], found["unjudged"]) == (True, [], [])
    assert found["not_run"] == ["ship"]
    assert not (tmp_path / "shipped.txt").exists()
    assert not (tmp_path / ".penstock" / "runs.db").exists()  # what it ran is in a store of its own


def test_a_pipeline_that_always_fails_is_no_finding_but_an_error(tmp_path: Path) -> None:
    found = verify(tmp_path, BROKEN, code=1)
    assert found["error"]["problem"] == "the pipeline fails: 'best': no models"
