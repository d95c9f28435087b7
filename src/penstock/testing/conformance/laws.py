"""What no engine may do, read from a run's events: begin a step before what it waits for, or an attempt too soon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...graph import Graph
from ...ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunFinished,
    RunResumed,
    StepBlocked,
    StepCached,
    StepCancelled,
    StepReopened,
    StepSkipped,
    StepSucceeded,
)

Key = tuple[str, str]  # step, index


def broken_laws(graph: Graph, events: Sequence[Event]) -> Iterator[str]:
    """Every law that these events break, in words."""
    needs = graph.needs()
    scopes = {node.name: graph.scopes_of(node.scope) for node in graph.nodes}
    most = {node.name: node.options.max_parallel for node in graph.nodes}
    running: dict[str, set[str]] = {}
    open_after = _Open(scopes)
    due: dict[Key, int] = {}
    finished = False
    for event in events:
        match event:
            case AttemptStarted() | StepCached():
                key = (event.step, event.index)
                for name in sorted(needs[event.step]):
                    for index in open_after.seen_from(name, *key):
                        yield f"{_told(key)} began before {_told((name, index))}, which it waits for, was done"
                if isinstance(event, AttemptStarted):
                    if event.at < due.pop(key, 0):
                        yield f"{_told(key)} began attempt {event.attempt} sooner than its policy says"
                    open_after.begin(key)
                    beside = running.setdefault(event.step, set())
                    beside.add(event.index)
                    if (limit := most[event.step]) is not None and len(beside) > limit:
                        yield f"{_told(key)} began as number {len(beside)} at the same time, of {limit} at most"
                else:
                    open_after.end(key)
            case AttemptFailed(step=step, index=index, retry_at=retry_at) if retry_at is not None:
                running.get(step, set()).discard(index)
                due[step, index] = retry_at
            case AttemptFailed() | StepSucceeded() | StepSkipped() | StepBlocked() | StepCancelled():
                running.get(event.step, set()).discard(event.index)
                open_after.end((event.step, event.index))
            case StepReopened():
                open_after.begin((event.step, event.index))
            case RunResumed():
                running.clear()
                due.clear()
                finished = False
            case RunFinished():
                finished = True
    if not finished:
        yield "the run was never closed"


class _Open:
    """Which instances have begun and are not done."""

    def __init__(self, scopes: dict[str, tuple[str, ...]]) -> None:
        self._scopes = scopes
        self._open: dict[str, set[str]] = {}
        self._seen: set[str] = set()  # steps of which something has ended

    def begin(self, key: Key) -> None:
        self._open.setdefault(key[0], set()).add(key[1])

    def end(self, key: Key) -> None:
        self._seen.add(key[0])
        self._open.get(key[0], set()).discard(key[1])

    def seen_from(self, name: str, step: str, index: str) -> list[str]:
        """Open instances of `name` that an instance elsewhere would have to wait for."""
        mine, theirs = self._scopes[step], self._scopes[name]
        shared = 0
        while shared < min(len(mine), len(theirs)) and mine[shared] == theirs[shared]:
            shared += 1
        prefix = index.split(".")[:shared] if shared else []
        found = [each for each in self._open.get(name, ()) if each.split(".")[:shared] == prefix or not shared]
        if not theirs and name not in self._seen and not found:
            return [""]  # it is in no map, so it has one instance, and that has not even begun
        return sorted(found)


def _told(key: Key) -> str:
    return f"{key[0]}[{key[1]}]" if key[1] else key[0]
