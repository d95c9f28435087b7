"""The laws of what Kubeflow starts: every step that has to run is started, whatever fails and whatever is skipped.

Kubeflow is played here by its own rules: a task starts when all that it waits for ended well, a DAG ends well when all
its tasks did, and a condition that does not hold starts nothing inside. The launcher's rules are those of the engine.
"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.backends.kubeflow.conditions import decided_by_kubeflow
from penstock.backends.kubeflow.going_on import go_on_after
from penstock.backends.kubeflow.places import Layout, Place
from penstock.engine.frontier import Frontier
from penstock.graph import Graph, Guard, Node, Output, Param, Scope, outputs_in

from .drawn import graphs

Answers = dict[tuple[str, str], str]  # what a guard looks at, and the element that has it -> its value
ELEMENTS = 2


class Launcher:
    """What becomes of each instance when everything that has to run is run. Written apart from the code under test."""

    def __init__(self, graph: Graph, answers: Answers, failing: set[str]) -> None:
        self.graph = graph
        self.answers = answers
        self.failing = failing
        self.states: dict[tuple[str, str], str] = {}
        frontier = Frontier(graph)
        while frontier.ready or frontier.open_more():
            item = frontier.ready.popleft()
            if item.is_scope:
                scope = graph.scope(item.name)
                state = self._needed([o for each in scope.over.values() for o in outputs_in(each)], "")
                if state == "runs":
                    frontier.expanded(item.name, item.index, ELEMENTS)
                    continue
                for name in frontier.closed(item.name, item.index):
                    for at in range(ELEMENTS):
                        self.states[name, str(at)] = state
                continue
            self.states[item.name, item.index] = self._state(graph.node(item.name), item.index)
            frontier.finished(item.name, item.index)

    def _state(self, node: Node, index: str) -> str:
        for guard in node.guards:
            for output in outputs_in(guard.value):
                held = self._of(output.node, index)
                if held != {"runs"}:
                    return "skipped" if held == {"skipped"} else "blocked"
            if self.answers[asked_at(self.graph, guard, index)] != guard.equals:
                return "skipped"
        if any(self._of(name, index) & {"failed", "blocked"} for name in node.after):
            return "blocked"
        state = self._needed([o for each in node.inputs.values() for o in outputs_in(each)], index)
        if state == "runs" and node.name in self.failing and index in ("", "0"):
            return "failed"
        return state

    def _needed(self, outputs: list[Output], index: str) -> str:
        found = [(self._of(output.node, index), output.optional) for output in outputs]
        if any("skipped" in states and not optional for states, optional in found):
            return "skipped"
        return "blocked" if any(states & {"failed", "blocked"} for states, _ in found) else "runs"

    def _of(self, name: str, index: str) -> set[str]:
        """The states of a node as somebody at this index sees it: one, or those of all elements."""
        if self.graph.node(name).scope is None or index:
            return {self.states[name, index if self.graph.node(name).scope is not None else ""]}
        return {self.states[name, str(at)] for at in range(ELEMENTS)}


class Kubeflow:
    """Which instances it starts, when each container ends as the launcher says."""

    def __init__(self, layout: Layout, launcher: Launcher, going_on: frozenset[str]) -> None:
        self.layout = layout
        self.launcher = launcher
        self.going_on = going_on
        self.started: set[tuple[str, str]] = set()
        self._dag(layout.steps, "")

    def _dag(self, place: Place, index: str) -> bool:
        """Whether everything inside ended well. What Kubeflow skips by a condition counts as well, but starts nothing
        that waits for it."""
        well: dict[str, bool] = {}
        fine = True
        todo = dict(place.entries)
        while todo:
            task = next(name for name, entry in todo.items() if entry.after <= well.keys())
            entry = todo.pop(task)
            if not all(well[each] for each in entry.after):
                well[task] = False
                fine = False
                continue
            if entry.place is not None and entry.place.guards and not self._holds(entry.place, index):
                well[task] = False  # skipped: nothing that waits for it starts, and the DAG does not fail
                continue
            if entry.place is not None and entry.place.scope is not None:
                known = (name for name in self.layout.of if self.layout.graph.node(name).scope is not None)
                sizes = ELEMENTS if any((name, "0") in self.launcher.states for name in known) else 0
                every = [self._dag(entry.place, str(at)) for at in range(sizes)]  # all of them, whatever fails
                well[task] = all(every)
            elif entry.place is not None:
                well[task] = self._dag(entry.place, index)
            elif entry.node is not None:
                self.started.add((entry.node.name, index))
                state = self.launcher.states[entry.node.name, index]
                well[task] = state in ("runs", "skipped") or entry.node.name in self.going_on
            else:
                well[task] = True
            fine = fine and well[task]
        return fine

    def _holds(self, place: Place, index: str) -> bool:
        for guard in place.guards:
            assert isinstance(guard.value, Output)
            at = index if self.layout.graph.node(guard.value.node).scope is not None else ""
            if self.launcher.states[guard.value.node, at] != "runs":
                return False
            if self.launcher.answers[asked_at(self.layout.graph, guard, index)] != guard.equals:
                return False
        return True


def asked_at(graph: Graph, guard: Guard, index: str) -> tuple[str, str]:
    """A value of a step inside a map is another one for each element."""
    inside = isinstance(guard.value, Output) and graph.node(guard.value.node).scope is not None
    return repr(guard.value), index if inside else ""


def missed(graph: Graph, answers: Answers, failing: set[str], *, going_on: bool = True) -> set[tuple[str, str]]:
    """Instances that have to run (or fail), and that Kubeflow does not start."""
    layout = Layout(graph, decided_by_kubeflow(graph))
    launcher = Launcher(graph, answers, failing)
    kubeflow = Kubeflow(layout, launcher, go_on_after(layout) if going_on else frozenset())
    must = {instance for instance, state in launcher.states.items() if state in ("runs", "failed")}
    return must - kubeflow.started


@settings(max_examples=100)
@given(graphs(), st.data())
def test_every_step_that_has_to_run_is_started(graph: Graph, data: st.DataObject) -> None:
    if Layout(graph, decided_by_kubeflow(graph)).circle():
        return  # refused
    asked = sorted(
        {asked_at(graph, guard, str(at)) for node in graph.nodes for guard in node.guards for at in range(ELEMENTS)}
    )
    failing = data.draw(st.sets(st.sampled_from([node.name for node in graph.nodes]), max_size=2))
    every = list(product(["true", "false"], repeat=len(asked)))
    for values in every if len(every) <= 16 else data.draw(st.lists(st.sampled_from(every), max_size=16)):
        assert missed(graph, dict(zip(asked, values, strict=True)), failing) == set()


def join() -> Graph:
    """`report` takes what `train` gives, if a condition lets it run; `train` needs `load`."""
    return Graph.checked(
        pipeline="p",
        target="p.py:p",
        nodes=(
            Node("load", "p.py:load"),
            Node("train", "p.py:train", {"data": Output("load")}, guards=(Guard(Param("flag")),)),
            Node("report", "p.py:report", {"model": Output("train", optional=True)}),
        ),
    )


def test_a_failure_before_a_skipped_step_does_not_keep_what_forgives_it_from_running() -> None:
    graph = join()
    asked = {(repr(Param("flag")), ""): "false"}
    assert missed(graph, asked, {"load"}, going_on=False) == {("report", "")}  # the case that this is about
    assert missed(graph, asked, {"load"}) == set()
    assert go_on_after(Layout(graph)) == {"load"}


def test_branches_of_one_condition_that_are_joined_need_no_help() -> None:
    """Either branch is blocked by the failure before both, so what joins them never runs."""
    graph = Graph.checked(
        pipeline="p",
        target="p.py:p",
        nodes=(
            Node("load", "p.py:load"),
            Node("left", "p.py:left", {"data": Output("load")}, guards=(Guard(Param("flag"), "true"),)),
            Node("right", "p.py:right", {"data": Output("load")}, guards=(Guard(Param("flag"), "false"),)),
            Node("join", "p.py:join", {"a": Output("left", optional=True), "b": Output("right", optional=True)}),
        ),
    )
    assert go_on_after(Layout(graph)) == frozenset()


@pytest.mark.parametrize(("taken", "expected"), [("last", set()), ("first", {"last"})])
def test_a_map_of_which_not_every_step_is_collected(taken: str, expected: set[str]) -> None:
    graph = Graph.checked(
        pipeline="p",
        target="p.py:p",
        nodes=(
            Node("first", "p.py:first", scope="each"),
            Node("last", "p.py:last", {"a": Output("first")}, scope="each"),
            Node("total", "p.py:total", {"all": Output(taken)}),
        ),
        scopes=(Scope("each", {"x": Param("many")}),),
    )
    assert go_on_after(Layout(graph)) == expected


def test_a_hundred_conditions_are_not_tried_in_all_their_combinations() -> None:
    guarded = [
        Node(f"g{number}", "p.py:g", {"data": Output("load")}, guards=(Guard(Param(f"flag{number}")),))
        for number in range(100)
    ]
    taken = {f"a{number}": Output(f"g{number}", optional=True) for number in range(100)}
    nodes = (Node("load", "p.py:load"), *guarded, Node("join", "p.py:join", dict(taken)))
    graph = Graph.checked(pipeline="p", target="p.py:p", nodes=nodes)
    assert go_on_after(Layout(graph)) == {"load"}


def test_joined_branches_one_after_the_other_need_no_help_however_many_there_are() -> None:
    nodes: list[Node] = [Node("start", "p.py:start")]
    for number in range(50):
        before = {"x": Output(nodes[-1].name)}
        nodes += [
            Node(f"c{number}", "p.py:c", dict(before)),
            Node(f"a{number}", "p.py:a", dict(before), guards=(Guard(Output(f"c{number}"), "true"),)),
            Node(f"b{number}", "p.py:b", dict(before), guards=(Guard(Output(f"c{number}"), "false"),)),
            Node(
                f"j{number}",
                "p.py:j",
                {"a": Output(f"a{number}", optional=True), "b": Output(f"b{number}", optional=True)},
            ),
        ]
    graph = Graph.checked(pipeline="p", target="p.py:p", nodes=tuple(nodes))
    assert go_on_after(Layout(graph)) == frozenset()
