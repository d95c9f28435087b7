"""A training script as it grows on a laptop: read, clean, try a few settings, keep the best.

python script.py
"""

import pickle

import pandas as pd
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC


def read() -> pd.DataFrame:
    return load_digits(as_frame=True).frame


def clean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates()


def train(rows: pd.DataFrame, strength: float) -> SVC:
    return SVC(C=strength, random_state=7).fit(rows.drop(columns="target"), rows["target"])


def score(model: SVC, rows: pd.DataFrame) -> float:
    return float(accuracy_score(rows["target"], model.predict(rows.drop(columns="target"))))


def main(strengths: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)) -> None:
    rows = clean(read())
    seen, unseen = train_test_split(rows, test_size=0.3, random_state=7, stratify=rows["target"])
    models = [train(seen, strength) for strength in strengths]
    scores = [score(model, unseen) for model in models]
    best = scores.index(max(scores))
    with open("model.pickle", "wb") as file:
        pickle.dump(models[best], file)
    print(f"strength {strengths[best]}: {scores[best]:.3f}")


if __name__ == "__main__":
    main()
