"""Gate, register and deploy in the context of a run, over a registry in memory and scikit-learn's scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from penstock.core.errors import InvalidDataError, ParameterError, RegistryError
from penstock.models.gate import Verdict
from penstock.models.memory import MemoryRegistry
from penstock.models.observing import observers
from penstock.models.steps import Deployment, deploy, gate, register
from penstock.ports.context import CURRENT, Context
from penstock.ports.models import Column
from penstock.ports.records import Observation
from penstock.tracking.scorer import SklearnScorer

ROWS = pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0], "label": [0, 0, 1, 1]})
GOOD = LogisticRegression().fit(ROWS[["age"]], ROWS["label"])
BAD = LogisticRegression().fit(ROWS[["age"]], [1, 1, 0, 0])


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@contextmanager
def step(registry: MemoryRegistry, **digests: list[str]) -> Iterator[Context]:
    """What the launcher puts around a step."""
    services: dict[str, Any] = {"registry": registry, "scorer": SklearnScorer()}
    made = Context(run_id="churn-1", pipeline="churn", step="register", services=services.__getitem__)
    made.input_digests = digests
    token = CURRENT.set(made)
    try:
        yield made
    finally:
        CURRENT.reset(token)


def put_on_top(registry: MemoryRegistry, model: Any, digest: str) -> None:
    with step(registry, model=[digest]):
        deploy(register("churn", model))


def test_a_gate_keys_on_the_champions_version(registry: MemoryRegistry) -> None:
    with step(registry) as first:
        verdict = gate(GOOD, ROWS, minimum={"auc": 0.8}, not_worse_than="churn@champion")
    assert verdict.passed
    assert verdict.champion_version is None
    assert first.observations == [Observation("model", "churn@champion", "none")]
    put_on_top(registry, GOOD, "good")
    assert observers(registry)["model"].version("churn@champion") == "1"
    with step(registry) as second:
        verdict = gate(GOOD, ROWS, minimum={"auc": 0.8}, not_worse_than="churn@champion")
    assert (verdict.passed, verdict.champion_version) == (True, "1")
    assert second.observations == [Observation("model", "churn@champion", "1")]
    assert second.metrics == {"auc": 1.0, "champion_auc": 1.0}


def test_a_gate_scores_both_on_the_same_rows_and_refuses_the_worse(registry: MemoryRegistry) -> None:
    put_on_top(registry, GOOD, "good")
    with step(registry) as ctx:
        verdict = gate(BAD, ROWS, metrics=["auc", "accuracy"], not_worse_than="models:/churn@champion")
    assert not verdict.passed
    assert verdict.candidate == {"auc": 0.0, "accuracy": 0.0}
    assert verdict.champion == {"auc": 1.0, "accuracy": 1.0}
    assert verdict.reasons[0] == "auc 0.00 is worse than churn@champion (version 1) 1.00 on the same 4 rows"
    assert str(ctx.note).startswith("refused: auc 0.00 is worse")


def test_a_champion_that_reads_other_columns_is_an_error_not_a_pass(registry: MemoryRegistry) -> None:
    put_on_top(registry, GOOD, "good")
    renamed = ROWS.rename(columns={"age": "years"})
    candidate = LogisticRegression().fit(renamed[["years"]], renamed["label"])
    with step(registry), pytest.raises(RegistryError, match=r"version 1\) cannot be scored on these rows.*'age'"):
        gate(candidate, renamed, not_worse_than="churn@champion")


def test_a_gate_refuses_what_it_could_not_judge_before_scoring(registry: MemoryRegistry) -> None:
    with step(registry), pytest.raises(ParameterError, match="did you mean 'accuracy'"):
        gate(GOOD, ROWS, metrics=["acuracy"])
    with step(registry), pytest.raises(InvalidDataError, match="no label column 'lable'"):
        gate(GOOD, ROWS, label="lable")


def test_the_same_stored_model_registers_once(registry: MemoryRegistry) -> None:
    verdict = Verdict(True, ["fine"], {"auc": 1.0})
    with step(registry, model=["abc"], evidence=["e1"]) as first:
        one = register("churn", GOOD, verdict, example=ROWS[["age"]], parameters={"depth": 4}, tags={"team": "a"})
    with step(registry, model=["abc"], evidence=["e2"]) as second:
        two = register("churn", GOOD, Verdict(True, ["fine"], {"auc": 1.0}, {"auc": 1.0}, "1"))
    assert one == two
    assert (first.note, second.note) == ("registered churn version 1", "already registered as version 1")
    assert first.observations == second.observations == [Observation("model-version", "churn/1", f"exists:{one.key}")]
    assert observers(registry)["model-version"].version("churn/1") == f"exists:{one.key}"
    assert one.metrics == {"auc": 1.0}
    assert one.tags == {"penstock.gate": "passed", "team": "a"}
    assert (one.run_id, one.digest) == ("churn-1", "abc")
    with step(registry, model=["other"]):
        assert register("churn", BAD).version == "2"


def test_what_register_returns_does_not_change_when_aliases_move(registry: MemoryRegistry) -> None:
    with step(registry, model=["abc"]):
        before = register("churn", GOOD)
        deploy(before)
        assert register("churn", GOOD) == before


def test_deploy_moves_the_alias_once_and_says_from_where(registry: MemoryRegistry) -> None:
    put_on_top(registry, GOOD, "good")
    with step(registry, model=["bad"]) as ctx:
        version = register("churn", BAD)
        assert deploy(version) == Deployment("churn", "2", "champion", "models:/churn@champion")
        assert ctx.note == "champion → version 2 (was 1)"
        assert Observation("model", "churn@champion", "2") in ctx.observations
    with step(registry) as again:
        deploy(version)
        assert again.note == "champion already points to version 2"
        deploy(version, alias="challenger")
        assert again.note == "challenger → version 2"
    with step(registry), pytest.raises(RegistryError, match="reads like a version"):
        deploy(version, alias="v2")


def test_the_registry_in_memory_reads_a_signature_from_an_example(registry: MemoryRegistry) -> None:
    rows = pd.DataFrame({"age": [1.5, None], "visits": [1, 2], "plan": ["a", "b"], "on": [True, False]})
    with step(registry, model=["abc"]):
        signature = registry.signature(register("churn", GOOD, example=rows))
    assert signature is not None
    assert signature.columns == (
        Column("age", "double", optional=True),
        Column("visits", "long"),
        Column("plan", "string"),
        Column("on", "boolean"),
    )
    assert signature.example[0] == {"age": 1.5, "visits": 1, "plan": "a", "on": True}
