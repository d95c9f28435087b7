"""A map of many elements is told in a few lines: counts, times, and what failed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cli.app import main
from penstock.cli.elements import FEW, counts, failures, grouped, pending, times
from penstock.graph import Graph, Node, Scope
from penstock.ports.records import Failure, FailureClass, RunState, StepRun, StepState

PIPELINE = """
from penstock import pipeline, step

@step(isolation="thread")
def numbers(count: int) -> list[int]:
    return list(range(count))

@step(isolation="thread")
def halve(x: int) -> int:
    if x % 50 == 7:
        raise ValueError("odd one out")
    return x // 2

@pipeline
def flow(count: int = 300) -> list[int]:
    return halve.map(x=numbers(count))
"""


def _element(at: int, state: StepState = StepState.SUCCEEDED, *, step: str = "fit", message: str = "") -> StepRun:
    failure = Failure(FailureClass.ERROR, message, ("builtins:ValueError",)) if message else None
    return StepRun(step, str(at), state, attempts=1, seconds=at / 100, failure=failure)


def test_only_a_map_of_more_than_a_few_elements_is_one_line() -> None:
    few, many = [_element(at, step="few") for at in range(FEW)], [_element(at) for at in range(FEW + 1)]
    alone = StepRun("load", "", StepState.SUCCEEDED)
    mixed = [alone, many[0], *few, *many[1:]]
    assert grouped(mixed) == [[alone], many, *([each] for each in few)]


def test_the_mark_of_a_map_is_that_of_its_worst_element_and_every_state_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    states = [*[StepState.SUCCEEDED] * 5, *[StepState.CACHED] * 2, StepState.FAILED, *[StepState.RUNNING] * 3]
    runs = [_element(at, state) for at, state in enumerate(states)]
    assert counts(runs, RunState.RUNNING)[2:] == "3 running, 1 failed, 5 succeeded, 2 cached"
    told = counts(runs, RunState.INTERRUPTED)
    assert told[0] in "✗x"
    assert told[2:] == "1 failed, 3 interrupted, 5 succeeded, 2 cached"
    assert all(counts([_element(0, state)], RunState.FAILED) for state in StepState)


def test_times_are_those_of_elements_computed_here() -> None:
    runs = [_element(at) for at in range(1, 101)] + [_element(999, StepState.CACHED), _element(999, StepState.FAILED)]
    assert times(runs) == "half within 500 ms, 95% within 950 ms, all within 1.0 s"
    assert times([_element(1, StepState.CACHED)]) == ""


def test_a_bound_on_times_is_never_nothing() -> None:
    runs = [StepRun("fit", str(at), StepState.SUCCEEDED, seconds=2e-6) for at in range(20)]
    assert times(runs) == "half within 0.1 ms, 95% within 0.1 ms, all within 0.1 ms"


def test_what_has_not_begun_is_pending_element_by_element_where_the_map_is_open() -> None:
    graph = Graph(
        "p",
        "p.py:p",
        nodes=(
            Node("load", "p.py:load"),
            Node("fit", "p.py:fit", scope="inner"),
            Node("total", "p.py:total"),
        ),
        scopes=(Scope("outer", {}), Scope("inner", {}, parent="outer")),
    )
    sizes = {("outer", ""): 3, ("inner", "0"): 2, ("inner", "1"): 0}
    known = [StepRun("load", "", StepState.SUCCEEDED), StepRun("fit", "0.1", StepState.RUNNING)]
    found = pending(graph, known, sizes)
    assert [(run.step, run.index) for run in found] == [("fit", "0.0"), ("fit", "2"), ("total", "")]
    assert {run.state for run in found} == {StepState.PENDING}
    blocked = [StepRun("fit", "", StepState.UPSTREAM_FAILED)]
    assert [run.step for run in pending(graph, blocked, {})] == ["load", "total"]


def test_failures_that_say_the_same_share_a_line_and_the_most_frequent_comes_first() -> None:
    runs = [_element(0), _element(1, StepState.FAILED, message="cold")]
    runs += [_element(at, StepState.FAILED, message="hot") for at in range(2, 7)]
    assert failures(runs) == ["5 x ValueError: hot: fit[2], fit[3], fit[4] …", "1 x ValueError: cold: fit[1]"]


def test_show_tells_a_large_map_in_a_page_and_names_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "flow.py").write_text(PIPELINE)
    assert main(["run", "flow.py", "--workers", "1"]) == 1
    capsys.readouterr()
    assert main(["show"]) == 0
    page = capsys.readouterr().out
    lines = page.splitlines()
    assert len(lines) < 60
    assert any("halve x 300" in line and "6 failed, 294 succeeded" in line and "95% within" in line for line in lines)
    assert [line.split()[0] for line in lines if line.strip().startswith("halve[") and "✗ failed" in line] == [
        f"halve[{at}]" for at in range(7, 300, 50)
    ]
    assert main(["show", "last", "halve"]) == 0
    page = capsys.readouterr().out
    assert len(page.splitlines()) < 20
    assert "6 x ValueError: odd one out: halve[7], halve[57], halve[107] …" in page
    assert main(["show", "last", "halve[57]"]) == 0
    assert "odd one out" in capsys.readouterr().out
