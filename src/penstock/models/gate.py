"""Whether a model is good enough: a pure judgement over numbers, with reasons that people read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..core.errors import ParameterError, did_you_mean

GREATER_IS_BETTER: Mapping[str, bool] = {
    "accuracy": True,
    "auc": True,
    "average_precision": True,
    "balanced_accuracy": True,
    "f1": True,
    "precision": True,
    "r2": True,
    "recall": True,
    "brier": False,
    "log_loss": False,
    "mae": False,
    "mse": False,
    "rmse": False,
}

# Two scores of the same model on the same rows may differ in the last bits (another BLAS, another thread count).
_SAME = 1e-12


@dataclass(frozen=True)
class Verdict:
    """What a gate decided, and on what evidence. Each field is an output of the gate step of its own."""

    passed: bool
    reasons: list[str]
    candidate: dict[str, float]
    champion: dict[str, float] | None = None
    champion_version: str | None = None


@dataclass(frozen=True)
class Opponent:
    """Who the candidate is compared with, for the sentences: "churn@champion", version "3"."""

    reference: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.reference} (version {self.version})" if self.version else self.reference


def check_metrics(metrics: list[str], minimum: Mapping[str, float], margin: float = 0.0) -> None:
    """Refuse a gate that could not judge: unknown metrics, a minimum on an unmeasured metric, a margin below zero.

    Raises: ParameterError.
    """
    for name in [*metrics, *minimum]:
        if name not in GREATER_IS_BETTER:
            raise ParameterError(f"'{name}' is not a metric", hint=did_you_mean(name, list(GREATER_IS_BETTER)))
    for name in minimum:
        if name not in metrics:
            raise ParameterError(
                f"the gate has a minimum for '{name}', which is not measured", hint=f"add '{name}' to metrics"
            )
    if not metrics:
        raise ParameterError("the gate has no metrics", hint="name at least one, as in metrics=['auc']")
    if not margin >= 0:
        raise ParameterError(f"the gate's margin is {margin}", hint="a margin is zero or more")


def judge(
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None = None,
    *,
    minimum: Mapping[str, float] | None = None,
    margin: float = 0.0,
    opponent: Opponent | None = None,
    rows: int | None = None,
) -> Verdict:
    """Pass a candidate that reaches every minimum and is not worse than the champion in any metric, margin allowed.

    Both were scored on the same `rows`. For errors and losses, where lower is better, a minimum is the most allowed.

    >>> judge({"auc": 0.71}, minimum={"auc": 0.8}).reasons
    ['auc 0.71 is below the minimum 0.80']
    """
    limits = minimum or {}
    check_metrics(list(candidate), limits, margin)
    judged: list[tuple[bool, str]] = []
    for name, value in candidate.items():
        if not math.isfinite(value):
            judged.append((False, f"{name} is {value}: a score that is not a number passes no gate"))
            continue
        if name in limits:
            judged.append(_against_limit(name, value, limits[name]))
        if champion is not None and name in champion:
            judged.append(_against_champion(name, value, champion[name], margin, opponent, rows))
    refusals = [sentence for good, sentence in judged if not good]
    reasons = refusals or [sentence for _, sentence in judged]
    if champion is None and opponent is not None:
        tail = "the minimum alone decides" if limits else "and no minimum: there is nothing to compare with"
        alias = opponent.reference.rpartition("@")[2]
        reasons = [*reasons, f"no {alias} yet{':' if limits else ''} {tail}"]
    return Verdict(
        passed=not refusals,
        reasons=reasons,
        candidate=dict(candidate),
        champion=None if champion is None else dict(champion),
        champion_version=opponent.version if opponent else None,
    )


def _against_limit(name: str, value: float, limit: float) -> tuple[bool, str]:
    up = GREATER_IS_BETTER[name]
    shown, shown_limit = _shown(value, limit)
    if (value >= limit) if up else (value <= limit):
        return True, f"{name} {shown} {'reaches the minimum' if up else 'is within the maximum'} {shown_limit}"
    return False, f"{name} {shown} is {'below the minimum' if up else 'above the maximum'} {shown_limit}"


def _against_champion(
    name: str, value: float, best: float, margin: float, opponent: Opponent | None, rows: int | None
) -> tuple[bool, str]:
    who = str(opponent) if opponent else "the champion"
    where = f" on the same {rows} rows" if rows is not None else ""
    if not math.isfinite(best):
        return True, f"{name} of {who} is {best}{where}: any number is better"
    shown, shown_best = _shown(value, best)
    loss = best - value if GREATER_IS_BETTER[name] else value - best
    if loss > margin + _SAME:
        beyond = f", beyond the margin {margin:g}" if margin else ""
        return False, f"{name} {shown} is worse than {who} {shown_best}{where}{beyond}"
    if abs(value - best) <= _SAME:
        return True, f"{name} {shown} is equal to {who}{where}"
    if loss > 0:
        return True, f"{name} {shown} is worse than {who} {shown_best}{where}, within the margin {margin:g}"
    return True, f"{name} {shown} is better than {who} {shown_best}{where}"


def _shown(value: float, other: float) -> tuple[str, str]:
    """Both numbers with as few digits as tell them apart and keep three figures after the point.

    >>> _shown(0.71, 0.8), _shown(0.9412, 0.956), _shown(0.80001, 0.8)
    (('0.71', '0.80'), ('0.941', '0.956'), ('0.80001', '0.80000'))
    """
    for digits in range(2, 13):
        near = all(abs(round(each, digits) - each) <= 0.0005 * max(1.0, abs(each)) for each in (value, other))
        texts = f"{value:.{digits}f}", f"{other:.{digits}f}"
        if near and (texts[0] != texts[1] or value == other):
            return texts
    return repr(value), repr(other)
