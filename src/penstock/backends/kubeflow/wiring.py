"""How artifacts and parameters reach the DAG that they are needed in: Kubeflow hands them from each to the next inside.

What a DAG is given, and what it gives, is noted here while tasks ask for it; `specification` writes it down.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...graph import Guard, Node, Output
from .conditions import Conditions
from .kinds import artifact_kinds
from .places import Layout, Place

_LIST_MOST = 100  # elements of a collected list: all of them travel as one argument of a command, which has a limit
Source = dict[str, Any]  # as the IR says where something comes from


class Artifact(msgspec.Struct, frozen=True):
    """An artifact that a task or a DAG takes."""

    source: Source
    kind: str
    is_list: bool = False

    def declared(self) -> dict[str, Any]:
        described: dict[str, Any] = {"artifactType": {"schemaTitle": self.kind, "schemaVersion": "0.0.1"}}
        return {**described, "isArtifactList": True} if self.is_list else described


class Given(msgspec.Struct, frozen=True):
    """A parameter that a task or a DAG takes."""

    source: Source
    kind: str


class Handed(msgspec.Struct):
    """What goes into a DAG, and the artifacts that come out of it."""

    parameters: dict[str, Given] = {}
    artifacts: dict[str, Artifact] = {}
    gives: dict[str, tuple[str, str, str]] = {}  # name -> task inside, its output, kind


class Wiring:
    """Answers, for a task in a place, where something comes from."""

    def __init__(self, layout: Layout, conditions: Conditions, kinds: dict[str, str]) -> None:
        """kinds: the pipeline's parameters -> their types."""
        self.handed = {place.task: Handed() for place in layout.places}
        self._layout = layout
        self._conditions = conditions
        self._kinds = kinds
        self._nodes = {node.name: node for node in layout.graph.nodes}

    def node(self, name: str) -> Node:
        return self._nodes[name]

    def kind(self, parameter: str) -> str:
        return self._kinds[parameter]

    def parameter(self, place: Place, name: str) -> Given:
        """A parameter of the pipeline."""
        above = (
            self.parameter(place.above, name).source if place.above is not None else {"componentInputParameter": name}
        )
        return self._passed(place, name, Given(above, self._kinds[name]))

    def element(self, place: Place) -> Given | None:
        """The index path of the element that a place inside a map stands for."""
        if place.scope is not None:
            return Given({"componentInputParameter": item_name(self._layout, place)}, "STRING")
        if place.above is None:
            return None
        above = self.element(place.above)
        return above and self._passed(place, above.source["componentInputParameter"], above)

    def condition(self, place: Place, guard: Guard) -> tuple[str, Given]:
        """What a step in this place tells of a condition, under the name by which kfp.local looks it up."""
        node, key = self._conditions.key(guard)
        task = self._layout.tasks[node]
        source = {"taskOutputParameter": {"outputParameterKey": key, "producerTask": task}}
        return f"pipelinechannel--{task}--{key}", Given(source, "STRING")

    def artifact(self, place: Place, output: Output) -> Artifact | None:
        """What a step returned, for a task in this place. None where it comes in no form that Kubeflow can hand on."""
        home = self._layout.of[output.node]
        node = self._nodes[output.node]
        field = output.field or node.outputs[0]
        kind, task = artifact_kinds(node).get(field), self._layout.tasks[output.node]
        if kind is None:
            return None
        if home is place:
            return Artifact(_from_task(task, field), kind)
        name = f"{task}-{field}"
        if place in home.path:
            if home.above is not place or not self._is_short(home):
                return None
            self.handed[home.task].gives[name] = (task, field, kind)
            return Artifact(_from_task(home.task, name), kind, is_list=True)
        above = self.artifact(place.above, output) if place.above is not None else None
        if above is None:
            return None
        self.handed[place.task].artifacts[name] = above
        return Artifact({"componentInputArtifact": name}, above.kind, above.is_list)

    def _is_short(self, loop: Place) -> bool:
        most = loop.scope.max_size if loop.scope is not None else None
        return most is not None and most <= _LIST_MOST

    def _passed(self, place: Place, name: str, given: Given) -> Given:
        self.handed[place.task].parameters[name] = given
        return Given({"componentInputParameter": name}, given.kind)


def list_name(layout: Layout, loop: Place) -> str:
    """The input of a ParallelFor that holds its list. Kubeflow's local runner finds the task by this name."""
    assert loop.scope is not None
    return f"pipelinechannel--{layout.lists[loop.scope.name]}-Output"


def item_name(layout: Layout, loop: Place) -> str:
    return f"{list_name(layout, loop)}-loop-item"


def _from_task(task: str, name: str) -> Source:
    return {"taskOutputArtifact": {"outputArtifactKey": name, "producerTask": task}}
