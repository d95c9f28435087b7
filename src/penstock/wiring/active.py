"""How many runs of a pipeline are active: a run that would be one too many is refused, or waits for one to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import UsageError
from ..engine.listener import Listener
from ..engine.sharing import SharedPlaces, pause_after
from ..graph import Graph
from ..ports.records import RunState, RunSummary
from ..ports.runlog import RunQuery
from .project import Project

_LISTED = 200


@contextmanager
def active(project: Project, graph: Graph, listener: Listener | None, *, wait: bool) -> Iterator[None]:
    """While inside, this process has one of the places that the pipeline's `max_active_runs` gives.

    A place is a lease, so that of two who start at once only one gets it, and that of a killed run is free at once.
    Runs on an engine count too; the engine itself counts only its own.
    """
    most, pipeline = graph.max_active_runs, graph.pipeline
    if most is None:
        yield
        return
    sizes = {pipeline: most}
    places = SharedPlaces(project.store, pipeline, "active", sizes)
    since, told = project.clock.monotonic(), list[str]()
    try:
        while True:
            running = _running(project, pipeline)
            sizes[pipeline] = most - sum(run.record.backend != "local" for run in running)
            if places.take(pipeline, in_line=wait) is not None:
                break
            if not wait:
                raise _too_many(pipeline, most, running)
            names = [run.record.id for run in running]
            if listener is not None and names != told:
                listener.queued(pipeline, names)
                told = names
            threading.Event().wait(project.clock.pause(pause_after(project.clock.monotonic() - since)))
        yield
    finally:
        places.close()


def _running(project: Project, pipeline: str) -> list[RunSummary]:
    return project.store.list_runs(RunQuery(pipeline=pipeline, state=RunState.RUNNING, limit=_LISTED))


def _too_many(pipeline: str, most: int, running: list[RunSummary]) -> UsageError:
    named = ", ".join(run.record.id for run in running) or "another one, which is just about to begin"
    hint = "--wait waits for one of them to end"
    if running:
        oldest = running[-1].record
        on_engine = oldest.backend != "local"
        hint += (
            f"; penstock show {oldest.id} asks {oldest.backend} whether it goes on"
            if on_engine
            else f"; penstock cancel {oldest.id} stops one"
        )
    return UsageError(f"{pipeline} may have {most} active run{'s' if most > 1 else ''} and has: {named}", hint=hint)
