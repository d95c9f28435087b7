"""`penstock show [RUN] [STEP]`: what happened in a run, or in one step of it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ...core.errors import PenstockError
from ...core.units import shown_size
from ...engine.comparison import unseen_by
from ...engine.hidden.declared import hint, named
from ...graph import Graph
from ...ports.events import AttemptStarted, MapExpanded, RunResumed, StepCached
from ...ports.records import Attempt, Failure, FailureClass, RunRecord, RunState, RunSummary, StepRun
from ...ports.runlog import Store
from ...wiring.project import Project
from ...wiring.runner import find_run
from ...wiring.submitting import Handover, handover, state_of
from ..again import again
from ..elements import FEW, counts, failed, failures, grouped, origins, pending, times
from ..opening import project_for
from ..records import attempt_facts, failure_shown, hidden_shown, run_facts, state_shown, step_facts, steps_named
from ..render import paint, print_json, shortened, shown_instant, shown_seconds, shown_state, table, without_control
from ..summary import name_of, place_of, verdicts

_TOLD = 3  # failures of one map whose traceback is shown


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
a run is named by its id, the beginning or end of it, its --name, or `last`; an element of a map by STEP[INDEX];
a map of more than ten elements is one line, followed by those of its elements that failed

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
    if found.state in (RunState.RUNNING, RunState.INTERRUPTED):
        steps += _pending(found, steps, store)
    if arguments.step is not None:
        chosen = steps_named(steps, arguments.step, found.record.id)
        attempts = store.attempts(found.record.id, chosen[0].step)
        unseen = _unseen(found, chosen[0], store)
        if arguments.json:
            told = [_with_attempts(run, attempts, found.state, _limits(found, run, store)) for run in chosen]
            print_json([each | {"unseen": list(unseen)} for each in told])
        else:
            pages = [_page(group, attempts, found.state, unseen, found, store) for group in grouped(chosen)]
            print("\n\n".join(pages))
    elif arguments.json:
        record = found.record
        facts = {"code": record.code, "environment": record.environment, "options": record.options}
        told = [step_facts(run, found.state) for run in steps]
        waived = list(handover(project, record).waived)
        print_json(run_facts(found) | {"waived": waived, "seed": record.seed} | facts | {"steps": told})
    else:
        print(_run_page(found, steps, store, handover(project, found.record)))
        if elsewhere := _asked(project, found):
            print(f"\n  {elsewhere}")
    return 0


def _asked(project: Project, found: RunSummary) -> str:
    """What the engine of a run that has no end says of it, where that is another thing. Nothing is changed."""
    record = found.record
    if found.state is not RunState.RUNNING or record.backend == "local":
        return ""
    try:
        graph = Graph.from_json(project.store.manifest(record.manifest))
        state = state_of(project, record, graph, project.settings)
    except PenstockError as error:
        return f"{record.backend} could not be asked how the run is: {error.problem}"
    if state is RunState.RUNNING:
        return ""
    says = "does not know this run" if state is RunState.INTERRUPTED else f"says that it is over: {state.value}"
    return f"{record.backend} {says}. `penstock resume {record.id}` closes it first, and finishes it"


def _pending(found: RunSummary, steps: list[StepRun], store: Store) -> list[StepRun]:
    sizes = {
        (event.scope, event.index): event.size
        for _, event in store.events(found.record.id)
        if isinstance(event, MapExpanded)
    }
    return pending(Graph.from_json(store.manifest(found.record.manifest)), steps, sizes)


def _place(record: RunRecord, handed: Handover) -> str:
    """Where it runs: this or that host, or an engine with the name that it has there."""
    if record.backend == "local":
        return record.host
    return f"{record.backend} ({handed.deployment or record.pipeline}, {handed.engine_run})"


# -- a run -------------------------------------------------------------------------------------------------------------


def _run_page(found: RunSummary, steps: list[StepRun], store: Store, handed: Handover) -> str:
    record = found.record
    facts: list[list[Any]] = [
        ["state", shown_state(found.state)],
        ["pipeline", record.pipeline],
        ["name", record.name],
        [
            "started",
            f"{shown_instant(found.started_at)} by {record.user or 'somebody'} on {_place(record, handed)}",
        ],
        ["took", shown_seconds((found.finished_at - found.started_at) / 1e6) if found.finished_at else None],
        ["parameters", _pairs(record.parameters)],
        ["tags", _pairs(record.tags)],
        ["code", _code(record.code.get("git", {}))],
        ["environment", _environment(record.environment)],
        ["seed", record.seed or None],
        ["options", _options(record.options)],
        ["goes without", ", ".join(handed.waived) or None],
        ["error", found.error],
    ]
    parts = [paint(record.id, "bold"), table([row for row in facts if row[1]], indent="  ")]
    groups = grouped(steps)
    if steps:
        parts += [
            "",
            table(
                [row for group in groups for row in _rows(group, found.state)],
                ["step", "state", "took", "attempts", "about"],
                indent="  ",
            ),
        ]
    events = [event for _, event in store.events(record.id)]
    resumes = [event for event in events if isinstance(event, RunResumed)]
    kept = resumes[-1].kept if resumes else ()
    if renewed := _renewed(resumes):
        parts.append(f"\n  resumed with changed code: {', '.join(renewed)}")
    if kept:
        parts.append(f"\n  kept from older code: {', '.join(kept)}")
    saved = sum(event.saved_seconds for event in events if isinstance(event, StepCached))
    if saved >= 0.001:
        parts.append(f"\n  the cache saved {shown_seconds(saved)}")
    for group in groups:
        told = [(run, run.failure) for run in group if run.failure is not None]
        parts += [text for run, failure in told[:_TOLD] for text in ("", _failure(run, failure))]
        if len(told) > _TOLD:
            rest = f"{len(told) - _TOLD} more of {group[0].step}: penstock show {record.id} {group[0].step}"
            parts.append(f"\n  … and {rest}")
    parts += [f"\n  {line}" for line in _hidden_lines(steps)]
    for gate in verdicts(steps):
        word = "passed" if gate.passed else paint("refused", "yellow")
        parts.append(f"\n  {gate.step} {word}: {'; '.join(gate.reasons)}")
    parts += ["", f"  next: {paint(again(_next(found, steps)), 'bold')}"]
    return "\n".join(parts)


def _renewed(resumes: list[RunResumed]) -> list[str]:
    """Functions of steps whose code was another one when the run was resumed."""
    found: dict[str, None] = {}
    for event in resumes:
        now = (event.code or {}).get("steps", {})
        found |= {target: None for target, digest in event.earlier_code.items() if now.get(target, digest) != digest}
    return [*found]


def _rows(group: list[StepRun], state: RunState) -> list[list[Any]]:
    """The lines of a step, or of a map: the whole, then what failed."""
    if len(group) == 1:
        return [_row(group[0], state)]
    attempts = sum(run.attempts for run in group)
    whole = [f"{group[0].step} x {len(group)}", counts(group, state), times(group), attempts or "", *origins(group)[:1]]
    bad = failed(group)
    rows = [whole, *(_row(run, state) for run in bad[:FEW])]
    return rows + ([[f"… and {len(bad) - FEW} more that failed"]] if len(bad) > FEW else [])


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


def _limits(found: RunSummary, run: StepRun, store: Store) -> dict[int, int]:
    """Attempt -> bytes that it might use, of a step with a memory limit, which may have grown."""
    if run.memory_limit is None:
        return {}
    return {
        event.attempt: event.memory_limit
        for _, event in store.events(found.record.id)
        if isinstance(event, AttemptStarted) and (event.step, event.index) == (run.step, run.index)
        if event.memory_limit is not None
    }


def _with_attempts(run: StepRun, attempts: list[Attempt], state: RunState, limits: dict[int, int]) -> dict[str, Any]:
    own = [attempt_facts(each, state, limits.get(each.number)) for each in attempts if each.index == run.index]
    return step_facts(run, state) | {"code": run.parts.get("code"), "attempts_made": own}


def _unseen(found: RunSummary, run: StepRun, store: Store) -> tuple[str, ...]:
    """What the code of the step may depend on and its key cannot see."""
    graph = Graph.from_json(store.manifest(found.record.manifest))
    node = next((node for node in graph.nodes if node.name == run.step), None)
    digest = run.parts.get("code")
    return unseen_by(node, store.get_unseen(digest), run.observations) if node is not None and digest else ()


def _texts(run: StepRun, store: Store) -> list[str] | None:
    """The code of a step, as far as it is kept."""
    code = store.get_code(run.parts["code"]) if "code" in run.parts else None
    return [part.text for part in code[0]] if code is not None else None


def _page(
    group: list[StepRun],
    attempts: list[Attempt],
    state: RunState,
    unseen: tuple[str, ...],
    found: RunSummary,
    store: Store,
) -> str:
    if len(group) > 1:
        return _map_page(group, state, unseen, found.record.id)
    texts = _texts(group[0], store) if group[0].hidden else None
    return _step_page(group[0], attempts, state, unseen, _limits(found, group[0], store), texts)


def _map_page(group: list[StepRun], state: RunState, unseen: tuple[str, ...], run_id: str) -> str:
    """A map of more elements than anybody reads one by one."""
    step = group[0].step
    facts: list[list[Any]] = [
        ["state", counts(group, state)],
        ["took", times(group)],
        ["from", ", ".join(origins(group))],
        ["attempts", sum(run.attempts for run in group)],
        ["code", group[0].parts.get("code", "")[:12]],
    ]
    parts = [paint(f"{step} x {len(group)}", "bold"), table([row for row in facts if row[1]], indent="  ")]
    if unseen:
        parts += ["  cannot be seen", *(f"    {text}" for text in unseen)]
    if told := failures(group):
        parts += ["  failed", *(f"    {without_control(text)}" for text in told)]
    slowest = sorted((run for run in group if run.seconds), key=lambda run: -run.seconds)[:3]
    if slowest:
        rows = [[name_of(run.step, run.index), shown_seconds(run.seconds)] for run in slowest]
        parts += ["  slowest", table(rows, indent="    ")]
    return "\n".join([*parts, f'  one of them: penstock show {run_id} "{name_of(step, group[0].index)}"'])


def _step_page(
    run: StepRun,
    attempts: list[Attempt],
    state: RunState,
    unseen: tuple[str, ...],
    limits: dict[int, int],
    texts: list[str] | None,
) -> str:
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
        rows = [[each.kind, named(each), each.where] for each in run.hidden]
        parts += [f"  hidden inputs, {'cached all the same' if run.key else 'not cached'}", table(rows, indent="    ")]
        parts.append(f"    {hint(run.hidden, texts)}")
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
                f"pid {each.pid} on {each.host}" if each.pid else f"on {each.host}",
                f"limit {shown_size(limits[each.number])}" if each.number in limits else "",
                shortened(failure_shown(each.failure), 80) if each.failure is not None else "",
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
    lines = [f"{paint(name_of(run.step, run.index), 'red')}: {without_control(failure_shown(failure))}"]
    lines += [f"  at {place}"] if place else []
    lines += [f"  hint: {failure.hint}"] if failure.hint else []
    # Where it was stopped is no mistake of the step's, and without a frame there is only the message again.
    if failure.kind is not FailureClass.CANCELLED and "File " in failure.traceback:
        shown = without_control(failure.traceback.rstrip()).replace(os.getcwd() + os.sep, "")
        lines += [f"  {line}" for line in shown.splitlines()]
    return "\n".join(f"  {line}" for line in lines)
