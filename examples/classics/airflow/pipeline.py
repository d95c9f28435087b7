"""The textbook DAG: ingest, train several candidates, evaluate, keep the best. Written once, for every engine.

penstock run pipeline.py                                here, now
penstock deploy pipeline.py --on airflow                every night at three, on Airflow
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from penstock import Cron, Retry, context, pipeline, step, when


class Split(NamedTuple):
    train: pd.DataFrame
    test: pd.DataFrame


class Best(NamedTuple):
    model: RandomForestClassifier
    good_enough: bool


@step(retry=Retry(attempts=4, base="2s", on=(OSError,)))
def ingest() -> pd.DataFrame:
    return load_wine(as_frame=True).frame


@step
def split(rows: pd.DataFrame) -> Split:
    return Split(*train_test_split(rows, test_size=0.3, random_state=7, stratify=rows["target"]))


@step(timeout="5m")
def fit(train: pd.DataFrame, depth: int) -> RandomForestClassifier:
    return RandomForestClassifier(max_depth=depth, random_state=7).fit(train.drop(columns="target"), train["target"])


@step
def evaluate(model: RandomForestClassifier, test: pd.DataFrame) -> float:
    accuracy = float(accuracy_score(test["target"], model.predict(test.drop(columns="target"))))
    context().metric("accuracy", accuracy)
    return accuracy


@step
def pick(models: list[RandomForestClassifier], scores: list[float], minimum: float) -> Best:
    at = scores.index(max(scores))
    return Best(models[at], scores[at] >= minimum)


@step(effect="at-least-once")
def publish(model: RandomForestClassifier) -> str:
    from skops.io import dump

    path = Path("current.skops")
    dump(model, path)
    return str(path.resolve())


@pipeline(schedule=Cron("0 3 * * *"), tags={"team": "cellar"})
def wine(depths: list[int] = [2, 4, 8], minimum: float = 0.9) -> None:
    train, test = split(ingest())
    models = fit.partial(train).map(depth=depths)
    scores = evaluate.partial(test=test).map(model=models)
    best = pick(models, scores, minimum)
    with when(best.good_enough):
        publish(best.model)


if __name__ == "__main__":
    print(wine.run())
