"""Whose turn it is: instances of steps that bound how many of them run at once, or that need a place of a pool.

They are decided like all others and stand here, one line per step, until they may begin; steps without such bounds
never come here. A place is taken for an instance that can begin soon, and is given back when its attempt is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from ..core.clock import Clock
from ..graph import Node
from ..ports.runlog import Instance
from .sharing import TOLD_S, SharedPlaces, pause_after

T = TypeVar("T")
LONG = 512  # a line past which no more elements of its map are opened


class _Look:
    """When the places of a pool are looked at again, and which steps wait for that."""

    def __init__(self) -> None:
        self.due = 0.0
        self.since: float | None = None  # nobody got a place
        self.steps: dict[str, None] = {}


class Turns(Generic[T]):
    """Lines of one run. `T` is what stands in them. `told` hears of a step that waits for another run's place:
    step, index, the run, the pool."""

    def __init__(
        self,
        nodes: Sequence[Node],
        places: SharedPlaces,
        run_id: str,
        clock: Clock,
        told: Callable[[str, str, str, str], None],
    ) -> None:
        bound = {node.name: node for node in nodes if _is_bound(node)}
        self.steps = frozenset(bound)
        self._most = {name: node.options.max_parallel for name, node in bound.items()}
        self._pool = {name: node.options.pool for name, node in bound.items()}
        self._scope = {name: node.scope for name, node in bound.items()}
        self._places = places
        self._run_id = run_id
        self._clock = clock
        self._told = told
        self._has_told: set[str] = set()
        self._lines: dict[str, deque[tuple[Instance, T]]] = {name: deque() for name in bound}
        self._inside: dict[str, set[Instance]] = {name: set() for name in bound}
        self.placed: dict[Instance, str] = {}  # who has which place
        self._awake: dict[str, None] = {}  # steps whose line may move
        self._looks: dict[str, _Look] = {}  # of pools whose places were all taken

    def stand(self, instance: Instance, what: T) -> None:
        """At the end of its step's line."""
        self._lines[instance[0]].append((instance, what))
        self._awake[instance[0]] = None

    def is_inside(self, instance: Instance) -> bool:
        """Whether it may run, or runs."""
        return instance in self._inside[instance[0]]

    def most(self, step: str) -> int | None:
        return self._most[step]

    def admitted(self, has_room: Callable[[str], bool]) -> Iterator[T]:
        """Those whose turn it is. `has_room`: whether an attempt of a step could begin soon."""
        now = self._clock.monotonic()
        for look in self._looks.values():
            if look.steps and look.due <= now:
                self._awake |= look.steps
                look.steps.clear()
        for step in [*self._awake]:
            yield from self._moved(step, has_room)

    def left(self, instance: Instance) -> None:
        """Its attempt is over, or it has to be decided anew."""
        step = instance[0]
        if step not in self.steps or instance not in self._inside[step]:
            return
        self._inside[step].discard(instance)
        if self._lines[step]:
            self._awake[step] = None
        place, pool = self.placed.pop(instance, None), self._pool[step]
        if place is not None and pool is not None:
            self._places.give_back(place)
            if (look := self._looks.get(pool)) is not None:
                self._awake |= look.steps
                look.steps.clear()

    @property
    def waiting(self) -> list[Instance]:
        """Everybody in line."""
        return [instance for line in self._lines.values() for instance, _ in line]

    @property
    def is_empty(self) -> bool:
        return not any(self._lines.values())

    def long_scopes(self, *steps: str) -> set[str]:
        """Scopes of which no more elements should come: a step in them, of these or of any, has too long a line."""
        scopes = (self._scope[step] for step in steps or self._lines if len(self._lines[step]) >= LONG)
        return {scope for scope in scopes if scope is not None}

    def may_move(self, has_room: Callable[[str], bool]) -> bool:
        return any(has_room(step) for step in self._awake)

    def looks_again(self) -> float | None:
        """When, by the clock's monotonic seconds, places are to be looked at again."""
        return min((look.due for look in self._looks.values() if look.steps), default=None) if self._looks else None

    def close(self) -> None:
        self._places.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _moved(self, step: str, has_room: Callable[[str], bool]) -> Iterator[T]:
        line, inside = self._lines[step], self._inside[step]
        most, pool = self._most[step], self._pool[step]
        while line and (most is None or len(inside) < most):
            if pool is not None:
                if not has_room(step):
                    return  # still awake: asked again when somebody has ended
                place = self._taken(pool, line[0][0])
                if place is None:
                    break
                self.placed[line[0][0]] = place
            instance, what = line.popleft()
            inside.add(instance)
            yield what
        self._awake.pop(step, None)

    def _taken(self, pool: str, instance: Instance) -> str | None:
        look = self._looks.setdefault(pool, _Look())
        now = self._clock.monotonic()
        if look.steps and look.due > now:  # another step of ours found none just now
            look.steps[instance[0]] = None
            return None
        place = self._places.take(pool)
        if place is not None:
            look.since = None
            return place
        look.since = now if look.since is None else look.since
        if now - look.since >= TOLD_S and instance[0] not in self._has_told:
            others = [run for run in self._places.holders(pool) if run != self._run_id]
            if others:
                self._has_told.add(instance[0])
                self._told(*instance, others[0], pool)
        look.due = now + pause_after(now - look.since)
        look.steps[instance[0]] = None
        return None


def _is_bound(node: Node) -> bool:
    """Whether its instances have to wait for their turn."""
    return node.options.max_parallel is not None or node.options.pool is not None
