"""The textbook training job in containers: load, split, train, score, keep the model if it is good. For every engine.

penstock run pipeline.py                                here, now
penstock run pipeline.py --profile here                 the same in containers, under kfp.local
penstock deploy pipeline.py --profile prod              on a Kubeflow server
"""

from typing import NamedTuple

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split

from penstock import Limits, Resources, Retry, pipeline, step, when


class Split(NamedTuple):
    train: pd.DataFrame
    test: pd.DataFrame


@step(retry=Retry(attempts=4, base="2s", cap="1m", on=(OSError,)))
def load() -> pd.DataFrame:
    return load_digits(as_frame=True).frame


@step
def split(rows: pd.DataFrame) -> Split:
    return Split(*train_test_split(rows, test_size=0.25, random_state=7, stratify=rows["target"]))


@step(resources=Resources(cpu=1, memory="1Gi"), limits=Limits(memory="2Gi"), timeout="10m")
def train(rows: pd.DataFrame, trees: int) -> RandomForestClassifier:
    model = RandomForestClassifier(n_estimators=trees, random_state=7)
    return model.fit(rows.drop(columns="target"), rows["target"])


@step
def score(model: RandomForestClassifier, rows: pd.DataFrame) -> dict[str, float]:
    found = model.predict(rows.drop(columns="target"))
    return {
        "accuracy": float(accuracy_score(rows["target"], found)),
        "f1": float(f1_score(rows["target"], found, average="macro")),
    }


@step
def good_enough(scores: dict[str, float], minimum: float) -> bool:
    return scores["accuracy"] >= minimum


@step
def card(model: RandomForestClassifier, scores: dict[str, float]) -> str:
    """A page about the model, for whoever decides about it."""
    lines = [f"# {type(model).__name__}, {model.n_estimators} trees", ""]
    return "\n".join([*lines, *(f"- {name}: {value:.3f}" for name, value in scores.items())])


@pipeline(tags={"team": "post"})
def digits(trees: int = 100, minimum: float = 0.9) -> None:
    rows, held_out = split(load())
    model = train(rows, trees)
    scores = score(model, held_out)
    with when(good_enough(scores, minimum)):
        card(model, scores)


if __name__ == "__main__":
    print(digits.run())
