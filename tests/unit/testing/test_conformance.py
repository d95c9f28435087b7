"""The conformance suite itself: each of its eyes sees what it is there for."""

from __future__ import annotations

import ast
import base64
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.core.errors import UsageError
from penstock.engine.tasks import Collected, Json, Keyed, SecretValue, Stored, Whole
from penstock.graph import Graph, Item, Node, Output, Scope, StepOptions
from penstock.graph.demands import demands, features
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunFinished,
    RunStarted,
    StepSkipped,
    StepSucceeded,
)
from penstock.ports.records import Failure, FailureClass, RunState
from penstock.testing.conformance import leaks, observing, results
from penstock.testing.conformance.case import FOLDER, Act, Case
from penstock.testing.conformance.catalogue import CASES, WITHOUT_A_CASE, chosen
from penstock.testing.conformance.comparing import compare
from penstock.testing.conformance.driving import driver_of, graph_of
from penstock.testing.conformance.laws import broken_laws
from penstock.testing.conformance.observing import Instance, Observed, Tried
from penstock.testing.conformance.page import COLUMNS, page
from penstock.testing.conformance.results import Column, Result, Results

by_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


# -- the cases -------------------------------------------------------------------------------------------------------


def test_every_file_is_a_case_and_every_case_has_a_file() -> None:
    assert sorted(case.name for case in CASES) == sorted(path.stem for path in FOLDER.glob("*.py"))
    assert len(CASES) >= 40


@by_case
def test_a_case_says_its_idea_in_one_sentence_and_is_short(case: Case) -> None:
    text = case.path.read_text(encoding="utf-8")
    assert case.idea.endswith(".")
    assert "\n" not in case.idea
    assert len(text.splitlines()) <= 60
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert case.pipeline in [each.name for each in functions]


@by_case
def test_a_case_asks_for_what_it_says_it_needs(case: Case) -> None:
    assert set(case.needs) <= {demand.feature for demand in demands(graph_of(case))}


def test_whatever_a_pipeline_can_ask_for_is_in_a_case_or_there_is_a_reason() -> None:
    needed = {feature for case in CASES for feature in case.needs}
    assert needed.isdisjoint(WITHOUT_A_CASE)
    assert needed | set(WITHOUT_A_CASE) == set(features())


def test_cases_are_chosen_by_name_by_group_and_as_a_sample() -> None:
    assert [case.name for case in chosen(("linear", "diamond"))] == ["linear", "diamond"]
    assert {case.group for case in chosen(("maps",))} == {"maps"}
    sample = chosen(sample=True)
    assert 10 <= len(sample) <= 25
    assert {case.group for case in sample} == {case.group for case in CASES}


def test_at_full_size_parameters_are_larger_and_outputs_are_left_to_the_comparison() -> None:
    case = Case("x", "values", acts=(Act(output=1, parameters={"a": 1, "b": 2}),), full={"b": 9})
    assert case.script(full=False) == case.acts
    assert case.script(full=True)[0].parameters == {"a": 1, "b": 9}
    assert case.script(full=True)[0].output is ...


# -- the comparison --------------------------------------------------------------------------------------------------

INSTANCE = Instance(
    "succeeded", (Tried("failed", ("error", "OSError", "no"), "said"), Tried("succeeded")), {"output": "json 1a"},
    {"x": ("2b", "3c")}, 0, ("code", "python"), "fine", {"auc": 0.5}, ("file 4d",), ("random *",),
)  # fmt: skip
OBSERVED = Observed("succeeded", "p", {"n": "1"}, {"team": "a"}, "0 3 * * * UTC", "[1]", {"s[0]": INSTANCE}, ())


def other(value: Any) -> Any:
    """A value of the same kind that is another one."""
    match value:
        case str():
            return value + "!"
        case int() | float():
            return value + 1
        case dict():
            return {name: other(each) for name, each in value.items()}
        case tuple():
            return (*value[:-1], other(value[-1])) if value else ("a law that is broken",)
        case Tried():
            return msgspec.structs.replace(value, state="cancelled")
    raise AssertionError(value)


def test_what_is_the_same_differs_in_nothing() -> None:
    assert compare(OBSERVED, OBSERVED) == []


