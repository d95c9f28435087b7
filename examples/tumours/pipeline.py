"""From raw measurements to a live model: the whole job, readable in two minutes.

python make_data.py                       write data/*.csv from the data that scikit-learn ships
penstock run pipeline.py                  train, gate, register, deploy
penstock serve models:/tumour@champion    answer requests
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.typing import DataFrame
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock import Quarantine, Retry, context, deploy, gate, pipeline, read, register, step, when

LABEL = "malignant"


class Measurements(pa.DataFrameModel):
    """What a row must look like; checked wherever a step's annotation says so."""

    mean_radius: float = pa.Field(gt=0, lt=60)
    mean_texture: float = pa.Field(gt=0, lt=100)
    mean_perimeter: float = pa.Field(gt=0, lt=400)
    mean_area: float = pa.Field(gt=0, lt=5000)
    mean_smoothness: float = pa.Field(gt=0, lt=1)
    mean_compactness: float = pa.Field(ge=0, lt=2)
    mean_concavity: float = pa.Field(ge=0, lt=2)
    mean_symmetry: float = pa.Field(gt=0, lt=1)
    malignant: int = pa.Field(isin=[0, 1])

    class Config:
        coerce = True
        strict = "filter"  # other columns of the file are left out


class Split(NamedTuple):
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


@step(retry=Retry(attempts=4, base="1s", cap="10s", jitter="full", on=(OSError, TimeoutError)))
def ingest(source: str) -> pd.DataFrame:
    """Read a local path, s3://…, https://…, or a database; the version of what was read is recorded."""
    return read(source)


@step(on_invalid=Quarantine(max_fraction=0.1))
def validate(raw: pd.DataFrame) -> DataFrame[Measurements]:
    """Bad rows go to a quarantine artifact with their reasons; more than a tenth of them stop the run."""
    return raw


def roundness(rows: pd.DataFrame) -> pd.Series:
    """1 for a circle, less for a ragged outline."""
    return 4 * np.pi * rows["mean_area"] / rows["mean_perimeter"] ** 2


@step
def features(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns a model sees; the same function prepares rows for the live model."""
    return rows.assign(roundness=roundness(rows), log_area=np.log(rows["mean_area"]))


@step
def split(rows: pd.DataFrame, seed: int) -> Split:
    """A row's own content decides whether it is for the test: in every batch and with every seed the same rows are,
    so that no champion was ever trained on the rows it is judged by."""
    held_out = pd.util.hash_pandas_object(rows.round(9), index=False) % 4 == 0
    train, validation = train_test_split(
        rows[~held_out], test_size=0.25, random_state=seed, stratify=rows.loc[~held_out, LABEL]
    )
    return Split(*(part.reset_index(drop=True) for part in (train, validation, rows[held_out])))


@step
def fit(train: pd.DataFrame, strength: float) -> Pipeline:
    """One candidate: logistic regression, `strength` being the inverse of its regularisation."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    return model.fit(train.drop(columns=LABEL), train[LABEL])


@step
def pick(models: list[Pipeline], validation: pd.DataFrame) -> Pipeline:
    """The candidate with the best AUC on rows that none of them has seen."""
    rows, truth = validation.drop(columns=LABEL), validation[LABEL]
    scores = [roc_auc_score(truth, model.predict_proba(rows)[:, 1]) for model in models]
    best = int(np.argmax(scores))
    context().metric("validation_auc", scores[best])
    context().logger.info("candidate %d of %d, AUC %.4f", best + 1, len(models), scores[best])
    return models[best]


@pipeline(tags={"team": "oncology"})
def tumour(source: str = "data/measurements.csv", strengths: list[float] = [0.001, 0.01, 0.1], seed: int = 1) -> None:
    rows = features(validate(ingest(source)))
    train, validation, test = split(rows, seed)
    models = fit.partial(train).map(strength=strengths)
    best = pick(models, validation)
    verdict = gate(
        best,
        on=test,
        label=LABEL,
        metrics=["auc", "accuracy"],
        minimum={"auc": 0.95},
        not_worse_than="tumour@champion",
        margin=0.002,
    )
    with when(verdict.passed):
        version = register("tumour", best, evidence=verdict, example=test)
        deploy(version, alias="champion")


if __name__ == "__main__":
    print(tumour.run())
