"""Scores of a scikit-learn model on labelled rows, by the names that gates use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.errors import InvalidDataError, MissingExtraError, ParameterError, did_you_mean
from .quiet import quiet


class SklearnScorer:
    """Computes metrics with scikit-learn, on whatever the model offers: probabilities, decisions or predictions."""

    def score(self, model: Any, rows: Any, *, label: str, metrics: Sequence[str]) -> Mapping[str, float]:
        """Raises ParameterError for a metric that is unknown or unsuitable, InvalidDataError for rows it cannot use."""
        try:
            import sklearn.metrics  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("scoring a model needs scikit-learn", extra="sklearn") from error
        for name in metrics:
            if name not in _METRICS:
                raise ParameterError(f"'{name}' is not a metric", hint=did_you_mean(name, list(_METRICS)))
        asked = _Asked(model, *_split(model, rows, label))
        return {name: float(_METRICS[name](asked)) for name in metrics}


class _Asked:
    """A model's answers on the rows, each computed once and only if a metric needs it."""

    def __init__(self, model: Any, features: Any, truth: Any) -> None:
        self.model = model
        self.features = features
        self.truth = truth
        self._answers: dict[str, Any] = {}

    def answer(self, method: str) -> Any:
        if method not in self._answers:
            with quiet():
                self._answers[method] = getattr(self.model, method)(self.features)
        return self._answers[method]

    @property
    def predictions(self) -> Any:
        return self.answer("predict")

    @property
    def classes(self) -> list[Any]:
        classes = getattr(self.model, "classes_", None)
        if classes is None:
            raise ParameterError(
                f"{self.kind} is not a classifier, so it has no such metric", hint="use r2, rmse, mae or mse"
            )
        return list(classes)

    @property
    def kind(self) -> str:
        return type(self.model).__name__

    def probabilities(self, metric: str) -> Any:
        if not hasattr(self.model, "predict_proba"):
            raise ParameterError(
                f"{metric} needs probabilities, and {self.kind} gives none", hint="use accuracy or f1 instead"
            )
        return self.answer("predict_proba")

    def needs_several_labels(self, metric: str) -> None:
        present = sorted({str(each) for each in self.truth})
        if len(present) < 2:
            raise InvalidDataError(
                f"{metric} needs rows of several classes; all {len(self.truth)} rows have the label {present[0]}",
                hint="split with stratify, or score on more rows",
            )

    def averaging(self) -> dict[str, Any]:
        classes = self.classes
        return {"average": "macro"} if len(classes) > 2 else {"average": "binary", "pos_label": classes[-1]}


def _split(model: Any, rows: Any, label: str) -> tuple[Any, Any]:
    table = rows.to_pandas() if not hasattr(rows, "iloc") and hasattr(rows, "to_pandas") else rows
    if not hasattr(table, "columns"):
        raise InvalidDataError(f"a {type(rows).__qualname__} cannot be scored", hint="give a table with named columns")
    columns = [str(each) for each in table.columns]
    if label not in columns:
        raise InvalidDataError(f"the rows have no label column '{label}'", hint=did_you_mean(label, columns))
    if not len(table):
        raise InvalidDataError("there are no rows to score on")
    if empty := int(table[label].isna().sum()):
        raise InvalidDataError(f"{empty} of {len(table)} rows have no value in the label column '{label}'")
    return _features(model, table, label), table[label].to_numpy()


def _features(model: Any, table: Any, label: str) -> Any:
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        # Fitted on plain arrays: the columns' names would only make scikit-learn complain.
        return table.drop(columns=[label]).to_numpy()
    wanted = [str(each) for each in names]
    if label in wanted:
        raise InvalidDataError(
            f"{type(model).__name__} was fitted on the label column '{label}' itself", hint="drop it before fitting"
        )
    if missing := [each for each in wanted if each not in table.columns]:
        near = did_you_mean(missing[0], [str(each) for each in table.columns if each != label])
        raise InvalidDataError(f"the rows have no column {', '.join(map(repr, missing))}", hint=near)
    return table[wanted]


def _auc(asked: _Asked) -> float:
    from sklearn.metrics import roc_auc_score

    classes = asked.classes
    asked.needs_several_labels("auc")
    if len(classes) == 2:
        return float(roc_auc_score(asked.truth == classes[1], _positive_scores(asked, "auc")))
    present = {str(each) for each in asked.truth}
    if absent := [str(each) for each in classes if str(each) not in present]:
        raise InvalidDataError(
            f"auc over {len(classes)} classes needs rows of each; none has the label {', '.join(absent)}",
            hint="split with stratify, or score on more rows",
        )
    return float(roc_auc_score(asked.truth, asked.probabilities("auc"), multi_class="ovr", labels=classes))


def _average_precision(asked: _Asked) -> float:
    from sklearn.metrics import average_precision_score

    classes = asked.classes
    asked.needs_several_labels("average_precision")
    if len(classes) == 2:
        return float(average_precision_score(asked.truth == classes[1], _positive_scores(asked, "average_precision")))
    scores = asked.probabilities("average_precision")
    each = [average_precision_score(asked.truth == name, scores[:, place]) for place, name in enumerate(classes)]
    return float(sum(each) / len(each))


def _positive_scores(asked: _Asked, metric: str) -> Any:
    if hasattr(asked.model, "predict_proba"):
        return asked.answer("predict_proba")[:, 1]
    if hasattr(asked.model, "decision_function"):
        return asked.answer("decision_function")
    return asked.probabilities(metric)[:, 1]


def _brier(asked: _Asked) -> float:
    from sklearn.metrics import brier_score_loss

    classes = asked.classes
    scores = asked.probabilities("brier")
    if len(classes) == 2:
        return float(brier_score_loss(asked.truth == classes[1], scores[:, 1]))
    return float(brier_score_loss(asked.truth, scores, labels=classes))


def _log_loss(asked: _Asked) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(asked.truth, asked.probabilities("log_loss"), labels=asked.classes))


def _by_class(name: str) -> Callable[[_Asked], float]:
    def compute(asked: _Asked) -> float:
        from sklearn import metrics

        measure = getattr(metrics, f"{name}_score")
        return float(measure(asked.truth, asked.predictions, zero_division=0, **asked.averaging()))

    return compute


def _by_value(name: str, *, classifier: bool = False) -> Callable[[_Asked], float]:
    def compute(asked: _Asked) -> float:
        from sklearn import metrics

        if classifier and asked.classes:
            return float(getattr(metrics, name)(asked.truth, asked.predictions))
        return float(getattr(metrics, name)(asked.truth.astype(float), asked.predictions))

    return compute


_METRICS: dict[str, Callable[[_Asked], float]] = {
    "accuracy": _by_value("accuracy_score", classifier=True),
    "auc": _auc,
    "average_precision": _average_precision,
    "balanced_accuracy": _by_value("balanced_accuracy_score", classifier=True),
    "brier": _brier,
    "f1": _by_class("f1"),
    "log_loss": _log_loss,
    "mae": _by_value("mean_absolute_error"),
    "mse": _by_value("mean_squared_error"),
    "precision": _by_class("precision"),
    "r2": _by_value("r2_score"),
    "recall": _by_class("recall"),
    "rmse": _by_value("root_mean_squared_error"),
}
