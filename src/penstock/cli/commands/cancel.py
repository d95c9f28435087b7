"""`penstock cancel RUN`: ask a run to stop."""

from __future__ import annotations

import argparse
import getpass

from ...ports.events import RunCancelRequested
from ...ports.records import RunRecord, RunState
from ...wiring.project import Project
from ...wiring.runner import find_run
from ...wiring.submitting import request_cancel
from ..exits import Exit
from ..opening import project_for
from ..render import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
examples:
  penstock cancel last
  penstock cancel 7f3a --json
"""
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help="default: the last run")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    found = find_run(project, arguments.run)
    run_id = found.record.id
    asked = found.state is RunState.RUNNING
    more = ""
    if asked:
        more = ask_to_stop(project, found.record)
    told = {
        RunState.RUNNING: f"run {run_id} is asked to stop: its running steps are interrupted within a second or two, "
        f"what is finished stays finished; penstock resume {run_id} goes on from there{more}",
        RunState.INTERRUPTED: f"run {run_id} is not running: its process on {found.record.host} is gone, so it is "
        f"interrupted and there is nothing to stop; penstock resume {run_id} finishes it",
    }.get(found.state, f"run {run_id} is over already: it {_ended(found.state)}")
    if arguments.json:
        print_json({"run": run_id, "asked": asked, "state": found.state.value, "told": told})
    else:
        print(told)
    return Exit.OK if asked else Exit.FAILED


def ask_to_stop(project: Project, record: RunRecord) -> str:
    """Record that the run is to stop; an engine is told, too. Returns what is to be said of that."""
    if record.backend != "local":
        return request_cancel(project, record, getpass.getuser(), project.settings)
    event = RunCancelRequested(at=project.clock.now_us(), by=getpass.getuser())
    project.store.append(record.id, record.epoch, [event])
    return ""


def _ended(state: RunState) -> str:
    return "was cancelled" if state is RunState.CANCELLED else state.value
