"""The output that a run's last lines show: every small value, whatever the shape of the result."""

from __future__ import annotations

import pytest

from penstock.cli.summary import summary
from penstock.graph import Argument, Graph, Many, Node, Output
from penstock.ports.artifacts import ArtifactRef
from penstock.ports.records import RunState, StepRun, StepState

NODES = (Node("one", "f.py:one"), Node("best", "f.py:best", outputs=("c", "model"), several=True))


def run_of(step: str, **outputs: str | None) -> StepRun:
    refs = {name: ArtifactRef("d" * 64, "json", inline=text) for name, text in outputs.items()}
    return StepRun(step, "", StepState.SUCCEEDED, outputs=refs)


@pytest.mark.parametrize(
    ("result", "model", "shown"),
    [
        (Output("one"), None, "3"),
        (Output("best", "c"), None, "0.5"),
        (Output("best"), '"small"', '{"c":0.5,"model":"small"}'),
        (Output("best"), None, None),  # a part of it is a file
        (Many((Output("one"), Output("best", "c"))), None, "[3,0.5]"),
        (Many((Output("one"), Output("best", "model"))), None, None),
    ],
)
def test_a_result_of_several_parts_is_shown_where_all_are_small(
    result: Argument, model: str | None, shown: str | None
) -> None:
    steps = [run_of("one", output="3"), run_of("best", c="0.5", model=model)]
    graph = Graph("p", "f.py:p", nodes=NODES, result=result)
    told = summary("p-1", graph, RunState.SUCCEEDED, steps, seconds=1.0, saved_seconds=0.0)
    assert told.output == shown
