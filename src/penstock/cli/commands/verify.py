"""`penstock verify FILE`: find steps that do not always give the same from the same inputs."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Any

from ...engine.comparison import instance
from ...engine.verification import Finding
from ...wiring.project import Project
from ...wiring.verifying import Verification, verify
from ..app import Parser
from ..exits import Exit
from ..opening import load_pipeline, parse_with_file, settings_for, traced
from ..render import counted, paint, print_json, shortened
from ..verdicts import add_copying_flags, cause_lines, experimenting, terms_of
from .run import add_parameters, parameters_of

COMMON = ("profile", "json")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock verify FILE.py[:PIPELINE] [flags] [the pipeline's parameters]"
    parser.epilog = """
runs it six times, nothing from the cache, in a store of its own: every step in a
fresh process, that once more, with another PYTHONHASHSEED, in another order; and
all steps in one process, twice. A step that was given the same inputs and gave
something else has hidden state or is not deterministic. Steps that declare an
effect, and what needs them, are not run. What follows a faulty step is judged on
its first result, by five runs more.

it runs in a private copy of the project: the project's files stay as they are,
whatever steps write under relative names. What steps do elsewhere (absolute names,
other services) without declaring an effect happens in every run.

exit codes: 0 nothing found, 6 something found, 1 the pipeline fails

examples:
  penstock verify churn.py
  penstock verify pipelines.py:nightly --params small.yaml --json
"""
    add_parameters(parser)
    add = parser.add_argument
    add("--no-search", action="store_true", help="do not look for the cause: it runs the step a few times more")
    add_copying_flags(parser)
    add("--quiet", "-q", action="store_true", help="say nothing before the result")


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    if any(word in ("-h", "--help") for word in words):
        parser.parse_args(["--help"])
    return parse_with_file(parser, words)


def execute(arguments: argparse.Namespace) -> int:
    pipeline = load_pipeline(arguments.file)
    settings = settings_for(arguments, pipeline.root)
    parameters = pipeline.parameters(parameters_of(pipeline, arguments))
    graph = traced(pipeline, parameters).graph
    with experimenting(arguments) as (tell, _):
        project, search = Project(settings), not arguments.no_search
        found = verify(project, graph, parameters, tell=tell, search=search, terms=terms_of(arguments))
    if arguments.json:
        print_json(_facts(found))
    else:
        print(_page(found))
    return Exit.DIFFERENT if found.findings else Exit.OK


def _facts(found: Verification) -> dict[str, Any]:
    return {
        "pipeline": found.pipeline,
        "steps": found.steps,
        "instances": found.instances,
        "reliable": not found.findings,
        "findings": found.findings,
        "not_run": found.not_run,
        "unjudged": found.unjudged,
        "notes": found.notes,
    }


def _page(found: Verification) -> str:
    size = counted(found.steps, "step")
    size += f", {counted(found.instances, 'instance')}" if found.instances > found.steps else ""
    lines = [f"{paint(found.pipeline, 'bold')}: {size}"]
    for each in found.findings:
        lines += ["", *_finding(each)]
    if found.not_run:
        lines += ["", *_listed("not run, for they change something outside or need it", found.not_run)]
    if found.unjudged:
        lines += ["", *_listed("not judged, for they follow too many of these", found.unjudged)]
    lines += ["", *(shortened(f"note: {note}", 200) for note in found.notes)] if found.notes else []
    if found.findings:
        ending = paint(f"{counted(len(found.findings), 'step')} cannot be relied on", "red")
    else:
        ending = paint("nothing found: the same inputs always gave the same bytes", "green")
    return "\n".join([*lines, "", ending])


def _finding(each: Finding) -> list[str]:
    name = instance(each.step, each.index)
    more = f" and {counted(each.elements - 1, 'other element')}" if each.elements > 1 else ""
    lines = [f"{paint(name, 'bold')}{more}: {paint(each.kind, 'red')}  {paint(f'({each.where})', 'dim')}"]
    if each.shown:
        lines.append(f"  {shortened(each.shown, 78)}")
    return lines + cause_lines(each.cause)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    return textwrap.wrap(f"{what}: {', '.join(names)}", 80, subsequent_indent="  ")
