"""Where a stored value came from and where it went, inside one run: what the graph connects, narrowed by digest.

A digest alone says nothing: two steps that both return 1 made the same value and have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..graph import Graph, Item, Node, Output, outputs_in
from ..ports.records import StepRun
from .summary import name_of

Made = tuple[str, str, str]  # step, index, output


class Lineage:
    """Which outputs of a run each argument of its steps was given."""

    def __init__(self, graph: Graph, runs: list[StepRun]) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        self._runs = runs
        self._of_step: dict[str, list[StepRun]] = {}
        for run in runs:
            self._of_step.setdefault(run.step, []).append(run)

    def sources(self, run: StepRun) -> dict[str, list[Made]]:
        """Argument -> the outputs behind it; arguments that no step made are left out."""
        node = self._nodes.get(run.step)
        if node is None:
            return {}
        found = {name: self._argument(node, run, name, set(digests)) for name, digests in run.inputs.items()}
        return {name: made for name, made in found.items() if made}

    def users(self, run: StepRun, output: str) -> list[StepRun]:
        """The step runs that were given this output."""
        made = (run.step, run.index, output)
        return [each for each in self._runs if any(made in given for given in self.sources(each).values())]

    def _argument(self, node: Node, run: StepRun, name: str, digests: set[str]) -> list[Made]:
        argument, chain = node.inputs.get(name), self._graph.scopes_of(node.scope)
        place = None
        if isinstance(argument, Item):
            outer = self._graph.scopes_of(argument.scope)
            place = ".".join(run.index.split(".")[: len(outer)])
            argument, chain = self._graph.scope(argument.scope).over.get(argument.name), outer[:-1]
        found = [
            made
            for output in outputs_in(argument)
            for each in self._instances(output, chain, run.index)
            for made in _given(each, output, digests)
        ]
        # Of equal elements of a map, an element of the next map was given the one in its own place.
        same = [made for made in found if place is not None and made[1] == place]
        return list(dict.fromkeys(same or found))

    def _instances(self, output: Output, chain: tuple[str, ...], index: str) -> Iterator[StepRun]:
        """The step runs of a node that can be seen from inside these scopes: those that share their indices."""
        source = self._nodes.get(output.node)
        if source is None:
            return
        shared = sum(left == right for left, right in zip(chain, self._graph.scopes_of(source.scope), strict=False))
        for run in self._of_step.get(output.node, []):
            if run.index.split(".")[:shared] == index.split(".")[:shared]:
                yield run


def shown(made: Made) -> str:
    """
    >>> shown(("fit", "2", "weights"))
    'fit[2].weights'
    """
    return f"{name_of(made[0], made[1])}.{made[2]}"


def _given(run: StepRun, output: Output, digests: set[str]) -> Iterator[Made]:
    for name, ref in run.outputs.items():
        if ref.digest in digests and output.field in (None, name):
            yield run.step, run.index, name
