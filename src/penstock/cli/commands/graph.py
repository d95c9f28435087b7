"""`penstock graph FILE`: a pipeline as a drawing for the terminal, as Mermaid, or as an SVG picture."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import UsageError
from ...graph import Graph
from ...graph.drawing import mermaid, svg, terminal
from ...ports.records import StepRun
from ...wiring.runner import find_run
from ..opening import load_pipeline, project_for, traced
from ..render import print_json, shown_seconds, speaks_unicode, symbol

_SUFFIXES = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".md": "mermaid"}

# Of a map, the state that says most is shown.
_LOUDEST = (
    "failed", "timed_out", "cancelled", "running", "upstream_failed", "pending", "succeeded", "cached", "skipped",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock graph [FILE.py[:PIPELINE]] [flags]"
    parser.epilog = """
examples:
  penstock graph churn.py
  penstock graph churn.py -o churn.svg
  penstock graph --run last
  penstock graph churn.py --format mermaid > churn.mmd
"""
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="the file of the pipeline; may be left out with --run")
    add("--format", choices=("terminal", "mermaid", "svg"), help="default: by the suffix of -o, else terminal")
    add("--output", "-o", metavar="FILE", help="write it there instead of to the screen")
    add("--run", metavar="RUN", help="the graph of that run, with the state of every step")


def execute(arguments: argparse.Namespace) -> int:
    states: dict[str, str] = {}
    notes: dict[str, str] = {}
    if arguments.run is not None:
        project = project_for(arguments)
        found = find_run(project, arguments.run)
        graph = Graph.from_json(project.store.manifest(found.record.manifest))
        states, notes = _states(graph, project.store.step_runs(found.record.id))
    elif arguments.file is not None:
        graph = traced(load_pipeline(arguments.file)).graph
    else:
        raise UsageError("penstock graph: which pipeline?", hint="penstock graph FILE.py, or --run last")
    if arguments.json:
        print_json({"graph": _json(graph), "states": states})
        return 0
    target = Path(arguments.output) if arguments.output else None
    form = arguments.format or (_SUFFIXES.get(target.suffix, "terminal") if target else "terminal")
    text = _drawn(form, graph, states, notes, to_screen=target is None)
    if target is None:
        sys.stdout.write(text)
        return 0
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}", hint="give another -o FILE") from error
    print(f"wrote {target}")
    return 0


def _drawn(form: str, graph: Graph, states: dict[str, str], notes: dict[str, str], *, to_screen: bool) -> str:
    match form:
        case "svg":
            return svg(graph, states, notes)
        case "mermaid":
            return mermaid(graph, states)
        case _:
            width = shutil.get_terminal_size((100, 24)).columns if to_screen and sys.stdout.isatty() else 160
            return terminal(graph, states, width, symbol=symbol, ascii_only=to_screen and not speaks_unicode())


def _states(graph: Graph, runs: Iterable[StepRun]) -> tuple[dict[str, str], dict[str, str]]:
    """For each step the state that says most, and how long it took."""
    by_step: dict[str, list[StepRun]] = {node.name: [] for node in graph.nodes}
    for run in runs:
        by_step.setdefault(run.step, []).append(run)
    states, notes = {}, {}
    for name, found in by_step.items():
        here = {run.state.value for run in found} or {"pending"}
        states[name] = next(state for state in _LOUDEST if state in here)
        seconds = sum(run.seconds for run in found)
        if seconds >= 0.001:
            notes[name] = shown_seconds(seconds)
    return states, notes


def _json(graph: Graph) -> object:
    import json

    return json.loads(graph.to_json())
