"""What happens to a case, and when: pure, from a seed."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import NamedTuple


class Mode(StrEnum):
    """Where steps run."""

    IN_PROCESS = "in-process"
    WORKERS = "worker processes"
    STEPS = "one process per step"


class Log(StrEnum):
    """Where the run log lies."""

    SQLITE = "SQLite"
    POSTGRES = "PostgreSQL"


class Blow(StrEnum):
    """What is hit."""

    ALL = "kill -9 of everything"
    ENGINE = "kill -9 of the engine alone"
    CHILD = "kill -9 of a worker or step process alone"
    SERVER_FAST = "PostgreSQL restarted"
    SERVER_CRASH = "PostgreSQL killed and restarted"

    @property
    def is_kill(self) -> bool:
        return self in (Blow.ALL, Blow.ENGINE, Blow.CHILD)


class Cell(NamedTuple):
    mode: Mode
    log: Log

    def __str__(self) -> str:
        return f"{self.mode}, {self.log}"


class Strike(NamedTuple):
    """`delay` after `marks` steps have begun in all the lives of the case so far; before the first step, as a share of
    the time that a start takes."""

    blow: Blow
    marks: int
    delay: float

    def __str__(self) -> str:
        when = (
            f"{self.delay:.0%} of the start" if self.marks == 0 else f"begin {self.marks} + {self.delay * 1000:.0f} ms"
        )
        return f"{self.blow} at {when}"


class Plan(NamedTuple):
    """One case."""

    seed: int
    number: int
    cell: Cell
    strikes: tuple[Strike, ...]


CELLS = tuple(Cell(mode, log) for mode in Mode for log in Log)
BEGINS = 11  # of steps, in a calm run
_SLOWEST_S = 0.04


def plan(seed: int, number: int) -> Plan:
    """Case `number` of a campaign: cells take turns, the rest is drawn.

    >>> plan(1, 7) == plan(1, 7), plan(1, 7).cell == plan(2, 7).cell
    (True, True)
    """
    chance = random.Random(f"{seed}/{number}")
    cell = CELLS[number % len(CELLS)]
    blows = [Blow.ALL, Blow.ENGINE]
    if cell.mode is Mode.IN_PROCESS:
        blows.remove(Blow.ENGINE)  # it has nothing beside itself
    else:
        blows.append(Blow.CHILD)
    strikes: list[Strike] = []
    marks = 0
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        marks = chance.randint(marks, BEGINS - 1) if strikes or chance.random() > 0.1 else 0
        delay = chance.random() if marks == 0 else chance.random() ** 2 * _SLOWEST_S
        strikes.append(Strike(chance.choice(blows), marks, delay))
    if cell.log is Log.POSTGRES and chance.random() < 0.5:
        blow = chance.choice((Blow.SERVER_FAST, Blow.SERVER_CRASH))
        strikes.append(Strike(blow, chance.randint(1, BEGINS - 1), chance.random() * _SLOWEST_S))
        strikes.sort(key=lambda strike: strike.marks)
    return Plan(seed, number, cell, tuple(strikes))