@pytest.mark.parametrize("field", [each for each in Observed.__struct_fields__ if each != "instances"])
def test_every_fact_about_a_run_is_compared(field: str) -> None:
    changed = msgspec.structs.replace(OBSERVED, **{field: other(getattr(OBSERVED, field))})
    (difference,) = compare(OBSERVED, changed)
    assert difference.place == "the run"
    assert difference.calm != difference.here


@pytest.mark.parametrize("field", Instance.__struct_fields__)
def test_every_fact_about_a_step_run_is_compared(field: str) -> None:
    changed = msgspec.structs.replace(INSTANCE, **{field: other(getattr(INSTANCE, field))})
    (difference,) = compare(OBSERVED, msgspec.structs.replace(OBSERVED, instances={"s[0]": changed}))
    assert difference.place == "s[0]"
    assert str(difference).startswith("s[0]: ")
    assert " in the calm run, " in str(difference)


@pytest.mark.parametrize("field", Tried.__struct_fields__)
def test_every_fact_about_an_attempt_is_compared(field: str) -> None:
    first = INSTANCE.attempts[0]
    tried = (msgspec.structs.replace(first, **{field: other(getattr(first, field))}), *INSTANCE.attempts[1:])
    changed = msgspec.structs.replace(INSTANCE, attempts=tried)
    (difference,) = compare(OBSERVED, msgspec.structs.replace(OBSERVED, instances={"s[0]": changed}))
    assert difference.what == f"{field} of attempt 1"


def test_a_missing_or_another_step_run_and_a_missing_attempt_are_told() -> None:
    moved = msgspec.structs.replace(OBSERVED, instances={"t": INSTANCE})
    assert [str(each) for each in compare(OBSERVED, moved)] == [
        "s[0]: step run: succeeded in the calm run, none here",
        "t: step run: none in the calm run, succeeded here",
    ]
    once = msgspec.structs.replace(INSTANCE, attempts=INSTANCE.attempts[:1])
    shorter = msgspec.structs.replace(OBSERVED, instances={"s[0]": once})
    assert [str(each) for each in compare(OBSERVED, shorter)] == ["s[0]: attempts: 2 in the calm run, 1 here"]


def test_a_step_that_may_end_one_way_or_another_may_end_in_no_third_way() -> None:
    failed = msgspec.structs.replace(OBSERVED, instances={"s[0]": Instance("failed")})
    assert compare(OBSERVED, failed, {"s": ("succeeded", "failed")}) == []
    (difference,) = compare(OBSERVED, failed, {"s": ("succeeded", "cancelled")})
    assert (difference.calm, difference.here) == ("succeeded or cancelled", "failed")


def test_what_a_pipeline_returned_is_read_as_text_and_no_class_of_the_users_is_looked_for() -> None:
    large = ArtifactRef("1a", "json", 9)
    whole = Whole("gone.py:make", ("low", "high"), (Json("1"), Stored(ArtifactRef("2b", "json", 1, inline="2"))))
    value = Keyed(("größe", "all"), (Collected((whole, Stored(large)), as_tuple=True), Collected((SecretValue("S"),))))
    assert observing._text(value) == (
        '{"größe":{"$":"tuple","v":[["gone.py:make",{"low":1,"high":2}],"json 1a"]},"all":["<secret S>"]}'
    )


# -- the laws --------------------------------------------------------------------------------------------------------

GRAPH = Graph(
    "p", "p.py:p",
    (
        Node("a", "p.py:a"),
        Node("m", "p.py:m", {"x": Item("m", "x")}, scope="m", options=StepOptions(max_parallel=1)),
        Node("n", "p.py:n", {"x": Output("m")}, scope="m"),
        Node("z", "p.py:z", {"x": Output("n")}),
    ),
    (Scope("m", {"x": Output("a")}),),
)  # fmt: skip


def began(step: str, index: str = "", at: int = 0, attempt: int = 1) -> Event:
    return AttemptStarted(at=at, step=step, index=index, attempt=attempt)


def ended(step: str, index: str = "", at: int = 0) -> Event:
    return StepSucceeded(at=at, step=step, index=index, attempt=1, outputs={})


def laws(*events: Event, close: bool = True) -> list[str]:
    end = [RunFinished(at=9, state=RunState.SUCCEEDED)] if close else []
    return list(broken_laws(GRAPH, [RunStarted(at=0), *events, *end]))


