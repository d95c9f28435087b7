"""`penstock exec-step`: one instance of one step in this process, for an engine that orders steps itself."""

from __future__ import annotations

import argparse
import sys

from ...core.errors import UsageError
from ...engine.processes import StepExit
from ...engine.settling import execute_settled
from ...engine.single import StepSession
from ...ports.events import AttemptFailed, StepBlocked, StepCached, StepCancelled, StepEvent, StepSkipped
from ...ports.records import StepState
from ..joining import add_run, for_an_engine, lacks, session_of
from ..progress import readable
from ..render import print_json
from ..watching import own_stdout

COMMON = ("json",)

# Where several elements of a map share a command, it ends with the worst of them.
_WORST_FIRST = (
    StepExit.RETRY,
    StepExit.FENCED,
    StepExit.NOT_READY,
    StepExit.FAILED,
    StepExit.UPSTREAM_FAILED,
    StepExit.DONE,
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
exit codes, for engines:
  0 done (succeeded, cached or skipped)   1 failed for good   3 something it needs failed
  4 something it needs is not done yet    5 not ours: a newer attempt or owner has it, or the run is over
  6 skipped, where --tell-skips asks      75 failed, and the retry policy would like another attempt
  2 it could not begin (no manifest, no store, no such step)

an engine that names its run with --engine and --engine-run needs no run of ours: the first command makes it, with the
parameters in PENSTOCK_PARAMETERS (a JSON object); an attempt that comes before its time waits here

examples:
  penstock exec-step --manifest .penstock/manifests/churn-2026-11-23-7f3a.json --run churn-2026-11-23-7f3a --step fit
  penstock exec-step --manifest m.json --run churn-2026-11-23-7f3a --step fit --index 2 --engine-attempt 1 --json
  penstock exec-step --manifest m.json --engine airflow --engine-run churn/manual__2026-11-23 --step fit --index 0,1,2
"""
    add_run(parser)
    add = parser.add_argument
    add("--step", required=True, metavar="NAME")
    add("--index", default="", metavar="PATH", help='the element of a map, such as "2" or "2.0"; several with commas')
    add("--engine-attempt", type=int, metavar="N", help="the engine's own count, kept with the attempt")
    add("--tell-skips", action="store_true", help="exit code 6 when the step was skipped")
    add(
        "--go-on",
        action="store_true",
        help="exit code 0 after a failure for good: the engine would keep from starting what still has to run",
    )


def execute(arguments: argparse.Namespace) -> int:
    return for_an_engine(arguments, _execute)


def _execute(arguments: argparse.Namespace) -> int:
    session = session_of(arguments)
    try:
        if not arguments.json:
            return _run(session, arguments)[0]
        with own_stdout():
            code, event = _run(session, arguments)
    finally:
        session.close()
    print_json({"exit": StepExit(code).name.lower(), "code": code, "event": readable(event)})
    sys.stdout.flush()
    return code


def _run(session: StepSession, arguments: argparse.Namespace) -> tuple[int, StepEvent | None]:
    session.catch_up()
    if lacks(session, arguments, arguments.step):
        return StepExit.DONE, None
    codes: list[StepExit] = []
    event: StepEvent | None = None
    indexes = arguments.index.split(",")
    if len(indexes) > 1 and arguments.handed is not None:
        raise UsageError("--executor-input speaks of one element, but --index gives several")
    for index in indexes:
        code, event = execute_settled(session, arguments.step, index, arguments.engine_attempt)
        codes.append(code)
        if arguments.engine:
            sys.stderr.write(f"penstock: {told(session, arguments.step, index, code, event)}\n")
    worst = next(code for code in _WORST_FIRST if code in codes)
    if arguments.go_on and worst in (StepExit.FAILED, StepExit.UPSTREAM_FAILED):
        worst = StepExit.DONE
    if arguments.handed is not None and worst is StepExit.DONE:
        session.catch_up()
        arguments.handed.tell_step(session.graph, session.view.step(arguments.step, arguments.index))
    if worst is StepExit.DONE and arguments.tell_skips and is_skipped(session, arguments.step, *indexes):
        return StepExit.SKIPPED, event
    return worst, event


def is_skipped(session: StepSession, step: str, *indexes: str) -> bool:
    """Whether every one of these instances was skipped."""
    session.catch_up()
    return all(session.view.step(step, index).state is StepState.SKIPPED for index in indexes)


def told(session: StepSession, step: str, index: str, code: StepExit, event: StepEvent | None) -> str:
    """One line for the engine's log: what became of an instance, and why."""
    name = f"{step}[{index}]" if index else step
    run_id = session.record.id
    match event:
        case AttemptFailed(failure=failure, attempt=attempt, retry_at=retry_at):
            again = "another attempt follows" if retry_at is not None else "for good"
            hint = f"\n  hint: {failure.hint}" if failure.hint else ""
            cause = failure.traceback.rstrip() or f"{failure.name}: {failure.message}"
            return f"{name} failed in attempt {attempt}, {again}\n{cause}{hint}"
        case StepBlocked(because=because):
            return f"{name} cannot start: {because}"
        case StepSkipped(because=because):
            return f"{name} is skipped: {because}"
        case StepCached(origin=origin):
            return f"{name} is taken from the cache: run {origin[0]} has computed it"
        case StepCancelled(because=because):
            return f"{name} is cancelled: {because}"
        case _:
            pass
    match code:
        case StepExit.FENCED:
            return f"{name} is not ours to run: a newer attempt or owner has run {run_id}, or it is over"
        case StepExit.NOT_READY:
            return f"{name} is not ready: something that it needs in run {run_id} is not done"
        case StepExit.FAILED:
            return f"{name} has failed for good already, or run {run_id} was asked to stop: penstock show {run_id}"
        case StepExit.UPSTREAM_FAILED:
            return f"{name} cannot start: something that it needs failed"
        case _:
            return f"{name} is done in run {run_id}" if event is None else f"{name} succeeded in run {run_id}"
