"""A graph made ready for an experiment: without effects, in another order, or one step alone on what is known.

Pure. An experiment must change nothing outside, so an effect is never made again: its step is skipped, unless the
recorded result of it stands in for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from ..graph import Graph, Guard, Node, Value, outputs_in
from ..ports.artifacts import ArtifactRef
from ..ports.events import Event, MapExpanded, StepCached, StepSkipped
from ..ports.records import StepRun

_NEVER = Guard(Value("false"))
_NO_KEY = "0" * 64
_replace = msgspec.structs.replace


def effects(graph: Graph) -> frozenset[str]:
    """Steps that change the outside world."""
    return frozenset(node.name for node in graph.nodes if node.options.effect is not None)


def never(graph: Graph, names: Collection[str]) -> Graph:
    """The same graph, in which these steps are skipped, whatever their conditions say."""
    return _replace(
        graph,
        nodes=tuple(
            _replace(node, guards=(_NEVER, *node.guards)) if node.name in names else node for node in graph.nodes
        ),
    )


def reversed_order(graph: Graph) -> Graph:
    """The same graph, whose ready steps start in the opposite order to the written one."""
    return _replace(graph, nodes=graph.nodes[::-1])


def done_before(run_id: str, runs: Iterable[StepRun], at: int) -> list[Event]:
    """What the log of a new run must hold so that these instances count as done, with the outputs they had."""
    events: list[Event] = []
    for run in runs:
        if run.state.has_output:
            events.append(
                StepCached(
                    at=at,
                    step=run.step,
                    index=run.index,
                    key=_NO_KEY,
                    outputs=run.outputs,
                    inputs=run.inputs,
                    parts=run.parts,
                    origin=(run_id, run.step, run.index),
                    observations=run.observations,
                    metrics=run.metrics,
                    note=run.note,
                )
            )
        else:
            events.append(StepSkipped(at=at, step=run.step, index=run.index, because="it had no output"))
    return events


class Alone(msgspec.Struct, frozen=True):
    """One instance of a step to run, all that it needs being done."""

    graph: Graph
    known: tuple[Event, ...]
    needs: tuple[ArtifactRef, ...]  # what the store of the experiment must hold


def alone(
    graph: Graph,
    run_id: str,
    runs: Mapping[tuple[str, str], StepRun],
    sizes: Mapping[tuple[str, str], int],
    step: str,
    index: str,
    at: int,
) -> Alone:
    """Only (step, index) is left to run; its inputs are what `runs` had."""
    needs = _direct_needs(graph, step)
    kept = [_stripped(node) if node.name != step else node for node in graph.nodes if node.name in {step, *needs}]
    scopes = {name for node in kept for name in graph.scopes_of(node.scope)}
    small = _replace(
        graph,
        nodes=tuple(kept),
        scopes=tuple(scope for scope in graph.scopes if scope.name in scopes),
        result=None,
    )
    others = [run for (name, at_index), run in runs.items() if name in needs or (name == step and at_index != index)]
    expanded: list[Event] = [
        MapExpanded(at=at, scope=scope, index=outer, size=size)
        for (scope, outer), size in sizes.items()
        if scope in scopes
    ]
    refs = {ref.digest: ref for run in others if run.step in needs for ref in run.outputs.values()}
    return Alone(small, (*expanded, *done_before(run_id, others, at)), tuple(refs.values()))


def _stripped(node: Node) -> Node:
    return _replace(node, inputs={}, guards=(_NEVER,), after=())


def _direct_needs(graph: Graph, step: str) -> frozenset[str]:
    """The steps whose outputs a step is given, and those whose lists its maps, and theirs, go over."""
    found = set(graph.needs()[step])
    while True:
        scopes = {name for each in (step, *found) for name in graph.scopes_of(graph.node(each).scope)}
        more = {
            output.node
            for name in scopes
            for argument in (*graph.scope(name).over.values(), *(guard.value for guard in graph.scope(name).guards))
            for output in outputs_in(argument)
        }
        if more <= found:
            return frozenset(found)
        found |= more
