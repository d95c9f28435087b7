"""The same script as a Prefect flow, written by hand: decorators, retries, one task run per setting.

The flow runs in one process, so the project's libraries live in Prefect's environment, and tables and models go from
task to task in memory. A task that is tried again a day later, or in another process, finds nothing of them.
"""

import pickle
from datetime import timedelta

import pandas as pd
from prefect import flow, task
from prefect.tasks import task_input_hash
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC


@task(retries=3, retry_delay_seconds=[2, 4, 8])
def read() -> pd.DataFrame:
    return load_digits(as_frame=True).frame


@task(cache_key_fn=task_input_hash, cache_expiration=timedelta(days=1), persist_result=True)
def clean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates()


@task
def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return tuple(train_test_split(rows, test_size=0.3, random_state=7, stratify=rows["target"]))


@task(timeout_seconds=300)
def train(rows: pd.DataFrame, strength: float) -> SVC:
    return SVC(C=strength, random_state=7).fit(rows.drop(columns="target"), rows["target"])


@task
def score(model: SVC, rows: pd.DataFrame) -> float:
    return float(accuracy_score(rows["target"], model.predict(rows.drop(columns="target"))))


@task
def publish(model: SVC) -> None:
    with open("model.pickle", "wb") as file:
        pickle.dump(model, file)


@flow(log_prints=True)
def digits_native(strengths: list[float] = [0.01, 0.1, 1.0, 10.0], minimum: float = 0.9) -> None:
    seen, unseen = split(clean(read()))
    models = [train.submit(seen, strength) for strength in strengths]
    scores = [score.submit(model, unseen).result() for model in models]
    best = scores.index(max(scores))
    print(f"strength {strengths[best]}: {scores[best]:.3f}")
    if scores[best] >= minimum:
        publish(models[best])


if __name__ == "__main__":
    digits_native()
