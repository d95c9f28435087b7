"""`penstock exec-step`: one instance of one step in this process, for an engine that orders steps itself."""

from __future__ import annotations

import argparse
import os
import sys
from time import monotonic, sleep

from ...core.errors import NotFoundError, PenstockError, StoreUnavailableError
from ...engine.processes import LIFELINE
from ...engine.single import StepExit, check_instance, execute_step
from ...ports.runlog import Store
from ...wiring.manifest import read_manifest
from ...wiring.project import Project
from ...wiring.worker import MODULE
from ..app import tell
from ..exits import Exit
from ..progress import readable
from ..render import print_json
from ..watching import own_stdout

COMMON = ("json",)
_BACK_S = 15.0  # how long a run log that was there a moment ago is waited for


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
exit codes, for engines:
  0 done (succeeded, cached or skipped)   1 failed for good   3 something it needs failed
  4 something it needs is not done yet    5 not ours: a newer attempt or owner has it, or the run is over
  75 failed, and the retry policy would like another attempt; 2 it could not begin (no manifest, no store, no such step)

examples:
  penstock exec-step --manifest .penstock/manifests/churn-2026-11-23-7f3a.json --run churn-2026-11-23-7f3a --step fit
  penstock exec-step --manifest m.json --run churn-2026-11-23-7f3a --step fit --index 2 --engine-attempt 1 --json
"""
    add = parser.add_argument
    add("--manifest", required=True, metavar="URI", help="the graph and its places, as `run` writes it")
    add("--run", required=True, metavar="ID", help="the whole id of the run")
    add("--step", required=True, metavar="NAME")
    add("--index", default="", metavar="PATH", help='the element of a map, such as "2" or "2.0"')
    add("--engine-attempt", type=int, metavar="N", help="the engine's own count, kept with the attempt")


def execute(arguments: argparse.Namespace) -> int:
    try:
        return _execute(arguments)
    except PenstockError as error:  # the usual exit codes mean something else to an engine
        tell(error, as_json=arguments.json)
        return Exit.USAGE


def _opened(project: Project) -> Store:
    """The run log. An engine that started us has it open: where it cannot be reached, it will be back in a moment."""
    deadline = monotonic() + (_BACK_S if LIFELINE in os.environ else 0.0)
    while True:
        try:
            return project.store
        except StoreUnavailableError:
            if monotonic() >= deadline:
                raise
            sleep(0.1)


def _execute(arguments: argparse.Namespace) -> int:
    manifest = read_manifest(arguments.manifest)
    graph = manifest.graph
    check_instance(graph, arguments.step, arguments.index)
    project = Project(manifest.settings)
    found = _opened(project).find_run(arguments.run)
    if found is None:
        raise NotFoundError(f"there is no run '{arguments.run}' in {manifest.settings.runs_url}")

    def go() -> tuple[StepExit, object]:
        return execute_step(
            graph,
            found.record,
            project.store,
            project.services(graph),
            step=arguments.step,
            index=arguments.index,
            engine_attempt=arguments.engine_attempt,
            worker_module=MODULE,
        )

    if not arguments.json:
        return int(go()[0])
    with own_stdout():
        code, event = go()
    print_json({"exit": code.name.lower(), "code": int(code), "event": readable(event)})
    sys.stdout.flush()
    return int(code)
