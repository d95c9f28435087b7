"""`penstock gc`: what old runs and unused blobs could be deleted; deletes only with --yes."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from ...core.units import duration, shown_size
from ...ports.records import RunState, RunSummary
from ...ports.runlog import RunQuery
from ...stores.gc import BATCH, DAY_S, apply, grace_s, plan_gc
from ...wiring.project import Project
from ..opening import project_for
from ..render import counted, paint, print_json, shown_instant, shown_state, table

_EVERY = 1_000_000  # runs
_RUNS_AT_ONCE = 200  # deleted in one transaction: a running pipeline that wants to write waits for no more than that


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
A run stays while it is running, is younger than --older-than, or is among the newest of its pipeline. Nothing younger
than a day, or than the oldest run that is still running, is ever deleted, so pipelines may run meanwhile. A result in
the cache goes with the run that made it. Copies under .penstock/cache go when their original does, or when they were
not used for --older-than. Break it off whenever you like: the next one goes on.

examples:
  penstock gc
  penstock gc --older-than 7d --keep-last 3
  penstock gc --older-than 90d --yes
"""
    add = parser.add_argument
    add(
        "--older-than",
        type=_age,
        default=30 * DAY_S,
        metavar="AGE",
        help="such as 30d, 12h (default: 30d; at least 1d)",
    )
    add("--keep-last", type=_count, default=10, metavar="N", help="newest runs of each pipeline to keep (default: 10)")
    add("--yes", action="store_true", help="really delete; without it, only say what would be")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    store = project.store
    runs = store.list_runs(RunQuery(limit=_EVERY))
    now = project.clock.now_us()
    older_than_s = max(arguments.older_than, DAY_S)
    doomed = doomed_runs(runs, now, older_than_s, arguments.keep_last)
    grace = grace_s((run.started_at for run in runs if run.state is RunState.RUNNING), now)
    if arguments.yes:
        _delete_runs(project, doomed)
        doomed_now = []
    else:
        doomed_now = [run.record.id for run in doomed]
    blobs = project.artifacts.blobs
    plan = plan_gc(blobs, store.live_digests(doomed_now), min_age_s=grace, unused_s=older_than_s)
    if arguments.yes:
        plan = apply(plan, blobs, live=store.live_digests, told=_progress(arguments))
    facts: dict[str, Any] = {
        "deleted": bool(arguments.yes),
        "runs": [run.record.id for run in doomed],
        "kept_runs": len(runs) - len(doomed),
        "blobs": len(plan.delete),
        "kept_blobs": plan.kept,
        "bytes": plan.bytes,
        "copies": len(plan.copies),
        "copy_bytes": sum(copy.size_bytes for copy in plan.copies),
    }
    if arguments.json:
        print_json(facts)
    else:
        print(_page(facts, doomed, arguments))
    return 0


def doomed_runs(runs: list[RunSummary], now: int, older_than_s: float, keep_last: int) -> list[RunSummary]:
    """Which runs may go. `runs` are newest first."""
    seen: Counter[str] = Counter()
    doomed = []
    for run in runs:
        seen[run.record.pipeline] += 1
        ended = run.finished_at or run.started_at
        old = (now - ended) / 1_000_000 > older_than_s
        if old and run.state is not RunState.RUNNING and seen[run.record.pipeline] > keep_last:
            doomed.append(run)
    return doomed


def _delete_runs(project: Project, doomed: list[RunSummary]) -> None:
    """A few at a time, oldest first: what is broken off here is gone on with next time."""
    every = [run.record.id for run in reversed(doomed)]
    for start in range(0, len(every), _RUNS_AT_ONCE):
        project.store.delete_runs(every[start : start + _RUNS_AT_ONCE])


def _progress(arguments: argparse.Namespace) -> Callable[[int, int], None]:
    def told(done: int, of: int) -> None:
        if of > BATCH and not arguments.json:
            print(f"{done:,} of {of:,} blobs", file=sys.stderr)

    return told


def _page(facts: dict[str, Any], doomed: list[RunSummary], arguments: argparse.Namespace) -> str:
    lines = []
    shown = doomed[:20]
    if shown:
        lines.append(table([[run.record.id, shown_state(run.state), shown_instant(run.started_at)] for run in shown]))
        if len(doomed) > len(shown):
            lines.append(f"… and {len(doomed) - len(shown)} more")
        lines.append("")
    what = f"{counted(len(doomed), 'run')} and {counted(facts['blobs'], 'blob')} ({shown_size(facts['bytes'])})"
    if facts["copies"]:
        what += f", and {counted(facts['copies'], 'cached file')} ({shown_size(facts['copy_bytes'])})"
    kept = f"{counted(facts['kept_runs'], 'run')} and {counted(facts['kept_blobs'], 'blob')} stay"
    if not doomed and not facts["blobs"] and not facts["copies"]:
        age = f"{max(arguments.older_than, DAY_S) / DAY_S:g} d"
        lines.append(
            f"nothing to delete: {kept} (kept: younger than {age}, or the newest {arguments.keep_last} of a pipeline)"
        )
    elif arguments.yes:
        lines.append(f"deleted {what}; {kept}")
    else:
        lines.append(f"would delete {what}; {kept}")
        lines.append(paint("nothing was deleted: add --yes", "bold"))
    return "\n".join(lines)


def _age(text: str) -> float:
    try:
        return duration(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age, such as 30d or 12h") from error


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)
