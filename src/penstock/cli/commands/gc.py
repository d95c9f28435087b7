"""`penstock gc`: what old runs and unused blobs could be deleted; deletes only with --yes."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from ...core.units import duration, shown_size
from ...ports.artifacts import ArtifactRef
from ...ports.records import RunState, RunSummary
from ...ports.runlog import RunQuery, Store
from ...stores.gc import DAY_S, GcPlan, apply, plan_gc
from ...wiring.project import Project
from ..opening import project_for
from ..render import counted, paint, print_json, shown_instant, shown_state, table

_EVERY = 1_000_000  # runs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
A run stays while it is running, is younger than --older-than, or is among the newest of its pipeline. Nothing younger
than a day is ever deleted. A result in the cache goes with the run that made it.

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
    doomed = doomed_runs(runs, now, max(arguments.older_than, DAY_S), arguments.keep_last)
    blobs = project.artifacts.blobs
    plan = plan_gc(blobs, _live_without(store, runs, doomed))
    facts: dict[str, Any] = {
        "deleted": bool(arguments.yes),
        "runs": [run.record.id for run in doomed],
        "kept_runs": len(runs) - len(doomed),
        "blobs": len(plan.delete),
        "kept_blobs": plan.kept,
        "bytes": plan.bytes,
    }
    if arguments.yes:
        done = _delete(project, doomed)
        facts |= {"blobs": len(done.delete), "kept_blobs": done.kept, "bytes": done.bytes}
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


def _live_without(store: Store, runs: list[RunSummary], doomed: list[RunSummary]) -> set[str]:
    """Digests that are still needed when these runs are gone."""
    live = store.live_digests()
    if not doomed:
        return live
    gone = {run.record.id for run in doomed}
    going = _digests(store, [run.record.id for run in doomed])
    staying = _digests(store, [run.record.id for run in runs if run.record.id not in gone])
    return live - (going - staying)


def _digests(store: Store, run_ids: list[str]) -> set[str]:
    found: set[str] = set()
    for run_id in run_ids:
        for run in store.step_runs(run_id):
            for ref in run.outputs.values():
                found |= _of(ref)
    return found


def _of(ref: ArtifactRef) -> set[str]:
    return {ref.digest, *(blob.digest for blob in ref.blobs)}


def _delete(project: Project, doomed: list[RunSummary]) -> GcPlan:
    store, blobs = project.store, project.artifacts.blobs
    store.delete_runs([run.record.id for run in doomed])
    return apply(plan_gc(blobs, store.live_digests()), blobs, live=store.live_digests)


def _page(facts: dict[str, Any], doomed: list[RunSummary], arguments: argparse.Namespace) -> str:
    lines = []
    shown = doomed[:20]
    if shown:
        lines.append(table([[run.record.id, shown_state(run.state), shown_instant(run.started_at)] for run in shown]))
        if len(doomed) > len(shown):
            lines.append(f"… and {len(doomed) - len(shown)} more")
        lines.append("")
    what = f"{counted(len(doomed), 'run')} and {counted(facts['blobs'], 'blob')} ({shown_size(facts['bytes'])})"
    kept = f"{counted(facts['kept_runs'], 'run')} and {counted(facts['kept_blobs'], 'blob')} stay"
    if not doomed and not facts["blobs"]:
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
