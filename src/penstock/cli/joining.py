"""What the commands for engines share: which run, and how they end when they cannot begin."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from ..core.errors import PenstockError, StoreUnavailableError
from ..engine.processes import LIFELINE, StepExit, die_with_engine
from ..engine.processtree import adopt_orphans
from ..engine.single import StepSession
from ..ports.records import RunState
from ..ports.runlog import Store
from ..wiring.joining import Joining, from_environment, handed_by_kubeflow, joined
from ..wiring.project import Project
from .app import tell
from .exits import Exit

T = TypeVar("T")
ENGINE_STATES = {"succeeded": None, "failed": RunState.FAILED, "cancelled": RunState.CANCELLED}  # as engines end runs
RUN_EXITS = {RunState.SUCCEEDED: Exit.OK, RunState.CANCELLED: Exit.INTERRUPTED}  # of a run that was closed; else 1
AGAIN_S, _AWAY_S = 1.0, 45.0  # between two looks at a run log that is away; for how long
_BACK_S = 15.0  # how long a run log that was there a moment ago is waited for


def add_run(parser: argparse.ArgumentParser) -> None:
    """Flags that name the run."""
    add = parser.add_argument
    add("--manifest", required=True, metavar="URI", help="the graph and its places, as `run` and `deploy` write it")
    add("--run", default=from_environment("RUN"), metavar="ID", help="the whole id of the run")
    add("--engine", default="", metavar="NAME", help="the engine that orders the steps of this run")
    add(
        "--engine-run", default="", metavar="KEY", help="its own name of the run; the first command makes ours under it"
    )
    add("--digest", default="", metavar="HEX", help="refuse a manifest whose graph has another one")
    add("--logical-time", default="", metavar="ISO", help="the time that the run is for")
    add(
        "--executor-input",
        default="",
        metavar="JSON",
        help="Kubeflow: what it hands to a container; the run, its parameters and the answer's file stand there",
    )


def session_of(arguments: argparse.Namespace, told: Callable[[str], None] | None = None) -> StepSession:
    """Join the run. From here on this process ends with the engine that started it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background job has it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    handed = handed_by_kubeflow(arguments.executor_input) if arguments.executor_input else None
    arguments.handed = handed
    asked = Joining(
        manifest=arguments.manifest,
        engine=arguments.engine,
        engine_run=arguments.engine_run or (handed.engine_run if handed is not None else ""),
        run=arguments.run or (handed.run if handed is not None else ""),
        digest=arguments.digest,
        logical_time=arguments.logical_time or (handed.logical_time if handed is not None else ""),
        parameters=from_environment("PARAMETERS"),
        handed=handed,
    )
    patience = _BACK_S if LIFELINE in os.environ or arguments.engine else 0.0
    die_with_engine()
    adopt_orphans()
    return joined(asked, lambda project: _opened(project, patience), told)


def lacks(session: StepSession, arguments: argparse.Namespace, name: str) -> bool:
    """Whether a step or map came into the pipeline after this run had begun: deployed since, it is none of its own."""
    if not session.is_older:
        return False
    known = {node.name for node in session.graph.nodes} | {scope.name for scope in session.graph.scopes}
    if name not in known:
        sys.stderr.write(f"penstock: run {session.record.id} began before there was '{name}': nothing to do\n")
    return name not in known


def for_an_engine(arguments: argparse.Namespace, execute: Callable[[argparse.Namespace], int]) -> int:
    """The usual exit codes mean something else to an engine: whatever keeps a command from beginning is 2."""
    try:
        return execute(arguments)
    except StoreUnavailableError as error:
        tell(error, as_json=arguments.json)
        return int(StepExit.RETRY)  # nothing is wrong with the step: another attempt may reach the store
    except PenstockError as error:
        tell(error, as_json=arguments.json)
        return Exit.USAGE


def patiently(ask: Callable[[], T]) -> T:
    """Ask again while the run log is away: nobody else would. What it does twice does no harm."""
    deadline = monotonic() + _AWAY_S
    while True:
        try:
            return ask()
        except StoreUnavailableError:
            if monotonic() > deadline:
                raise
            sleep(AGAIN_S)


def _opened(project: Project, patience_s: float) -> Store:
    """The run log. An engine that started us has it open: where it cannot be reached, it will be back in a moment."""
    deadline = monotonic() + patience_s
    while True:
        try:
            return project.store
        except StoreUnavailableError:
            if monotonic() >= deadline:
                raise
            sleep(0.1)
