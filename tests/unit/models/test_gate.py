"""A gate's judgement and its sentences."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ParameterError
from penstock.models.gate import GREATER_IS_BETTER, Opponent, Verdict, judge

CHAMPION = Opponent("churn@champion", "3")
SCORES = st.floats(0, 1)


def test_below_the_minimum_is_refused_in_a_sentence() -> None:
    verdict = judge({"auc": 0.71}, minimum={"auc": 0.8})
    assert verdict == Verdict(False, ["auc 0.71 is below the minimum 0.80"], {"auc": 0.71}, None, None)


def test_worse_than_the_champion_beyond_the_margin_is_refused() -> None:
    verdict = judge({"auc": 0.941}, {"auc": 0.956}, margin=0.002, opponent=CHAMPION, rows=143)
    assert not verdict.passed
    assert verdict.reasons == [
        "auc 0.941 is worse than churn@champion (version 3) 0.956 on the same 143 rows, beyond the margin 0.002"
    ]
    assert verdict.champion == {"auc": 0.956}
    assert verdict.champion_version == "3"


def test_a_little_worse_passes_within_the_margin_and_says_so() -> None:
    verdict = judge({"auc": 0.955}, {"auc": 0.956}, margin=0.002, opponent=CHAMPION, rows=143)
    assert verdict.passed
    assert verdict.reasons == [
        "auc 0.955 is worse than churn@champion (version 3) 0.956 on the same 143 rows, within the margin 0.002"
    ]


def test_the_champion_itself_passes_with_no_margin() -> None:
    verdict = judge({"auc": 0.956}, {"auc": 0.956}, opponent=CHAMPION, rows=143)
    assert verdict.passed
    assert verdict.reasons == ["auc 0.956 is equal to churn@champion (version 3) on the same 143 rows"]


def test_without_a_champion_the_minimum_alone_decides() -> None:
    nobody = Opponent("churn@champion")
    passed = judge({"auc": 0.9}, minimum={"auc": 0.8}, opponent=nobody)
    assert (passed.passed, passed.champion_version) == (True, None)
    assert passed.reasons == ["auc 0.90 reaches the minimum 0.80", "no champion yet: the minimum alone decides"]
    refused = judge({"auc": 0.7}, minimum={"auc": 0.8}, opponent=nobody)
    assert not refused.passed
    bare = judge({"auc": 0.7}, opponent=nobody)
    assert bare.passed
    assert bare.reasons == ["no champion yet and no minimum: there is nothing to compare with"]


def test_for_losses_lower_is_better() -> None:
    assert judge({"log_loss": 0.9}, minimum={"log_loss": 0.5}).reasons == ["log_loss 0.90 is above the maximum 0.50"]
    assert judge({"rmse": 3.0}, {"rmse": 2.0}, opponent=CHAMPION).passed is False
    assert judge({"rmse": 2.0}, {"rmse": 3.0}, opponent=CHAMPION).passed is True


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_passes_no_gate(value: float) -> None:
    verdict = judge({"auc": value}, {"auc": 0.5}, minimum={"auc": 0.1}, opponent=CHAMPION)
    assert not verdict.passed
    assert "not a number" in verdict.reasons[0]


def test_a_champion_without_a_score_is_no_obstacle() -> None:
    assert judge({"auc": 0.6}, {"auc": math.nan}, opponent=CHAMPION).passed


def test_every_refusal_is_named_and_passes_are_left_out() -> None:
    verdict = judge({"auc": 0.7, "f1": 0.9, "recall": 0.2}, minimum={"auc": 0.8, "f1": 0.5, "recall": 0.3})
    assert [each.split()[0] for each in verdict.reasons] == ["auc", "recall"]


def test_a_gate_that_could_not_judge_is_refused() -> None:
    with pytest.raises(ParameterError, match="did you mean 'auc'"):
        judge({"acu": 1.0})
    with pytest.raises(ParameterError, match="minimum for 'f1', which is not measured"):
        judge({"auc": 1.0}, minimum={"f1": 0.5})
    with pytest.raises(ParameterError, match="margin is -1"):
        judge({"auc": 1.0}, margin=-1)
    with pytest.raises(ParameterError, match="no metrics"):
        judge({})


@given(st.sampled_from(sorted(GREATER_IS_BETTER)), SCORES, SCORES, SCORES)
def test_a_gate_is_monotone_in_the_candidate(name: str, low: float, high: float, best: float) -> None:
    """Whatever passes, anything better passes too."""
    worse, better = sorted((low, high), reverse=not GREATER_IS_BETTER[name])
    if judge({name: worse}, {name: best}, minimum={name: 0.5}, margin=0.01, opponent=CHAMPION).passed:
        assert judge({name: better}, {name: best}, minimum={name: 0.5}, margin=0.01, opponent=CHAMPION).passed


@given(SCORES, SCORES)
def test_sentences_never_show_two_different_numbers_as_equal(value: float, limit: float) -> None:
    verdict = judge({"auc": value}, minimum={"auc": limit})
    words = verdict.reasons[0].split()
    assert (words[1] == words[-1]) == (value == limit) or abs(value - limit) < 1e-11


def test_each_field_of_a_verdict_is_an_output() -> None:
    names = [field.name for field in dataclasses.fields(Verdict)]
    assert names == ["passed", "reasons", "candidate", "champion", "champion_version"]
