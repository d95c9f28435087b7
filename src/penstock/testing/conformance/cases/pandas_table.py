"""A pandas table keeps its columns, types and order, whichever process reads it."""

import pandas as pd

from penstock import pipeline, step


@step
def make(rows: int) -> pd.DataFrame:
    numbers = list(range(rows))
    return pd.DataFrame({"number": numbers, "half": [n / 2 for n in numbers], "word": [f"w{n}" for n in numbers]})


@step
def filtered(table: pd.DataFrame, least: float) -> pd.DataFrame:
    return table[table["half"] >= least].reset_index(drop=True)


@step
def told(table: pd.DataFrame) -> list[str]:
    return [*(f"{name} {kind}" for name, kind in table.dtypes.items()), *table["word"]]


@pipeline
def pandas_table(rows: int = 6) -> list[str]:
    return told(filtered(make(rows), 1.5))
