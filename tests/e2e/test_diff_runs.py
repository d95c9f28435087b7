"""`penstock diff` with real runs: why two runs gave different models, from the source to the metric."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}

FLOW = """
import pandas as pd
from penstock import context, pipeline, read, step

class Model:
    def __init__(self, mean):
        self.mean = mean

@step
def load() -> pd.DataFrame:
    return read("orders.csv")

@step
def clean(orders: pd.DataFrame) -> pd.DataFrame:
    return orders[orders.amount < 40]

@step
def fit(orders: pd.DataFrame, strength: float) -> Model:
    return Model(float(orders.amount.mean()) * strength)

@step
def score(model: Model) -> float:
    context().metric("mean", model.mean)
    return model.mean

@step
def unrelated() -> int:
    return 1

@pipeline
def flow(strength: float = 1.0) -> float:
    unrelated()
    return score(fit(clean(load()), strength))
"""


def penstock(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**CLEAN, "NO_COLOR": "1", "PYTHONPATH": str(SOURCE), "COLUMNS": "80"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def orders(folder: Path, rows: int, amount: float) -> None:
    lines = [f"{amount + at % 5},{at % 2},{'ab'[at % 3 == 0]}" for at in range(rows)]
    (folder / "orders.csv").write_text("amount,n,kind\n" + "\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    orders(tmp_path, 20, 10.0)
    penstock(tmp_path, "run", "flow.py", "--quiet", "--name", "one")
    return tmp_path


def diff(folder: Path) -> Any:
    return json.loads(penstock(folder, "diff", "one", "two", "--json"))


def second(folder: Path, *words: str) -> Any:
    penstock(folder, "run", "flow.py", "--quiet", "--name", "two", *words)
    return diff(folder)


def test_changed_data_is_told_by_rows_and_columns_of_the_table_it_became(folder: Path) -> None:
    orders(folder, 32, 14.0)
    found = second(folder)
    assert [(pair["step"], pair["change"]["text"]) for pair in found["sources"]] == [
        ("load", "source file orders.csv changed")
    ]
    (table,) = [pair for pair in found["tables"] if pair["step"] == "load"]
    assert (table["rows_before"], table["rows_after"]) == (20, 32)
    amount = next(column for column in table["columns"] if column["name"] == "amount")
    assert (amount["before"]["mean"], amount["after"]["mean"]) == (12.0, pytest.approx(15.90625))
    assert amount is table["columns"][0]  # it moved farthest
    reasons = [(each["step"], each["reaches"]) for each in found["reasons"]]
    assert reasons == [("load", 3)]
    assert found["reasons"][0]["text"].startswith("source file orders.csv changed (12 more rows, mean of amount 12 →")


def test_every_cause_is_told_in_its_own_step_the_one_that_most_follows_first(folder: Path) -> None:
    orders(folder, 32, 14.0)
    (folder / "flow.py").write_text(FLOW.replace("< 40", "< 16"))
    found = second(folder, "--strength", "0.5")
    told = {each["step"]: each["text"] for each in found["reasons"]}
    assert list(told) == ["load", "clean", "fit"]
    assert "the step's own code changed (1 line)" in told["clean"]
    assert told["fit"] == "parameter strength: 1.0 → 0.5"
    assert [each["kinds"] for each in found["reasons"]] == [["observation"], ["code"], ["parameter"]]


def test_a_step_that_gives_something_else_from_the_same_is_named_as_such(folder: Path) -> None:
    text = FLOW.replace("return 1\n", "import random\n    return random.random()\n").replace("-> int", "-> float")
    (folder / "flow.py").write_text(text)
    penstock(folder, "run", "flow.py", "--quiet", "--no-cache", "--name", "one")
    found = second(folder, "--no-cache")
    assert [(each["step"], each["text"]) for each in found["reasons"]] == [
        ("unrelated", "the same code, inputs and parameters gave something else (see penstock verify)")
    ]
    assert found["same"] is False


def test_runs_of_the_same_have_no_reason_to_differ(folder: Path) -> None:
    found = second(folder)
    assert (found["same"], found["reasons"], found["tables"], found["sources"]) == (True, [], [], [])


def test_the_page_ends_with_the_reasons_and_fits_80_columns(folder: Path) -> None:
    orders(folder, 32, 14.0)
    second(folder)
    page = penstock(folder, "diff", "one", "two")
    *_, ending, first = page.rstrip().split("\n\n")[-1].splitlines()[:2]
    assert ending == "the models differ because:"
    assert first.startswith("  1. load: source file orders.csv changed (12 more rows,")
    assert "table load  20 → 32 rows" in page
    assert max(map(len, page.splitlines())) <= 80
    assert "\x1b" not in page


def test_without_statistics_no_stored_table_is_looked_at(folder: Path) -> None:
    orders(folder, 32, 14.0)
    penstock(folder, "run", "flow.py", "--quiet", "--name", "two")
    for blob in (folder / ".penstock" / "artifacts").rglob("*"):
        if blob.is_file():
            blob.unlink()
    found = json.loads(penstock(folder, "diff", "one", "two", "--no-statistics", "--json"))
    assert found["tables"] == []
    assert found["reasons"][0]["text"] == "source file orders.csv changed"
    assert diff(folder)["tables"] == []  # their bytes are gone, which is no error here
