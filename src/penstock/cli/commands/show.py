"""`penstock show [RUN] [STEP]`: what happened in a run, or in one step of it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ...core.units import shown_size
from ...engine.comparison import unseen_by
from ...engine.hidden.declared import hint
from ...graph import Graph
from ...ports.events import StepCached, fold
from ...ports.records import Attempt, Failure, FailureClass, RunState, RunSummary, StepRun
from ...ports.runlog import Store
from ...wiring.runner import find_run
from ..opening import project_for
from ..records import attempt_facts, failure_shown, hidden_shown, run_facts, state_shown, step_facts, steps_named
from ..render import paint, print_json, shortened, shown_instant, shown_seconds, shown_state, table, without_control
from ..summary import name_of, place_of, verdicts


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
a run is named by its id, the beginning or end of it, its --name, or `last`; an element of a map by STEP[INDEX]

examples:
  penstock show
  penstock show 7f3a
  penstock show last fit
  penstock show last "fit[2]" --json
"""
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help="default: the last run")
    parser.add_argument("step", nargs="?", metavar="STEP", help="one step, in full")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    found = find_run(project, arguments.run)
    store = project.store
    steps = store.step_runs(found.record.id)
    if arguments.step is not None:
        chosen = steps_named(steps, arguments.step, found.record.id)
        attempts = store.attempts(found.record.id, chosen[0].step)
        unseen = _unseen(found, chosen[0], store)
        if arguments.json:
            told = [_with_attempts(run, attempts, found.state) for run in chosen]
            print_json([each | {"unseen": list(unseen)} for each in told])
        else:
            print("\n\n".join(_step_page(run, attempts, found.state, unseen) for run in chosen))
    elif arguments.json:
        record = found.record
        facts = {"code": record.code, "environment": record.environment, "options": record.options}
        told = [step_facts(run, found.state) for run in steps]
        print_json(run_facts(found) | {"seed": record.seed} | facts | {"steps": told})
    else:
        print(_run_page(found, steps, store))
    return 0


# -- a run -------------------------------------------------------------------------------------------------------------


def _run_page(found: RunSummary, steps: list[StepRun], store: Store) -> str:
    record = found.record
    facts: list[list[Any]] = [
        ["state", shown_state(found.state)],
        ["pipeline", record.pipeline],
        ["name", record.name],
        ["started", f"{shown_instant(found.started_at)} by {record.user or 'somebody'} on {record.host}"],
        ["took", shown_seconds((found.finished_at - found.started_at) / 1e6) if found.finished_at else None],
        ["parameters", _pairs(record.parameters)],
        ["tags", _pairs(record.tags)],
        ["code", _code(record.code.get("git", {}))],
        ["environment", _environment(record.environment)],
        ["seed", record.seed or None],
        ["options", _options(record.options)],
        ["error", found.error],
    ]
    parts = [paint(record.id, "bold"), table([row for row in facts if row[1]], indent="  ")]
    if steps:
        parts += [
            "",
            table(
                [_row(run, found.state) for run in steps], ["step", "state", "took", "attempts", "about"], indent="  "
            ),
        ]
    kept = fold(event for _, event in store.events(record.id)).kept
    if kept:
        parts.append(f"\n  kept from older code: {', '.join(kept)}")
    saved = sum(event.saved_seconds for _, event in store.events(record.id) if isinstance(event, StepCached))
    if saved >= 0.001:
        parts.append(f"\n  the cache saved {shown_seconds(saved)}")
    for run in steps:
        if run.failure is not None:
            parts += ["", _failure(run, run.failure)]
    parts += [f"\n  {line}" for line in _hidden_lines(steps)]
    for gate in verdicts(steps):
        word = "passed" if gate.passed else paint("refused", "yellow")
        parts.append(f"\n  {gate.step} {word}: {'; '.join(gate.reasons)}")
    parts += ["", f"  next: {paint(_next(found, steps), 'bold')}"]
    return "\n".join(parts)


def _hidden_lines(steps: list[StepRun]) -> list[str]:
    """One line for each step that has hidden inputs; elements of a map that have the same share one."""
    by_step: dict[tuple[str, str], list[str]] = {}
    for run in steps:
        if run.hidden:
            by_step.setdefault((run.step, hidden_shown(run)), []).append(name_of(run.step, run.index))
    return [
        f"{names[0] if len(names) == 1 else f'{names[0]} and {len(names) - 1} more'} {paint(text, 'yellow')}"
        for (_, text), names in by_step.items()
    ]


def _row(run: StepRun, state: RunState) -> list[Any]:
    return [
        name_of(run.step, run.index),
        shown_state(state_shown(run.state, state)),
        shown_seconds(run.seconds) if run.state.has_output and run.origin is None else "",
        run.attempts or "",
        shortened("; ".join(_about(run)), 100),
    ]


def _about(run: StepRun) -> list[str]:
    about = []
    if run.origin is not None:
        step = name_of(run.origin[1], run.origin[2])
        about.append(f"from {run.origin[0]}" + (f" {step}" if step != name_of(run.step, run.index) else ""))
    if run.failure is not None:
        about.append(failure_shown(run.failure))
    if run.note:
        about.append(run.note)
    about += [f"{name} {value:g}" for name, value in run.metrics.items()]
    about += [f"{name}: {_size(ref.meta, ref.size_bytes)}" for name, ref in _quarantines(run)]
    if run.waived:
        about.append(f"waived here: {', '.join(run.waived)}")
    return about


