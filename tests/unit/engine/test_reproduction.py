"""Judging two runs step by step, and making a graph ready for an experiment: both are pure."""

from __future__ import annotations

from penstock.engine.frontier import Frontier, Item
from penstock.engine.replay import alone, done_before, effects, never, reversed_order
from penstock.engine.reproduction import Comparison, judge, unlike
from penstock.graph import Graph, Node, Output, Scope
from penstock.graph import Item as Element
from penstock.graph.options import StepOptions
from penstock.ports.agreement import Agreement, Tolerance, Verdict
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.events import MapExpanded, RunView, StepCached, StepSkipped
from penstock.ports.records import Failure, FailureClass, StepRun, StepState

GRAPH = Graph.checked(
    pipeline="flow",
    target="flow.py:flow",
    nodes=(
        Node("load", "flow.py:load"),
        Node("other", "flow.py:other"),
        Node("fit", "flow.py:fit", {"x": Element("depths", "depth"), "data": Output("load")}, scope="depths"),
        Node("best", "flow.py:best", {"models": Output("fit")}),
        Node("ship", "flow.py:ship", {"model": Output("best")}, options=StepOptions(effect="at-least-once")),
    ),
    scopes=(Scope("depths", {"depth": Output("load")}),),
)


def done(step: str, digest: str, index: str = "", inputs: str = "", **more: float) -> StepRun:
    outputs = {"output": ArtifactRef(digest, "json", inline="1")}
    return StepRun(step, index, StepState.SUCCEEDED, outputs=outputs, inputs={"x": [inputs]}, metrics=more)


def runs(*every: StepRun) -> dict[tuple[str, str], StepRun]:
    return {(run.step, run.index): run for run in every}


BEFORE = runs(
    done("load", "l"),
    done("other", "o"),
    done("fit", "f0", "0"),
    done("fit", "f1", "1"),
    done("best", "b", inputs="f1"),
)


def judged(*after: StepRun, agreements: dict[tuple[str, str, str], Agreement] | None = None) -> Comparison:
    changed = {**BEFORE, **runs(*after)}
    return judge(GRAPH, BEFORE, changed, agreements or {}, Tolerance())


def test_the_same_bytes_everywhere_are_identical() -> None:
    assert judged().verdict is Verdict.IDENTICAL
    assert unlike(GRAPH, BEFORE, BEFORE) == []


def test_the_first_difference_is_the_first_in_the_order_of_the_graph_and_what_follows_says_so() -> None:
    far = Agreement(Verdict.DIFFERENT, "[0]", "1 → 2", count=1)
    after = (done("best", "B", inputs="F1"), done("fit", "F1", "1"))
    assert unlike(GRAPH, BEFORE, {**BEFORE, **runs(*after)}) == [("fit", "1", "output"), ("best", "", "output")]
    found = judged(*after, agreements={("fit", "1", "output"): far, ("best", "", "output"): far})
    assert found.first is not None
    assert (found.first.step, found.first.index, found.first.text) == ("fit", "1", "[0]: 1 → 2")
    assert found.origin is found.first
    last = found.steps[-1]
    assert (last.step, last.because, last.same_inputs) == ("best", ("fit",), False)


def test_a_small_difference_that_grows_is_where_the_large_one_comes_from() -> None:
    near = Agreement(Verdict.EQUAL, "", "1.0 → 1.0000001", max_abs=1e-9, max_rel=1e-9)
    far = Agreement(Verdict.DIFFERENT, "", "1 → 2", count=1)
    found = judged(
        done("fit", "F1", "1"),
        done("best", "B", inputs="F1"),
        agreements={("fit", "1", "output"): near, ("best", "", "output"): far},
    )
    assert found.verdict is Verdict.DIFFERENT
    assert (found.first.step, found.origin.step) == ("best", "fit")  # type: ignore[union-attr]


def test_another_state_a_missing_step_and_a_metric_are_differences_too() -> None:
    failed = StepRun("other", "", StepState.FAILED, failure=Failure(FailureClass.ERROR, "no", ("builtins:ValueError",)))
    assert judged(failed).first.text == "succeeded → failed (ValueError: no)"  # type: ignore[union-attr]
    assert judged(done("fit", "f2", "2")).first.text == "the first run did not have it"  # type: ignore[union-attr]
    text = judge(GRAPH, runs(done("load", "l", auc=0.9)), runs(done("load", "l", auc=0.8)), {}, Tolerance()).first.text  # type: ignore[union-attr]
    assert text == "metric auc: 0.9 → 0.8"


def test_what_was_not_run_again_is_no_difference() -> None:
    found = judge(GRAPH, {**BEFORE, **runs(done("ship", "s"))}, BEFORE, {}, Tolerance(), effects(GRAPH))
    assert (found.verdict, found.steps[-1].verdict) == (Verdict.IDENTICAL, Verdict.UNKNOWN)


# -- experiments -------------------------------------------------------------------------------------------------------


def test_steps_with_effects_get_a_condition_that_is_never_true() -> None:
    graph = never(GRAPH, effects(GRAPH))
    assert effects(GRAPH) == {"ship"}
    assert [node.name for node in graph.nodes if node.guards] == ["ship"]
    assert graph.node("ship").guards[0].value != graph.node("ship").guards[0].equals


def test_the_opposite_order_starts_ready_steps_the_other_way_round() -> None:
    assert [item.name for item in Frontier(GRAPH).ready] == ["load", "other"]
    assert [item.name for item in Frontier(reversed_order(GRAPH)).ready] == ["other", "load"]


def test_one_instance_alone_has_all_that_it_needs_done_and_nothing_else_to_run() -> None:
    only = alone(GRAPH, "r-1", BEFORE, {("depths", ""): 2}, "fit", "1", at=7)
    assert {node.name for node in only.graph.nodes} == {"load", "fit"}
    assert [ref.digest for ref in only.needs] == ["l"]
    view = RunView()
    for event in only.known:
        assert isinstance(event, MapExpanded | StepCached | StepSkipped)
        view.apply(event)
    frontier = Frontier(only.graph)
    left = []
    while frontier.open_more():
        item = frontier.ready.popleft()
        if item.is_scope:
            frontier.expanded(item.name, item.index, view.sizes[item.name, item.index])
            continue
        if not view.step(item.name, item.index).state.done:
            left.append(item)
        frontier.finished(item.name, item.index)
    assert left == [Item("fit", "1")]


def test_what_was_done_before_keeps_outputs_inputs_and_metrics() -> None:
    view = RunView()
    for event in done_before("r-1", [done("load", "l", inputs="i", auc=0.5)], at=1):
        view.apply(event)
    run = view.step("load")
    assert (run.outputs["output"].digest, run.inputs, run.metrics) == ("l", {"x": ["i"]}, {"auc": 0.5})
    assert run.origin == ("r-1", "load", "")
