"""The file that Kubeflow reads: a head for people, the specification, and for clusters what Kubernetes must know."""

from __future__ import annotations

import textwrap

from ...graph import Graph
from ...ports.backend import Blueprint
from .containers import platform
from .specification import Specification
from .yaml_text import yaml_text

_WIDTH = 98


def pipeline_text(blueprint: Blueprint) -> str:
    """The whole file: the same blueprint gives the same bytes."""
    written = Specification(blueprint)
    whole = written.whole()
    documents = [yaml_text(whole)]
    if more := platform(blueprint, written.steps):
        documents.append("# For clusters: which secret containers take their environment from.\n" + yaml_text(more))
    return _head(blueprint, written) + "---\n".join(documents)


def _head(blueprint: Blueprint, written: Specification) -> str:
    graph = blueprint.graph
    source = blueprint.source or graph.target.partition(":")[0]
    lines = [
        f"Pipeline '{graph.pipeline}', made by penstock {blueprint.version} from {source}.",
        f"Do not edit: change {source}, and compile it again: penstock compile {source} --on kubeflow",
        "",
        f"Every container runs `penstock exec-step` of {blueprint.image}; data stays in {blueprint.artifacts},",
        "and what Kubeflow hands on are references to it. Kubeflow's own cache is off: hits are penstock's.",
        "",
        *_shown(graph, written),
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _shown(graph: Graph, written: Specification) -> list[str]:
    lines = ["Steps:"]
    for node in graph.nodes:
        target = f"{node.target} -> {node.returns}" if node.returns else node.target
        lines += textwrap.wrap(
            f"{written.task(node.name)}: {target}", _WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    if graph.scopes:
        lines.append("Maps:")
        lines += [f"  {written.loop(scope.name)}: over {', '.join(scope.over)}" for scope in graph.scopes]
    if written.going_on:
        lines += textwrap.wrap(
            "Steps that end well when they fail, because something after them may still have to run (the run fails "
            f"all the same): {', '.join(sorted(written.task(name) for name in written.going_on))}",
            _WIDTH,
            subsequent_indent="  ",
        )
    if graph.schedule is not None:
        lines.append(f"Schedule: {graph.schedule.expression} {graph.schedule.tz}, a recurring run that `deploy` makes.")
    return lines