def one(step: str, index: str = "") -> tuple[Event, Event]:
    return began(step, index), ended(step, index)


def test_a_run_in_order_breaks_no_law() -> None:
    elements = [*one("m", "0"), *one("n", "0"), *one("m", "1"), *one("n", "1")]
    assert laws(*one("a"), *elements, *one("z")) == []
    assert laws(*one("a"), *one("z")) == [], "the map is empty"


def test_what_begins_before_what_it_waits_for_is_done_is_told() -> None:
    assert laws(*one("m", "0")) == ["m[0] began before a, which it waits for, was done"]
    assert laws(began("a"), *one("m", "0")) == ["m[0] began before a, which it waits for, was done"]
    found = laws(*one("a"), began("m", "0"), began("n", "0"))
    assert found == ["n[0] began before m[0], which it waits for, was done"]
    ahead = laws(*one("a"), *one("m", "0"), *one("n", "0"), began("n", "1"), began("z"))
    assert ahead == ["z began before n[1], which it waits for, was done"]


def test_another_element_of_a_map_is_not_waited_for_and_a_skipped_step_has_been_waited_for() -> None:
    assert laws(*one("a"), *one("m", "0"), began("m", "1"), *one("n", "0")) == []
    assert laws(StepSkipped(at=0, step="a", because=""), *one("m", "0")) == []


def test_an_attempt_that_begins_too_soon_is_told() -> None:
    failed = AttemptFailed(at=1, step="a", attempt=1, failure=Failure(FailureClass.ERROR, "no"), retry_at=5)
    assert laws(began("a"), failed, began("a", at=5, attempt=2)) == []
    assert laws(began("a"), failed, began("a", at=4, attempt=2)) == ["a began attempt 2 sooner than its policy says"]


def test_more_in_a_pool_than_it_has_places_is_told() -> None:
    pooled = StepOptions(pool="narrow")
    graph = Graph("p", "p.py:p", (Node("a", "p.py:a", options=pooled), Node("b", "p.py:b", options=pooled)))
    events = [began("a"), began("b"), ended("a"), ended("b"), RunFinished(at=9, state=RunState.SUCCEEDED)]
    assert list(broken_laws(graph, events, {"narrow": 1})) == ["b began as number 2 in pool 'narrow', which has 1"]
    assert list(broken_laws(graph, events, {"narrow": 2})) == []


def test_more_at_the_same_time_than_a_step_allows_and_a_run_that_was_never_closed_are_told() -> None:
    found = laws(*one("a"), began("m", "0"), began("m", "1"))
    assert found == ["m[1] began as number 2 at the same time, of 1 at most"]
    assert laws(*one("a"), close=False) == ["the run was never closed"]


# -- secrets ---------------------------------------------------------------------------------------------------------

SECRET = {"TOKEN": "0123456789abcdef0123456789abcdef"}


@pytest.mark.parametrize("shift", range(4))
def test_a_secret_is_found_in_a_file_in_any_form_and_across_the_pieces_it_is_read_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    monkeypatch.setattr(leaks, "_CHUNK", 40)
    plain = SECRET["TOKEN"].encode()
    for number, form in enumerate((plain, plain.hex().encode(), base64.b64encode(b"." * shift + plain + b"!"))):
        (tmp_path / "below").mkdir(exist_ok=True)
        (tmp_path / "below" / f"{number}.log").write_bytes(b"-" * (20 + shift) + form + b"-" * 50)
    (tmp_path / "clean.log").write_bytes(plain[:-1] + b"-" + plain[1:])
    found = list(leaks.found_in_files(SECRET, [tmp_path]))
    assert [line.rpartition("/")[2] for line in found] == ["0.log", "1.log", "2.log"]
    assert all("TOKEN" in line and SECRET["TOKEN"] not in line for line in found)


# -- the registry ----------------------------------------------------------------------------------------------------


