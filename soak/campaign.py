"""All cases of a campaign, one after the other, on one PostgreSQL server."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import monotonic

import psycopg

from penstock.engine.processtree import adopt_orphans
from tests.conformance.postgres import Server, binaries

from .case import Broken, Case, measured_start
from .strikes import CELLS, Blow, Cell, Log, Plan
from .verdict import Outcome, nobody_left, outcome, same


class Tally:
    """What a cell came to."""

    def __init__(self) -> None:
        self.cases = 0
        self.lives = 0
        self.missed = 0  # strikes that came after the end
        self.waited = 0
        self.blows: Counter[Blow] = Counter()
        self.seconds: list[float] = []
        self.broken: list[str] = []

    @property
    def kills(self) -> int:
        return sum(count for blow, count in self.blows.items() if blow.is_kill)

    @property
    def restarts(self) -> int:
        return sum(count for blow, count in self.blows.items() if not blow.is_kill)

    @property
    def median_s(self) -> float:
        return median(self.seconds) if self.seconds else 0.0


class Campaign:
    """Owns the server, the calm run that everything is held against, and the counts."""

    def __init__(self, folder: Path, seed: int) -> None:
        found = binaries()
        if found is None:
            raise SystemExit("soak needs PostgreSQL's server: install the package 'postgresql' (initdb and postgres)")
        adopt_orphans()
        self.folder = folder
        self.seed = seed
        self.tallies = {cell: Tally() for cell in CELLS}
        self._server = Server(found)
        self._server.start()
        self.postgres = self._version()
        self._calm: Outcome | None = None
        self._start_s: dict[Cell, float] = {}

    def close(self) -> None:
        self._server.remove()

    def calm(self, cells: tuple[Cell, ...] = CELLS) -> Iterator[str]:
        """One calm run in each cell: they agree, and say how long a start takes."""
        for cell in cells:
            case = self._case(Plan(self.seed, -1 - CELLS.index(cell), cell, ()))
            self._start_s[cell] = measured_start(case)
            found = outcome(case)
            if self._calm is None:
                self._calm = found
            same(found, self._calm)
            self._clear(case)
            yield f"calm: {cell}, {len(found.made)} step runs, a start takes {self._start_s[cell]:.2f} s"

    def play(self, plan: Plan) -> str:
        """One case; says what came of it."""
        tally = self.tallies[plan.cell]
        begun = monotonic()
        case = self._case(plan)
        wrong = ""
        assert self._calm is not None
        try:
            case.play(self._start_s[plan.cell])
            same(outcome(case), self._calm)
        except Broken as error:
            wrong = str(error)
        try:
            nobody_left(self._pid)
        except Broken as error:
            wrong = wrong or str(error)
        tally.cases += 1
        tally.lives += case.lives
        tally.missed += len(plan.strikes) - len(case.landed)
        tally.waited += case.waited
        tally.blows.update(strike.blow for strike in case.landed)
        tally.seconds.append(monotonic() - begun)
        struck = "; ".join(map(str, case.landed)) or "nothing hit it"
        line = f"{plan.number:4} {plan.cell}: {struck}: {case.lives} lives, {tally.seconds[-1]:.1f} s"
        if not wrong:
            self._clear(case)
            return line
        tally.broken.append(f"case {plan.number}: {wrong}")
        return f"{line}\n     BROKEN: {wrong}\n     kept in {case.folder}; again: {replay(plan)}"

    @property
    def kills(self) -> int:
        return sum(tally.kills for tally in self.tallies.values())

    @property
    def broken(self) -> list[str]:
        return [each for tally in self.tallies.values() for each in tally.broken]

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _pid(self) -> int | None:
        return self._server.process.pid if self._server.process is not None else None

    def _case(self, plan: Plan) -> Case:
        url = ""
        if plan.cell.log is Log.POSTGRES:
            name = _database(plan)
            self._administer(f"CREATE DATABASE {name} STRATEGY file_copy")
            url = self._server.url.rpartition("/")[0] + f"/{name}"
        return Case(plan, self.folder / f"case-{plan.number}", url, self._restart)

    def _clear(self, case: Case) -> None:
        shutil.rmtree(case.folder)
        if case.plan.cell.log is Log.POSTGRES:
            self._administer(f"DROP DATABASE {_database(case.plan)} WITH (FORCE)")

    def _restart(self, blow: Blow) -> None:
        self._server.stop(signal.SIGINT if blow is Blow.SERVER_FAST else signal.SIGQUIT)
        self._server.start()

    def _version(self) -> str:
        with psycopg.connect(self._server.url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        return str(row[0]).split()[0] if row else "?"

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(statement)


def replay(plan: Plan) -> str:
    """The command that plays this case again."""
    return f"python -m soak --seed {plan.seed} --case {plan.number}"


def _database(plan: Plan) -> str:
    return f"case_{plan.number}" if plan.number >= 0 else f"calm_{-plan.number}"
