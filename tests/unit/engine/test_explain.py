"""`why` and `diff` name what changed: the definition and its lines, the parameter and its values, the input's maker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import NotFoundError
from penstock.engine.difference import Difference, diff
from penstock.engine.explain import Explanation, why
from penstock.ports.records import StepState
from penstock.wiring.runner import find_run

from .test_plan import Bench, forget_modules

SHAPING = "def scaled(row):\n    return row * 2\n"

FLOW = """
from pathlib import Path

import shaping
from penstock import Retry, context, optional, pipeline, step, when


@step
def ingest(uri: str) -> list[int]:
    from penstock.data.files import FileObserver

    context().observe("file", uri, FileObserver().version(uri) or "gone")
    return [int(line) for line in Path(uri).read_text().split()]


@step
def clean(rows: list[int]) -> list[int]:
    return [shaping.scaled(row) for row in rows]


@step(env=("WHY_REGION",))
def fit(rows: list[int], depth: int) -> int:
    context().metric("score", float(depth) / 10)
    return sum(rows) * depth


@step
def pick(models: list[int]) -> int:
    return max(models)


@step
def good(model: int, least: int) -> bool:
    return model >= least


@step
def publish(model: int) -> str:
    return f"model {model}"


@step
def shaky(model: int) -> int:
    return model


@step
def last(number: int) -> int:
    return number


@pipeline
def flow(uri: str, depths: list[int] = [4, 6], least: int = 0) -> None:
    best = pick(fit.partial(rows=clean(ingest(uri))).map(depth=depths))
    with when(good(best, least)):
        publish(best)
    last(shaky(best))
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("WHY_REGION", "north")
    found = Bench(tmp_path)
    text = FLOW.replace("@step\n", '@step(isolation="thread")\n').replace("@step(env", '@step(isolation="thread", env')
    (tmp_path / "flow.py").write_text(text)
    (tmp_path / "shaping.py").write_text(SHAPING)
    yield found
    forget_modules(tmp_path)


def explained(bench: Any, step: str, index: str = "", run: str = "last") -> Explanation:
    project = bench.project()
    try:
        return why(project.store, find_run(project, run), step, index)
    finally:
        project.store.close()


def compared(bench: Any, first: str, second: str) -> Difference:
    project = bench.project()
    try:
        return diff(project.store, find_run(project, first), find_run(project, second))
    finally:
        project.store.close()


def texts(found: Explanation) -> list[str]:
    return [change.text for change in found.changes]


def test_the_first_run_of_a_step_says_that_there_was_none_before(bench: Any) -> None:
    bench.run()
    assert "no run before" in explained(bench, "pick").headline


def test_a_changed_helper_is_shown_line_by_line(bench: Any) -> None:
    first = bench.run()
    bench.edit("row * 2", "row * 3", "shaping.py")
    bench.run()
    found = explained(bench, "clean")
    assert texts(found) == ["code of scaled in shaping.py changed"]
    assert found.changes[0].diff[1:] == (" def scaled(row):", "-    return row * 2", "+    return row * 3")
    assert found.compared_with == (first.id, StepState.SUCCEEDED)


def test_a_changed_input_names_the_step_that_made_it(bench: Any) -> None:
    bench.run()
    bench.edit("row * 2", "row * 3", "shaping.py")
    bench.run()
    found = explained(bench, "fit", "1")
    assert texts(found) == ["input 'rows' (from 'clean') changed"]
    assert found.changes[0].because == "step 'clean' ran anew"
    assert found.headline == "it ran because of a change: input 'rows' (from 'clean') changed"


def test_a_changed_input_of_a_hit_names_the_run_it_came_from(bench: Any) -> None:
    first = bench.run()
    bench.edit("row * 2", "row * 3", "shaping.py")
    bench.run()
    bench.edit("row * 3", "row * 2", "shaping.py")
    bench.edit("return max(models)", "return min(models)")
    bench.run()
    found = explained(bench, "pick")
    assert "the step's own code changed" in texts(found)
    change = next(change for change in found.changes if change.kind == "input")
    assert change.because == f"step 'fit' took the result of run {first.id}"


def test_an_element_of_a_map_shows_its_values(bench: Any) -> None:
    bench.run()
    bench.parameters["depths"] = [4, 8]
    bench.run()
    assert texts(explained(bench, "fit", "1")) == ["argument depth: 6 → 8"]
    assert explained(bench, "fit", "0").state is StepState.CACHED


def test_a_new_element_of_a_map_is_called_new(bench: Any) -> None:
    bench.run()
    bench.parameters["depths"] = [4, 6, 8]
    bench.run()
    assert "element of the map is new" in explained(bench, "fit", "2").headline


