"""A map is told once, when its last element is done; and an event costs the same however many came before."""

from __future__ import annotations

import io
import sys
from itertools import product
from types import FrameType
from typing import Any

import msgspec
import pytest

from penstock.cli.progress import Elements, PlainProgress, Tally, how_far, summary_lines
from penstock.cli.summary import Summary
from penstock.cli.summary import Told as Failed
from penstock.graph import Graph, Node, Scope
from penstock.ports.events import (
    AttemptStarted,
    Change,
    Event,
    MapExpanded,
    RunResumed,
    RunView,
    StepReopened,
    StepSucceeded,
)
from penstock.ports.records import RunRecord

RECORD = RunRecord(id="p-1", pipeline="p", project="x", manifest="m", parameters={}, created_at=0)
FLAT = Graph("p", "p.py:p", nodes=(Node("fit", "p.py:fit", scope="each"),), scopes=(Scope("each", {}),))
NESTED = Graph(
    "p",
    "p.py:p",
    nodes=(Node("fit", "p.py:fit", scope="inner"),),
    scopes=(Scope("outer", {}), Scope("inner", {}, parent="outer")),
)


class Told(Tally):
    """Remembers which maps were told, and with how many elements."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, int]] = []
        self.view = RunView()

    def map_finished(self, name: str, elements: Elements) -> None:
        self.told.append((name, elements.states.total()))

    def hear(self, event: Event) -> None:
        self.event(self.view.apply(event))


def _listening(graph: Graph) -> Told:
    listener = Told()
    listener.begin(RECORD, graph, RunView())
    return listener


def _element(index: str) -> list[Event]:
    started = AttemptStarted(at=1, step="fit", index=index, attempt=1)
    return [started, StepSucceeded(at=2, step="fit", index=index, attempt=1, outputs={})]


def test_a_map_is_told_with_its_last_element_and_only_then() -> None:
    listener = _listening(FLAT)
    listener.hear(MapExpanded(at=0, scope="each", size=3))
    for index in "021":
        assert listener.told == []
        for event in _element(index):
            listener.hear(event)
    assert listener.told == [("fit", 3)]


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_nested_map_is_told_once_every_inner_size_is_known_and_every_element_done(late: int) -> None:
    """Whichever inner map learns its size last, and though all other elements are done by then."""
    listener = _listening(NESTED)
    listener.hear(MapExpanded(at=0, scope="outer", size=3))
    sizes = {0: 2, 1: 3, 2: 1}
    for outer in sorted(sizes, key=lambda each: each == late):
        listener.hear(MapExpanded(at=0, scope="inner", index=str(outer), size=sizes[outer]))
        if outer != late:
            assert listener.told == []
        for inner in range(sizes[outer]):
            for event in _element(f"{outer}.{inner}"):
                listener.hear(event)
    assert listener.told == [("fit", 6)]


def test_a_map_that_is_expanded_again_by_the_same_event_counts_once() -> None:
    listener = _listening(FLAT)
    for _ in range(2):
        listener.hear(MapExpanded(at=0, scope="each", size=1))
    for event in _element("0"):
        listener.hear(event)
    assert listener.told == [("fit", 1)]


def _calls(listener: Told, event: Event) -> int:
    """Python calls that one event takes."""
    made = 0

    def count(frame: FrameType, what: str, argument: Any) -> None:
        nonlocal made
        made += what in ("call", "c_call")

    change = listener.view.apply(event)
    sys.setprofile(count)
    try:
        listener.event(change)
    finally:
        sys.setprofile(None)
    return made


@pytest.mark.parametrize("graph", [FLAT, NESTED])
def test_the_two_hundredth_element_costs_what_the_second_cost(graph: Graph) -> None:
    listener = _listening(graph)
    if graph is FLAT:
        listener.hear(MapExpanded(at=0, scope="each", size=1000))
        indexes = [str(at) for at in range(200)]
    else:
        listener.hear(MapExpanded(at=0, scope="outer", size=20))
        for outer in range(20):
            listener.hear(MapExpanded(at=0, scope="inner", index=str(outer), size=50))
        indexes = [f"{outer}.{inner}" for outer, inner in product(range(20), range(10))]
    made = [[_calls(listener, event) for event in _element(index)] for index in indexes]
    assert made[-1] == made[1]


def test_a_run_with_many_failures_ends_with_the_first_of_them_and_the_number_of_the_rest() -> None:
    each = [Failed(f"fit[{at}]", "failed", 1, "ValueError", "cold", None, None, "") for at in range(500)]
    summary = Summary("p-1", "failed", 1.0, {"failed": 500}, 0.0, None, each, [], [], [])
    lines = summary_lines(summary, sys.stderr)
    assert len(lines) < 15
    assert lines[-1] == "  … and 490 more that failed: penstock show p-1"


def _resumed(sizes: dict[tuple[str, str], int], *done: str) -> RunView:
    """Where a resumed run stands: these elements of `fit` are done."""
    view = RunView()
    for (scope, index), size in sizes.items():
        view.apply(MapExpanded(at=0, scope=scope, index=index, size=size))
    for index in done:
        for event in _element(index):
            view.apply(event)
    view.apply(RunResumed(at=9, epoch=2))
    return view


def _changes(view: RunView, *events: Event) -> list[Change]:
    return [view.apply(event) for event in events]


def test_a_resumed_map_is_told_with_its_last_element_though_its_size_comes_in_no_event() -> None:
    listener, view = Told(), _resumed({("each", ""): 3}, "0", "2")
    listener.begin(RECORD, FLAT, view)
    assert (listener.done_of("fit"), listener.elements_of("fit")) == (2, 3)
    for change in _changes(view, *_element("1")):
        listener.event(change)
    assert listener.told == [("fit", 1)]
    assert listener.before == {"succeeded": 2}


def test_what_was_finished_before_a_resume_and_is_made_again_counts_as_made_now() -> None:
    listener, view = Told(), _resumed({("each", ""): 3}, "0", "2")
    listener.begin(RECORD, FLAT, view)
    again = AttemptStarted(at=11, step="fit", index="0", attempt=2)
    made = StepSucceeded(at=12, step="fit", index="0", attempt=2, outputs={})
    for change in _changes(view, StepReopened(at=10, step="fit", index="0", because="lost"), again, made):
        listener.event(change)
    assert +listener.before == {"succeeded": 1}
    assert (listener.done_of("fit"), listener.told) == (2, [])
    for change in _changes(view, *_element("1")):
        listener.event(change)
    assert listener.told == [("fit", 2)]


def test_plain_lines_say_how_far_a_map_is_and_what_was_finished_before_a_resume() -> None:
    stream = io.StringIO()
    listener = PlainProgress(stream)
    view = _resumed({("each", ""): 4}, "0", "2")
    listener.begin(RECORD, FLAT, view)
    first, second = _changes(view, *_element("1")), _changes(view, *_element("3"))
    listener.event(first[0])
    listener._shown_at["fit", ""] -= 10.0  # ten seconds later
    for change in [*first[1:], *second]:
        listener.event(change)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "run p-1 resumed: p, 1 step"
    assert [line[2:] for line in lines[1:3]] == ["fit 2/4", "fit 3/4"]
    assert lines[3][2:].startswith("fit x 4: 2 succeeded, 2 finished before")


def test_the_end_of_a_resume_counts_what_it_did_and_what_was_finished_before() -> None:
    summary = Summary("p-1", "succeeded", 1.0, {"succeeded": 5, "cached": 2}, 0.0, None, [], [], [], [])
    assert ": 5 succeeded, 2 cached" in summary_lines(summary, sys.stderr)[0]
    resumed = msgspec.structs.replace(summary, before={"succeeded": 3, "cached": 2})
    assert summary_lines(resumed, sys.stderr)[0].endswith(": 2 succeeded, 5 finished before")


@pytest.mark.parametrize(
    ("graph", "sizes", "elements"),
    [
        (FLAT, {}, None),
        (FLAT, {("each", ""): 3}, 3),
        (NESTED, {("outer", ""): 2, ("inner", "0"): 4}, None),
        (NESTED, {("outer", ""): 2, ("inner", "0"): 4, ("inner", "1"): 5}, 9),
    ],
)
def test_how_many_elements_a_map_has_is_said_once_it_is_known(
    graph: Graph, sizes: dict[tuple[str, str], int], elements: int | None
) -> None:
    listener = _listening(graph)
    for (scope, index), size in sizes.items():
        listener.hear(MapExpanded(at=0, scope=scope, index=index, size=size))
    assert listener.elements_of("fit") == elements
    assert how_far("fit", listener) == ("fit" if elements is None else f"fit 0/{elements}")
