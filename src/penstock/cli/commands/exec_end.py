"""`penstock exec-end`: close a run that an engine ordered."""

from __future__ import annotations

import argparse
import sys

from ...engine.closing import close_run
from ..exits import Exit
from ..joining import ENGINE_STATES, RUN_EXITS, add_run, for_an_engine, patiently, session_of
from ..render import print_json

COMMON = ("json",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
records what the engine never started (skipped, or kept from starting by a failure) and what it lost, and the state of
the run. Ends with 0 when the run succeeded, 1 when it failed, 130 when it was cancelled; 2 if it could not begin.
Closing a run twice does no harm.

examples:
  penstock exec-end --manifest m.json --engine airflow --engine-run churn/manual__2026-11-23
  penstock exec-end --manifest m.json --run churn-2026-11-23-7f3a --engine-state cancelled
"""
    add_run(parser)
    parser.add_argument(
        "--engine-state", choices=sorted(ENGINE_STATES), help="how the engine says that it ended (default: succeeded)"
    )


def execute(arguments: argparse.Namespace) -> int:
    return for_an_engine(arguments, lambda given: patiently(lambda: _execute(given)))


def _execute(arguments: argparse.Namespace) -> int:
    session = session_of(arguments)
    told = arguments.engine_state or (arguments.handed.engine_state if arguments.handed is not None else "succeeded")
    state = close_run(session, ENGINE_STATES[told])
    counts = {each.value: count for each, count in session.view.steps.states.items() if count}
    if arguments.json:
        print_json({"run": session.record.id, "state": state.value, "counts": counts, "error": session.view.error})
    else:
        told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        error = f"\n  {session.view.error}" if session.view.error else ""
        sys.stderr.write(f"penstock: run {session.record.id} {state.value}: {told}{error}\n")
    return RUN_EXITS.get(state, Exit.FAILED)