def test_parameter_environment_and_seed_are_told_apart(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run()
    bench.parameters["least"] = 3
    bench.seed = 4
    monkeypatch.setenv("WHY_REGION", "south")
    bench.run()
    assert texts(explained(bench, "good")) == ["seed: 0 → 4", "parameter least: 0 → 3"]
    assert texts(explained(bench, "fit", "0")) == ["seed: 0 → 4", "environment variable WHY_REGION changed"]
    assert "south" not in str(explained(bench, "fit", "0"))


def test_a_changed_source_is_an_observation_that_no_longer_held(bench: Any) -> None:
    bench.run()
    (bench.root / "rows.txt").write_text("8\n9\n")
    bench.run()
    found = explained(bench, "ingest")
    assert [change.kind for change in found.changes] == ["observation"]
    assert found.changes[0].text.endswith("rows.txt changed")


def test_a_hit_names_its_origin_and_what_still_held(bench: Any) -> None:
    first = bench.run()
    bench.run()
    found = explained(bench, "ingest")
    assert found.state is StepState.CACHED
    assert found.origin == (first.id, "ingest", "")
    assert first.id in found.headline
    assert "still held" in found.headline
    assert [seen.kind for seen in found.observations] == ["file"]


@pytest.mark.parametrize(
    ("options", "words"), [({"cache": False}, "cache was off"), ({"restart_from": ("pick",)}, "asked to run anew")]
)
def test_what_was_asked_for_is_said_first(options: dict[str, Any], words: str, bench: Any) -> None:
    bench.run()
    bench.options = options
    bench.run()
    assert words in explained(bench, "pick").headline


def test_a_skipped_step_names_the_condition(bench: Any) -> None:
    bench.parameters["least"] = 10**9
    bench.run()
    found = explained(bench, "publish")
    assert found.state is StepState.SKIPPED
    assert found.headline == "skipped: good is false"


def test_a_failure_keeps_its_attempts_and_blocks_with_its_message(bench: Any) -> None:
    bench.edit("return model\n", "raise ValueError('no model today')\n")
    bench.edit(
        '@step(isolation="thread")\ndef shaky', '@step(isolation="thread", retry=Retry(attempts=2, base=0))\ndef shaky'
    )
    bench.run()
    failed = explained(bench, "shaky")
    assert failed.state is StepState.FAILED
    assert [attempt.number for attempt in failed.attempts] == [1, 2]
    assert all(attempt.failure and attempt.failure.message == "no model today" for attempt in failed.attempts)
    blocked = explained(bench, "last")
    assert blocked.headline.startswith("never started: 'shaky' failed")
    assert "ValueError: no model today" in blocked.headline


def test_after_a_failure_the_same_step_runs_because_it_did_not_finish(bench: Any) -> None:
    bench.edit("return model\n", "return 1 // int(Path(__file__).with_name('d').read_text())\n")
    (bench.root / "d").write_text("0")
    bench.run()
    (bench.root / "d").write_text("1")
    bench.run()
    assert "did not finish in run" in explained(bench, "shaky").headline


def test_a_misspelt_step_or_element_gets_a_near_name(bench: Any) -> None:
    bench.run()
    with pytest.raises(NotFoundError, match="no step 'pik'") as caught:
        explained(bench, "pik")
    assert "'pick'" in str(caught.value.hint)
    with pytest.raises(NotFoundError, match="map of 2 elements"):
        explained(bench, "fit")
    with pytest.raises(NotFoundError, match="no element 7"):
        explained(bench, "fit", "7")


def test_two_runs_of_the_same_differ_in_nothing(bench: Any) -> None:
    first, second = bench.run(), bench.run()
    found = compared(bench, first.id, second.id)
    assert found.same
    assert (found.code, found.parameters, found.data, found.packages) == ((), (), (), ())
    assert {pair.after for pair in found.steps} == {"cached"}


def test_a_difference_lists_code_parameters_data_and_metrics(bench: Any) -> None:
    first = bench.run()
    bench.edit("row * 2", "row * 3", "shaping.py")
    bench.parameters["depths"] = [4, 8]
    bench.seed = 9
    second = bench.run()
    found = compared(bench, first.id, second.id)
    assert not found.same
    assert [(code.step, [change.name for change in code.changes]) for code in found.code] == [
        ("clean", ["shaping.py:scaled"])
    ]
    assert [(pair.name, pair.before, pair.after) for pair in found.parameters] == [("depths", "[4,6]", "[4,8]")]
    assert ("fit[0]", "rows") in {(pair.step, pair.argument) for pair in found.data}
    assert [(pair.name, pair.before, pair.after) for pair in found.environment] == [("seed", "0", "9")]
    metric = next(pair for pair in found.metrics if pair.index == "1")
    assert (metric.before, metric.after, round(metric.delta or 0, 6)) == (0.6, 0.8, 0.2)


def test_of_a_list_that_changed_only_the_values_that_differ_are_told(bench: Any) -> None:
    first = bench.run()
    bench.parameters["depths"] = [4, 8]
    second = bench.run()
    project = bench.project()
    try:
        found = [run for each in (first, second) for run in project.store.step_runs(each.id)]
    finally:
        project.store.close()
    old, new = [run.outputs["output"].digest for run in found if (run.step, run.index) == ("fit", "1")]
    pair = next(each for each in compared(bench, first.id, second.id).data if each.step == "pick")
    assert pair.before is not None
    assert pair.after is not None
    assert (pair.before.digest, pair.after.digest) == (old, new)
    told = next(change for change in explained(bench, "pick").changes if change.name == "models")
    assert (told.before, told.after) == (old[:8], new[:8])


def test_a_difference_names_steps_that_only_one_run_has(bench: Any) -> None:
    first = bench.run()
    bench.edit("    last(shaky(best))", "    last.named('end')(shaky(best))")
    second = bench.run()
    found = compared(bench, first.id, second.id)
    assert {(pair.name, pair.before is None) for pair in found.graph} == {("last", False), ("end", True)}
