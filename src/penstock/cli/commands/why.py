"""`penstock why [RUN] STEP`: why a step ran, or was a hit, skipped, blocked or failed."""

from __future__ import annotations

import argparse
from typing import Any

from ...core.errors import NotFoundError, UsageError
from ...engine.comparison import instance
from ...engine.explain import Explanation, why
from ...engine.hidden.declared import hint, named
from ...wiring.project import Project
from ...wiring.runner import find_run
from ..opening import project_for
from ..records import attempt_facts, failure_shown, hidden_facts
from ..render import paint, print_json, shortened, shown_seconds, shown_state, symbol, table
from .plan import diff_lines


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock why [RUN] STEP [--index I] [flags]"
    parser.epilog = """
a run is named by its id, the beginning or end of it, or `last` (which is meant where only a step is given)

examples:
  penstock why fit
  penstock why last "fit[2]"
  penstock why 7f3a fit --index 2.0
"""
    parser.add_argument("names", nargs="+", metavar="RUN STEP", help="a run (default: the last one) and a step of it")
    parser.add_argument("--index", metavar="I", help="the element of a map, such as 2 or 2.0")


def execute(arguments: argparse.Namespace) -> int:
    names: list[str] = arguments.names
    if len(names) > 2:
        raise UsageError(f"penstock why: '{names[2]}' is one word too many", hint="penstock why [RUN] STEP")
    run, wanted = names if len(names) == 2 else ("last", names[0])
    step, _, index = wanted.removesuffix("]").partition("[")
    project = project_for(arguments)
    summary = find_run(project, run)
    try:
        found = why(project.store, summary, step, arguments.index or index)
    except NotFoundError as error:
        if len(names) == 1 and _names_a_run(project, wanted):
            raise UsageError(
                f"penstock why: '{wanted}' is a run; which step of it?", hint=f"penstock why {wanted} STEP"
            ) from error
        raise
    if arguments.json:
        print_json(_facts(found))
    else:
        print(_page(found))
    return 0


def _names_a_run(project: Project, name: str) -> bool:
    return name == "last" or bool(project.store.match_runs(name))


def _facts(found: Explanation) -> dict[str, Any]:
    return {
        "run": found.run,
        "step": found.step,
        "index": found.index,
        "state": found.state.value,
        "why": found.headline,
        "changes": found.changes,
        "compared_with": found.compared_with[0] if found.compared_with else None,
        "origin": dict(zip(("run", "step", "index"), found.origin, strict=True)) if found.origin else None,
        "observations": [
            {"kind": each.kind, "name": each.name, "version": each.version} for each in found.observations
        ],
        "attempts": [attempt_facts(each) for each in found.attempts],
        "note": found.note,
        "waived": list(found.waived),
        "unseen": list(found.unseen),
        "hidden": [hidden_facts(each) for each in found.hidden],
    }


def _page(found: Explanation) -> str:
    name = instance(found.step, found.index)
    lines = [f"{paint(name, 'bold')} of run {found.run}  {shown_state(found.state)}", "", found.headline]
    if found.compared_with is not None and found.changes:
        same = found.compared_with[0] == found.run
        what = "the attempt before the run was resumed" if same else f"run {found.compared_with[0]}"
        lines.append(paint(f"compared with {what}:", "dim"))
    for change in found.changes:
        lines.append(f"  - {change.text}")
        if change.because:
            lines.append(f"    because {change.because}")
        lines += [f"      {line}" for line in diff_lines(change.diff)]
    if found.note:
        lines += ["", f"it said: {found.note}"]
    if found.observations:
        lines += ["", "it looked at:"]
        rows = [[each.kind, shortened(each.name, 60), shortened(each.version, 24)] for each in found.observations]
        lines.append(table(rows, indent="  "))
    if found.hidden:
        rows = [[each.kind, named(each), each.where] for each in found.hidden]
        lines += ["", "it looked at, undeclared:", table(rows, indent="  "), f"  {hint(found.hidden)}"]
    if found.unseen:
        lines += ["", "cannot be seen:", *(f"  {text}" for text in found.unseen)]
    if len(found.attempts) > 1 or any(each.failure for each in found.attempts):
        lines += ["", "attempts:"]
        for attempt in found.attempts:
            text = f"  {symbol(attempt.state)} {attempt.number}  {attempt.state.replace('_', ' ')}"
            text += f" after {shown_seconds(attempt.seconds)}"
            if attempt.failure:
                text += f"  {shortened(failure_shown(attempt.failure), 120)}"
            lines.append(text)
    if found.waived:
        lines += ["", f"not kept here: {', '.join(found.waived)}"]
    return "\n".join(lines)
