"""What may happen to a run, drawn from a seed: at which of its writes, and in which of its lives."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import TypeVar

import msgspec

from ..core.errors import StoreUnavailableError
from .faults import Death, Fuse

T = TypeVar("T")


class Kind(StrEnum):
    DIES_BEFORE = "the process dies before the write"
    DIES_MIDWAY = "the process dies in the middle of the write"
    DIES_AFTER = "the process dies after the write"
    UNAVAILABLE = "the stores cannot be reached"
    CANCELLED = "somebody asks the run to stop"
    TAKEN_OVER = "the process hangs for longer than its lease, and another one takes the run over"
    OTHER_RUN = "the process hangs while another run of the pipeline starts and ends"
    CLOCK_BACK = "the clock steps back"
    CLOCK_ON = "the clock steps on"


_DEATHS = {Kind.DIES_BEFORE: Death.BEFORE, Kind.DIES_MIDWAY: Death.MIDWAY, Kind.DIES_AFTER: Death.AFTER}
_LIKELY = (*_DEATHS, *_DEATHS, *Kind)  # a death is the likeliest of them


class Mishap(msgspec.Struct, frozen=True):
    """At the n-th write of a life; `amount` is a number of writes, or of seconds, or which write ends the new owner."""

    at: int
    kind: Kind
    amount: int = 0

    def __str__(self) -> str:
        match self.kind:
            case Kind.UNAVAILABLE:
                return f"write {self.at}: {self.kind} for {self.amount} writes"
            case Kind.CLOCK_BACK | Kind.CLOCK_ON:
                return f"write {self.at}: {self.kind} by {self.amount} s"
            case Kind.TAKEN_OVER if self.amount:
                return f"write {self.at}: {self.kind}, and dies after write {self.amount}"
        return f"write {self.at}: {self.kind}"


class Story(msgspec.Struct, frozen=True):
    """One tuple of mishaps for each process that comes to no good end, and how often a step fails meanwhile."""

    lives: tuple[tuple[Mishap, ...], ...]
    failing: float  # the chance that an attempt fails before its function runs

    @classmethod
    def drawn(cls, chance: Random, writes: int) -> Story:
        """`writes`: about how many there are in a calm run."""
        lives = tuple(_life(chance, writes) for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4))))
        return cls(lives, chance.choice((0.0, 0.0, 0.05, 0.2)) if lives else 0.0)

    def shorter(self) -> list[Story]:
        """Every story that lacks one thing of this one."""
        replace = msgspec.structs.replace
        found = [replace(self, failing=0.0)] if self.failing else []
        for at, life in enumerate(self.lives):
            without = [life[:n] + life[n + 1 :] for n in range(len(life))] if len(life) > 1 else []
            found.append(replace(self, lives=self.lives[:at] + self.lives[at + 1 :]))
            found += [replace(self, lives=(*self.lives[:at], left, *self.lives[at + 1 :])) for left in without]
        return found

    def __str__(self) -> str:
        lines = [f"  process {n}, {mishap}" for n, life in enumerate(self.lives, 1) for mishap in life]
        if self.failing:
            lines.append(f"  in these processes, {self.failing:.0%} of all attempts fail")
        return "\n".join(lines) or "  nothing at all"


def _life(chance: Random, writes: int) -> tuple[Mishap, ...]:
    found = []
    for at in sorted(chance.randint(1, max(writes, 1)) for _ in range(chance.choice((1, 1, 1, 2, 3)))):
        kind = chance.choice(_LIKELY)
        match kind:
            case Kind.UNAVAILABLE:
                amount = chance.randint(1, 6)
            case Kind.TAKEN_OVER:
                amount = chance.choice((0, chance.randint(2, max(writes, 2))))
            case _:
                amount = chance.choice((1, 40, 4000))
        found.append(Mishap(at, kind, amount))
    return tuple(found)


class Weather(Fuse):
    """A fuse that lets the mishaps of one life happen. `befall` does what concerns more than this one write."""

    def __init__(self, mishaps: tuple[Mishap, ...], befall: Callable[[Mishap, str], None]) -> None:
        super().__init__(beats=False)
        self._mishaps = mishaps
        self._befall = befall
        self._closed_until = 0

    def write(self, what: str, action: Callable[[], T], half: Callable[[], None] | None = None) -> T:
        self.check()
        self.writes.append(what)
        number = len(self.writes)
        for mishap in self._mishaps:
            if mishap.at != number:
                continue
            if mishap.kind is Kind.UNAVAILABLE:
                self._closed_until = number + mishap.amount - 1
            elif mishap.kind not in _DEATHS:
                self._befall(mishap, what)
        if number <= self._closed_until:
            raise StoreUnavailableError("the stores cannot be reached just now", hint="wait, and resume the run")
        death = next((_DEATHS[each.kind] for each in self._mishaps if each.at == number and each.kind in _DEATHS), None)
        if death is None:
            return action()
        self.at, self.death = number, death
        return self.dying(death, action, half)
