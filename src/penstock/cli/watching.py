"""Watch a run from the terminal: choose who tells it, run it, sum it up, say how it ended."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, TextIO

from ..ports.records import RunState
from ..wiring.runs import Run
from ..wiring.submitting import EngineRunner, Submitted
from .again import again
from .exits import Exit
from .progress import JsonStream, PlainProgress, Quiet, Tally
from .render import print_json
from .summary import Summary, summary

_ENDS = {
    RunState.SUCCEEDED: Exit.OK,
    RunState.FAILED: Exit.FAILED,
    RunState.CANCELLED: Exit.INTERRUPTED,
    RunState.INTERRUPTED: Exit.FAILED,
    RunState.RUNNING: Exit.FAILED,
}


def watched(arguments: argparse.Namespace, go: Callable[[dict[str, Any]], Run]) -> int:
    """Call `go` with a listener, then tell how it went. `go` gets {"listener": …, "echo": …}."""
    began = monotonic()
    with _listener(arguments) as listener:
        told: Summary | None = None
        try:
            run = go({"listener": listener, "echo": not arguments.json})
            told = summary(
                run.id,
                run.graph,
                run.state,
                run.instances,
                seconds=monotonic() - began,
                saved_seconds=listener.saved_seconds,
                kept=run.kept,
                before=listener.before,
                changed=run.changed,
            )
        finally:
            listener.finish(told)
    if told.refused and arguments.fail_on_gate and run.state is RunState.SUCCEEDED:
        return Exit.GATE
    return _ENDS[run.state]


def handed_over(arguments: argparse.Namespace, engines: EngineRunner, go: Callable[[], Submitted]) -> int:
    """Hand a run to an engine, then watch it in the run log. Ctrl-C ends the watching, not the run."""
    submitted = go()
    run_id, url = submitted.record.id, submitted.engine_run.url
    if not arguments.quiet and not arguments.json:
        where = f" ({url})" if url else ""
        sys.stderr.write(f"{submitted.deployed}\nrun {run_id} is with {submitted.plan.name} there{where}\n")
    if arguments.detach:
        if arguments.json:
            print_json({"run": run_id, "engine_run": submitted.engine_run.id, "url": url or None})
        else:
            sys.stdout.write(f"{run_id}\n")
        return Exit.OK
    try:
        return watched(arguments, lambda how: engines.follow(submitted, how["listener"]))
    except KeyboardInterrupt:
        told = again(f"run {run_id} goes on: penstock show {run_id}; to stop it: penstock cancel {run_id}")
        sys.stderr.write(f"{told}\n")
        return Exit.INTERRUPTED


@contextmanager
def _listener(arguments: argparse.Namespace) -> Iterator[Tally]:
    if arguments.json:
        with own_stdout() as stream:
            yield JsonStream(stream)
    elif arguments.quiet:
        yield Quiet()
    elif _is_terminal(sys.stderr) and not arguments.one_process_per_step:  # whose processes print where they like
        from .live import LiveProgress  # a thread and what it needs: only for somebody who looks

        yield LiveProgress()
    else:
        yield PlainProgress()


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Stdout for us alone: whatever else writes to descriptor 1, in this process or a child, is dropped meanwhile."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
