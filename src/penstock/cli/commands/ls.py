"""`penstock ls`: runs, newest first."""

from __future__ import annotations

import argparse

from ...core.errors import UsageError, did_you_mean
from ...ports.records import RunState, RunSummary
from ...ports.runlog import RunQuery
from ..opening import project_for, tag
from ..records import counts_shown, run_facts
from ..render import print_json, shown_instant, shown_seconds, shown_state, table


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
examples:
  penstock ls
  penstock ls --pipeline churn --state failed --limit 5
  penstock ls --tag team=growth --json
"""
    add = parser.add_argument
    add("--pipeline", metavar="NAME", help="runs of this pipeline only")
    add("--state", metavar="STATE", help="running, succeeded, failed, cancelled or interrupted")
    add("--tag", action="append", default=[], metavar="KEY=VALUE", help="runs with this tag; may be repeated")
    add("--limit", type=int, default=20, metavar="N", help="at most so many (default: 20)")


def execute(arguments: argparse.Namespace) -> int:
    query = RunQuery(
        pipeline=arguments.pipeline,
        state=_state(arguments.state),
        tags=dict(tag(text) for text in arguments.tag),
        limit=max(1, arguments.limit),
    )
    runs = project_for(arguments).store.list_runs(query)
    if arguments.json:
        print_json([run_facts(run) for run in runs])
    elif runs:
        head = ["run", "state", "started", "took", "steps", "by", "on", "tags"]
        rows = [_row(run) for run in runs]
        if all(run.record.backend == "local" for run in runs):
            head.remove("on")
            rows = [[*row[:-2], row[-1]] for row in rows]
        print(table(rows, head))
    else:
        print("no run fits")
    return 0


def _row(run: RunSummary) -> list[str]:
    record = run.record
    took = shown_seconds((run.finished_at - run.started_at) / 1e6) if run.finished_at is not None else ""
    counts = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts_shown(run).items() if number)
    tags = " ".join(f"{name}={value}" for name, value in record.tags.items())
    shown = f"{record.id} ({record.name})" if record.name else record.id
    state, started = shown_state(run.state), shown_instant(run.started_at)
    return [shown, state, started, took, counts, record.user, record.backend, tags]


def _state(text: str | None) -> RunState | None:
    if text is None:
        return None
    known = [state.value for state in RunState]
    if text not in known:
        raise UsageError(f"--state: there is no state '{text}'", hint=did_you_mean(text, known))
    return RunState(text)
