"""The same script as a pipeline: its functions as they were, a decorator on each, and what calls what.

python pipeline.py                                      here, now, under a debugger if you like
penstock run pipeline.py --on prefect                   on Prefect, every night at three as well once it is deployed
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from penstock import Cron, Retry, context, pipeline, step, when


class Split(NamedTuple):
    seen: pd.DataFrame
    unseen: pd.DataFrame


class Best(NamedTuple):
    model: SVC
    good_enough: bool


@step(retry=Retry(attempts=4, base="2s", jitter="full", on=(OSError,)))
def read() -> pd.DataFrame:
    return load_digits(as_frame=True).frame


@step
def clean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates()


@step
def split(rows: pd.DataFrame) -> Split:
    return Split(*train_test_split(rows, test_size=0.3, random_state=7, stratify=rows["target"]))


@step(timeout="5m")
def train(rows: pd.DataFrame, strength: float) -> SVC:
    return SVC(C=strength, random_state=7).fit(rows.drop(columns="target"), rows["target"])


@step
def score(model: SVC, rows: pd.DataFrame) -> float:
    accuracy = float(accuracy_score(rows["target"], model.predict(rows.drop(columns="target"))))
    context().metric("accuracy", accuracy)
    return accuracy


@step
def pick(models: list[SVC], scores: list[float], strengths: list[float], minimum: float) -> Best:
    best = scores.index(max(scores))
    print(f"strength {strengths[best]}: {scores[best]:.3f}")
    return Best(models[best], scores[best] >= minimum)


@step(effect="at-least-once")
def publish(model: SVC) -> str:
    from skops.io import dump

    path = Path("model.skops")
    dump(model, path)
    return str(path.resolve())


@pipeline(schedule=Cron("0 3 * * *"), tags={"team": "post"})
def digits(strengths: list[float] = [0.01, 0.1, 1.0, 10.0], minimum: float = 0.9) -> None:
    seen, unseen = split(clean(read()))
    models = train.partial(seen).map(strength=strengths)
    scores = score.partial(rows=unseen).map(model=models)
    best = pick(models, scores, strengths, minimum)
    with when(best.good_enough):
        publish(best.model)


if __name__ == "__main__":
    print(digits.run())
