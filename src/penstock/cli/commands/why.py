"""`penstock why [RUN] STEP`: why a step ran, or was a hit, skipped, blocked or failed."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from ...core.errors import NotFoundError, UsageError
from ...engine.comparison import instance
from ...engine.explain import Explanation, Whole, why, why_map
from ...engine.hidden.declared import named
from ...ports.records import RunState
from ...wiring.project import Project
from ...wiring.runner import find_run
from ..elements import counts
from ..opening import project_for
from ..records import attempt_facts, failure_shown, hidden_facts, state_shown
from ..render import counted, paint, print_json, shortened, shown_seconds, shown_state, symbol, table
from .plan import diff_lines

_MOST_GROUPS = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock why [RUN] STEP [--index I] [flags]"
    parser.epilog = """
a run is named by its id, the beginning or end of it, or `last` (which is meant where only a step is given);
a map is told as a whole, its elements by what they have in common; one of them by STEP[INDEX]

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
    index = arguments.index or index
    try:
        whole = why_map(project.store, summary, step) if not index else None
        found = whole or why(project.store, summary, step, index)
    except NotFoundError as error:
        if len(names) == 1 and _names_a_run(project, wanted):
            raise UsageError(
                f"penstock why: '{wanted}' is a run; which step of it?", hint=f"penstock why {wanted} STEP"
            ) from error
        raise
    if arguments.json:
        print_json(_facts(found) if isinstance(found, Explanation) else _map_facts(found))
    else:
        print(_page(found) if isinstance(found, Explanation) else _map_page(found, summary.state))
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


def _map_facts(whole: Whole) -> dict[str, Any]:
    return {
        "run": whole.run,
        "step": whole.step,
        "elements": len(whole.runs),
        "counts": dict(sorted(Counter(run.state.value for run in whole.runs).items())),
        "groups": [{"indices": list(each.indices), "first": _facts(each.explanation)} for each in whole.groups],
        "left_out": whole.left_out,
    }


def _map_page(whole: Whole, state: RunState) -> str:
    """A map: for each group of elements, how many, which, and why the first of them came to its state."""
    elements = counted(len(whole.runs), "element")
    lines = [f"{paint(whole.step, 'bold')} of run {whole.run}: {elements}  {counts(whole.runs, state)}"]
    for group in whole.groups[:_MOST_GROUPS]:
        found = group.explanation
        names = ", ".join(instance(whole.step, index) for index in group.indices[:3])
        more = " …" if len(group.indices) > 3 else ""
        shown = shown_state(state_shown(found.state, state))
        lines += ["", f"{len(group.indices)} x {shown}: {names}{more}", f"  {found.headline}"]
        if found.changes and len(group.indices) > 1:
            lines.append(paint(f"  of {instance(whole.step, found.index)}:", "dim"))
        lines += [f"  {line}" for line in _change_lines(found)]
        failure = next((each.failure for each in reversed(found.attempts) if each.failure is not None), None)
        if failure is not None:
            lines.append(f"  {shortened(failure_shown(failure), 120)}")
    if len(whole.groups) > _MOST_GROUPS:
        lines += ["", f"and {counted(len(whole.groups) - _MOST_GROUPS, 'smaller group')}: see --json"]
    if whole.left_out:
        lines += ["", f"{whole.left_out} more were not compared one by one"]
    return "\n".join([*lines, "", f'one of them in full: penstock why {whole.run} "{_first(whole)}"'])


def _first(whole: Whole) -> str:
    return instance(whole.step, whole.runs[0].index)


def _change_lines(found: Explanation) -> list[str]:
    lines = []
    for change in found.changes:
        lines.append(f"  - {change.text}")
        if change.because:
            lines.append(f"    because {change.because}")
        lines += [f"      {line}" for line in diff_lines(change.diff)]
    return lines


def _page(found: Explanation) -> str:
    name = instance(found.step, found.index)
    lines = [f"{paint(name, 'bold')} of run {found.run}  {shown_state(found.state)}", "", found.headline]
    if found.compared_with is not None and found.changes:
        same = found.compared_with[0] == found.run
        what = "the attempt before the run was resumed" if same else f"run {found.compared_with[0]}"
        lines.append(paint(f"compared with {what}:", "dim"))
    lines += _change_lines(found)
    if found.note:
        lines += ["", f"it said: {found.note}"]
    if found.observations:
        lines += ["", "it looked at:"]
        rows = [[each.kind, shortened(each.name, 60), shortened(each.version, 24)] for each in found.observations]
        lines.append(table(rows, indent="  "))
    if found.hidden:
        rows = [[each.kind, named(each), each.where] for each in found.hidden]
        lines += ["", "it looked at, undeclared:", table(rows, indent="  "), f"  {found.way_out}"]
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
