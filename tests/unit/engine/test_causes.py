"""Evidence to cause: what is proven, what is likely, what is only possible."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.engine.causes import (
    HASH_0,
    HASH_1,
    ONE_THREAD,
    RECORDED_THREADS,
    SAME,
    SEEDED,
    Evidence,
    Signature,
    causes,
)
from penstock.engine.comparison import Change


def came_to(*values: str) -> tuple[Signature, ...]:
    return tuple(Signature("done", (("output", value),)) for value in values)


def found(again: str = "now", **known: Any) -> list[tuple[str, str]]:
    tried = {name.replace("_", " "): came_to(*values) for name, values in known.pop("tried", {}).items()}
    evidence = Evidence(recorded=came_to("then")[0], again=came_to(again)[0], tried=tried, **known)
    return [(cause.kind, cause.sure) for cause in causes(evidence)]


def change(text: str) -> tuple[Change, ...]:
    return (Change("package", text.partition(":")[0], text),)


STEADY: dict[str, tuple[str, ...]] = {SAME: ("now",), ONE_THREAD: ("now",), HASH_0: ("now",), HASH_1: ("now",)}


@pytest.mark.parametrize(
    ("tried", "kind", "sure"),
    [
        ({ONE_THREAD: ("a", "a")}, "threads", "proven"),
        ({ONE_THREAD: ("a", "b"), HASH_0: ("c", "c")}, "hash order", "proven"),
        ({ONE_THREAD: ("a", "b"), HASH_0: ("c", "d"), SEEDED: ("e", "e")}, "seed", "proven"),
        ({ONE_THREAD: ("a", "b"), HASH_0: ("c", "d"), SEEDED: ("e", "f")}, "seed", "likely"),
        ({}, "seed", "likely"),
    ],
)
def test_a_step_that_differs_from_itself_has_the_cause_that_makes_it_agree(
    tried: dict[str, tuple[str, ...]], kind: str, sure: str
) -> None:
    assert found(tried={SAME: ("other",), **tried})[0] == (kind, sure)


@pytest.mark.parametrize(
    ("tried", "kind"),
    [
        ({RECORDED_THREADS: ("then",)}, "threads"),
        ({ONE_THREAD: ("then",)}, "threads"),
        ({HASH_0: ("then",)}, "hash order"),
        ({HASH_1: ("then",)}, "hash order"),
    ],
)
def test_what_brings_the_recorded_result_back_is_proven(tried: dict[str, tuple[str, ...]], kind: str) -> None:
    assert found(tried=STEADY | tried)[0] == (kind, "proven")


def test_a_step_that_depends_on_threads_or_hashing_is_likely_to_differ_by_them() -> None:
    assert found(tried=STEADY | {ONE_THREAD: ("third",)}) == [("threads", "likely")]
    assert found(tried=STEADY | {HASH_1: ("third",)}) == [("hash order", "likely")]


def test_changed_data_is_proven_where_the_step_agrees_with_itself_and_likely_where_not() -> None:
    data = (Change("observation", "orders.csv", "source file orders.csv changed"),)
    assert found(tried={SAME: ("now",)}, data=data) == [("data", "proven")]
    assert found(tried={SAME: ("other",)}, data=data)[:2] == [("data", "likely"), ("seed", "likely")]


def test_a_package_that_the_step_uses_is_likelier_than_one_that_is_only_installed() -> None:
    changed = {"packages": change("package toy: 1 → 2"), "other_packages": change("package ruff: 1 → 2")}
    assert found(tried=STEADY, **changed) == [("package", "likely"), ("package", "possible")]
    assert found(tried=STEADY | {ONE_THREAD: ("then",)}, **changed)[0] == ("threads", "proven")


def test_without_any_evidence_it_says_so() -> None:
    assert found(tried=STEADY) == [("unknown", "possible")]
    assert found(tried=STEADY, unseen=("flow.py:3: open opens a file",)) == [("hidden input", "possible")]
