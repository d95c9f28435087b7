"""What no engine may do, read from a run's events: begin a step before what it waits for, or an attempt too soon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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


def broken_laws(graph: Graph, events: Sequence[Event], pools: Mapping[str, int] = {}) -> Iterator[str]:
    """Every law that these events break, in words. `pools`: how many places each has."""
    needs = graph.needs()
    crowd = _Crowd(graph, pools)
    open_after = _Open({node.name: graph.scopes_of(node.scope) for node in graph.nodes})
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
                    yield from crowd.enter(key)
                    open_after.begin(key)
                else:
                    open_after.end(key)
            case AttemptFailed(step=step, index=index, retry_at=retry_at) if retry_at is not None:
                crowd.leave((step, index))
                due[step, index] = retry_at
            case AttemptFailed() | StepSucceeded() | StepSkipped() | StepBlocked() | StepCancelled():
                crowd.leave((event.step, event.index))
                open_after.end((event.step, event.index))
            case StepReopened():
                open_after.begin((event.step, event.index))
            case RunResumed():
                crowd.running.clear()
                due.clear()
                finished = False
            case RunFinished():
                finished = True
    if not finished:
        yield "the run was never closed"


class _Crowd:
    """Which attempts run at the same time, and whether these are more than a step or a pool allows."""

    def __init__(self, graph: Graph, pools: Mapping[str, int]) -> None:
        self.running: set[Key] = set()
        self._most = {node.name: node.options.max_parallel for node in graph.nodes}
        self._pool = {node.name: node.options.pool for node in graph.nodes}
        self._places = pools

    def enter(self, key: Key) -> Iterator[str]:
        self.running.add(key)
        beside = sum(name == key[0] for name, _ in self.running)
        if (limit := self._most[key[0]]) is not None and beside > limit:
            yield f"{_told(key)} began as number {beside} at the same time, of {limit} at most"
        pool = self._pool[key[0]]
        inside = sum(self._pool[name] == pool for name, _ in self.running)
        if pool is not None and inside > self._places.get(pool, inside):
            yield f"{_told(key)} began as number {inside} in pool '{pool}', which has {self._places[pool]}"

    def leave(self, key: Key) -> None:
        self.running.discard(key)


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
