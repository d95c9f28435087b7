"""Scores agree with scikit-learn's own, and rows that cannot be scored are refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from penstock.core.errors import InvalidDataError, ParameterError
from penstock.models.gate import GREATER_IS_BETTER
from penstock.tracking.scorer import _METRICS, SklearnScorer

IRIS = load_iris(as_frame=True).frame.rename(columns={"target": "label"})
NAMES = [each for each in IRIS.columns if each != "label"]
TWO = IRIS[IRIS["label"] > 0].assign(label=lambda rows: rows["label"].map({1: "ham", 2: "spam"}))
BINARY = LogisticRegression(max_iter=1000).fit(TWO[NAMES], TWO["label"])
MULTI = LogisticRegression(max_iter=1000).fit(IRIS[NAMES], IRIS["label"])


def score(model: Any, rows: Any, *names: str, label: str = "label") -> dict[str, float]:
    return dict(SklearnScorer().score(model, rows, label=label, metrics=names))


def test_every_metric_a_gate_knows_can_be_computed_and_no_other() -> None:
    assert set(_METRICS) == set(GREATER_IS_BETTER)


def test_two_classes_score_as_scikit_learn_scores_them() -> None:
    truth, chance = TWO["label"] == "spam", BINARY.predict_proba(TWO[NAMES])[:, 1]
    said = BINARY.predict(TWO[NAMES])
    got = score(BINARY, TWO, "auc", "f1", "precision", "recall", "brier", "log_loss", "accuracy", "average_precision")
    assert got == pytest.approx(
        {
            "auc": metrics.roc_auc_score(truth, chance),
            "f1": metrics.f1_score(TWO["label"], said, pos_label="spam"),
            "precision": metrics.precision_score(TWO["label"], said, pos_label="spam"),
            "recall": metrics.recall_score(TWO["label"], said, pos_label="spam"),
            "brier": metrics.brier_score_loss(truth, chance),
            "log_loss": metrics.log_loss(truth, chance),
            "accuracy": metrics.accuracy_score(TWO["label"], said),
            "average_precision": metrics.average_precision_score(truth, chance),
        }
    )


def test_several_classes_are_averaged() -> None:
    chance = MULTI.predict_proba(IRIS[NAMES])
    got = score(MULTI, IRIS, "auc", "f1", "brier", "log_loss", "average_precision", "balanced_accuracy")
    assert got["auc"] == pytest.approx(metrics.roc_auc_score(IRIS["label"], chance, multi_class="ovr"))
    assert got["f1"] == pytest.approx(metrics.f1_score(IRIS["label"], MULTI.predict(IRIS[NAMES]), average="macro"))
    assert 0.9 < got["average_precision"] <= 1
    assert 0 < got["brier"] < 0.2


def test_decisions_stand_in_for_probabilities_where_only_order_matters() -> None:
    model = LinearSVC().fit(TWO[NAMES], TWO["label"])
    expected = metrics.roc_auc_score(TWO["label"] == "spam", model.decision_function(TWO[NAMES]))
    assert score(model, TWO, "auc") == {"auc": pytest.approx(expected)}
    with pytest.raises(ParameterError, match="log_loss needs probabilities, and LinearSVC gives none"):
        score(model, TWO, "log_loss")


def test_values_are_scored_by_their_errors() -> None:
    rows = pd.DataFrame({"x": [1.0, 2.0, 3.0], "label": [1.0, 2.0, 4.0]})
    model = LinearRegression().fit(rows[["x"]], rows["label"])
    error = rows["label"] - model.predict(rows[["x"]])
    got = score(model, rows, "mae", "mse", "rmse", "r2")
    assert got["mae"] == pytest.approx(float(error.abs().mean()))
    assert got["rmse"] == pytest.approx(float(np.sqrt((error**2).mean())))
    assert got["mse"] == pytest.approx(got["rmse"] ** 2)
    assert 0.9 < got["r2"] < 1
    with pytest.raises(ParameterError, match="LinearRegression is not a classifier"):
        score(model, rows, "auc")


def test_columns_are_found_by_name_and_order_does_not_matter() -> None:
    shuffled = TWO[["label", *reversed(NAMES)]].assign(extra=1)
    assert score(BINARY, shuffled, "auc") == score(BINARY, TWO, "auc")
    plain = LogisticRegression(max_iter=1000).fit(TWO[NAMES].to_numpy(), TWO["label"])
    assert score(plain, TWO, "accuracy") == score(BINARY, TWO, "accuracy")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (TWO.drop(columns="label"), "no label column 'label'"),
        (TWO.drop(columns=NAMES[0]), f"no column '{NAMES[0].split('(')[0]}"),
        (TWO[:0], "no rows to score"),
        (TWO.assign(label=None), "100 of 100 rows have no value in the label column"),
        (TWO[TWO["label"] == "ham"], "auc needs rows of several classes; all 50 rows have the label ham"),
        ([1, 2], "a list cannot be scored"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(rows: Any, problem: str) -> None:
    with pytest.raises(InvalidDataError, match=problem):
        score(BINARY, rows, "auc")


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(ParameterError, match="did you mean 'accuracy'"):
        score(BINARY, TWO, "acuracy")
    with pytest.raises(InvalidDataError, match="needs rows of each; none has the label 0"):
        score(MULTI, IRIS[IRIS["label"] > 0], "auc")


def test_a_model_fitted_on_its_own_label_is_refused() -> None:
    rows = pd.DataFrame({"x": [1.0, 2.0], "label": [0.0, 1.0]})
    with pytest.raises(InvalidDataError, match="fitted on the label column"):
        score(LogisticRegression().fit(rows, [0, 1]), rows, "auc")