def _quarantines(run: StepRun) -> list[tuple[str, Any]]:
    return [(name, ref) for name, ref in run.outputs.items() if name.endswith("quarantine")]


def _next(found: RunSummary, steps: list[StepRun]) -> str:
    name = found.record.id
    match found.state:
        case RunState.RUNNING:
            return f"penstock logs {name} --follow"
        case RunState.SUCCEEDED:
            return f"penstock show {name} {steps[-1].step}" if steps else "penstock ls"
        case _:
            return f"penstock resume {name}"


def _pairs(values: dict[str, str]) -> str:
    return "  ".join(f"{name}={shortened(value, 60)}" for name, value in values.items())


def _code(git: dict[str, Any]) -> str:
    if not git:
        return ""
    where = f" on {git['branch']}" if git.get("branch") else ""
    dirty = f", with uncommitted changes ({git['digest'][:12]})" if git.get("dirty") else ""
    return f"{(git.get('commit') or 'no commit yet')[:12]}{where}{dirty}"


def _environment(found: dict[str, Any]) -> str:
    words = [f"Python {found['python']}"] if "python" in found else []
    words += [f"{found['platform']} {found.get('machine', '')}".strip()] if "platform" in found else []
    words += [f"{len(found['packages'])} packages"] if found.get("packages") else []
    return ", ".join(words)


def _options(options: dict[str, Any]) -> str:
    words = ["without cache"] if options.get("cache") is False else []
    words += [f"from {', '.join(options['force'])}"] if options.get("force") else []
    words += [f"profile {options['profile']}"] if options.get("profile") else []
    return ", ".join(words)


# -- a step ------------------------------------------------------------------------------------------------------------


def _with_attempts(run: StepRun, attempts: list[Attempt], state: RunState) -> dict[str, Any]:
    own = [attempt_facts(each, state) for each in attempts if each.index == run.index]
    return step_facts(run, state) | {"code": run.parts.get("code"), "attempts_made": own}


def _unseen(found: RunSummary, run: StepRun, store: Store) -> tuple[str, ...]:
    """What the code of the step may depend on and its key cannot see."""
    graph = Graph.from_json(store.manifest(found.record.manifest))
    node = next((node for node in graph.nodes if node.name == run.step), None)
    digest = run.parts.get("code")
    return unseen_by(node, store.get_unseen(digest)) if node is not None and digest else ()


def _step_page(run: StepRun, attempts: list[Attempt], state: RunState, unseen: tuple[str, ...]) -> str:
    facts: list[list[Any]] = [
        ["state", shown_state(state_shown(run.state, state))],
        ["took", shown_seconds(run.seconds) if run.seconds else None],
        ["from", " ".join(run.origin) if run.origin else None],
        ["note", run.note],
        ["metrics", "  ".join(f"{name}={value:g}" for name, value in run.metrics.items())],
        ["waived", ", ".join(run.waived)],
        ["cache key", run.key[:12] if run.key else None],
        ["code", run.parts.get("code", "")[:12]],
    ]
    parts = [paint(name_of(run.step, run.index), "bold"), table([row for row in facts if row[1]], indent="  ")]
    if unseen:
        parts += ["  cannot be seen", *(f"    {text}" for text in unseen)]
    if run.hidden:
        rows = [[each.kind, each.name, each.where] for each in run.hidden]
        parts += [f"  hidden inputs, {'cached all the same' if run.key else 'not cached'}", table(rows, indent="    ")]
        parts.append(f"    {hint(run.hidden)}")
    if run.inputs:
        rows = [[name, ", ".join(digest[:12] for digest in digests)] for name, digests in run.inputs.items()]
        parts += ["  inputs", table(rows, indent="    ")]
    if run.outputs:
        rows = [
            [name, ref.digest[:12], ref.codec, _size(ref.meta, ref.size_bytes), shortened(ref.inline or "", 60)]
            for name, ref in run.outputs.items()
        ]
        parts += ["  outputs", table(rows, indent="    ")]
    if run.observations:
        rows = [[each.kind, each.name, shortened(each.version, 40)] for each in run.observations]
        parts += ["  looked at", table(rows, indent="    ")]
    own = [each for each in attempts if each.index == run.index]
    if own:
        rows = [
            [
                f"{each.number}",
                shown_state(state_shown(each.state, state)),
                shown_seconds(each.seconds),
                f"pid {each.pid} on {each.host}",
            ]
            for each in own
        ]
        parts += ["  attempts", table(rows, indent="    ")]
    if run.failure is not None:
        parts.append(_failure(run, run.failure))
    return "\n".join(parts)


def _size(meta: dict[str, Any], size_bytes: int) -> str:
    rows = f"{meta['rows']} rows, " if "rows" in meta else ""
    kind = f"{meta['type']}, " if "type" in meta else ""
    return f"{kind}{rows}{shown_size(size_bytes)}"


def _failure(run: StepRun, failure: Failure) -> str:
    place = place_of(failure)
    lines = [f"{paint(name_of(run.step, run.index), 'red')}: {failure.name}: {without_control(failure.message)}"]
    if failure.kind is FailureClass.CANCELLED:
        lines = [f"{paint(name_of(run.step, run.index), 'red')}: {failure_shown(failure)}"]
    lines += [f"  at {place}"] if place else []
    lines += [f"  hint: {failure.hint}"] if failure.hint else []
    shown = without_control(failure.traceback.rstrip()).replace(os.getcwd() + os.sep, "")
    lines += [f"  {line}" for line in shown.splitlines()]
    return "\n".join(f"  {line}" for line in lines)