def test_a_driver_is_found_by_its_engines_name_and_a_missing_one_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "__init__.py").write_text("")
    (tmp_path / "engines" / "conformance_tide.py").write_text("def driver():\n    return 'the tide'\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [each for each in sys.modules if each.partition(".")[0] == "engines"]:
        monkeypatch.delitem(sys.modules, name)
    try:
        assert driver_of("tide", tmp_path) == "the tide"
        assert driver_of("apart", tmp_path).name == "apart"
        with pytest.raises(UsageError) as caught:
            driver_of("wind", tmp_path)
    finally:
        for name in [each for each in sys.modules if each.partition(".")[0] == "engines"]:
            del sys.modules[name]
    assert "engines/conformance_wind.py is missing" in str(caught.value)
    assert "calm, local, apart, tide" in str(caught.value)


# -- the page --------------------------------------------------------------------------------------------------------


def column(**fields: Any) -> Column:
    kept = {case.name: Result("kept") for case in CASES}
    made = Column({"Tide": "1.2"}, "2026-11-27", "python -m …", results.code_now(), True, {}, kept)
    return msgspec.structs.replace(made, **fields)


NAMES = [case.name for case in CASES]


def test_results_of_this_code_at_full_size_have_no_fault() -> None:
    assert results.faults(Results({"local": column()}), NAMES, ["local"]) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"code": {**results.code_now(), "engine": "0"}}, "local: the code of engine has changed since it was tried"),
        ({"cases": {each: Result("kept") for each in NAMES[1:]}}, f"local was not given {NAMES[0]}"),
        ({"cases": {each: Result("differs") for each in NAMES[:1]} | {each: Result("kept") for each in NAMES[1:]}},
         f"local: {NAMES[0]} differs"),
    ],
)  # fmt: skip
def test_results_that_prove_nothing_about_this_code_are_refused(changed: dict[str, Any], fault: str) -> None:
    assert results.faults(Results({"local": column(**changed)}), NAMES, ["local"]) == [fault]


def test_an_engine_that_was_never_tried_is_a_fault_where_it_is_required() -> None:
    assert results.faults(Results(), NAMES, ["airflow"]) == ["airflow has not been tried"]


def test_an_engine_must_have_been_given_the_sample_and_the_local_ones_everything() -> None:
    some = {each: Result("kept") for each in NAMES[:2]}
    found = Results({"airflow": column(cases=some), "apart": column(cases=some)})
    assert results.faults(found, NAMES[:3], [], NAMES[:2]) == [f"apart was not given {NAMES[2]}"]
    assert results.faults(found, NAMES[:3], [], NAMES[1:3]) == [
        f"airflow was not given {NAMES[2]}",
        f"apart was not given {NAMES[2]}",
    ]


def test_the_page_says_what_was_kept_refused_emulated_or_not_run() -> None:
    declared = {"retry.jitter": ("refused", "it has none"), "map.nested": ("emulated", "by the launcher")}
    cases = {
        "linear": Result("kept"),
        "map_nested": Result("kept", (), ("map.nested: by the launcher",)),
        "retry_jitter_full": Result("refused", ("retry.jitter: it has none",)),
        "guard_true": Result("differs", ("the run: state: succeeded | failed",)),
        "generated_0": Result("kept"),
    }
    text = page(Results({"airflow": column(declared=declared, cases=cases)}), CASES)
    rows = {line.split(" | ")[0].strip("| `"): line.split(" | ") for line in text.splitlines() if line.startswith("| ")}
    at = 2 + list(COLUMNS).index("airflow")
    assert rows["linear"][at] == "✓"
    assert rows["map_nested"][at] == "✓, emulated"
    assert rows["retry_jitter_full"][at] == "refused"
    assert rows["guard_true"][at] == "✗ differs"
    assert rows["diamond"][at] == "not run"
    assert rows["linear"][at + 1] == "not run"
    assert rows["retry.jitter"][at - 1] == "refused, 0/1"
    assert rows["pipelines"][at - 1] == "1 of 1 kept"
    assert "- `retry.jitter` refused: it has none" in text
    assert "- **guard_true** differs: the run: state: succeeded \\| failed" in text
    assert "Tide 1.2" in text


def test_what_is_kept_of_an_engine_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    from penstock.testing.conformance.campaign import Played

    played = [Played(CASES[0], "broken", (f"no such file: {tmp_path}/project/linear.py, line 3",))]
    found = results.column_of(driver_of("local", tmp_path), played, "command", full=True)
    assert found.cases["linear"].told == ("no such file: …/linear.py, line 3",)
    assert found.declared["steps"] == ("supported", "")
