"""One case: start it, strike it, resume it until it is done. Real processes, as a user has them."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from penstock.engine.processtree import descendants, send
from penstock.ports.records import RunState
from penstock.wiring.config import load_settings
from penstock.wiring.project import Project

from .strikes import BEGINS, Blow, Mode, Plan, Strike

FLOW = Path(__file__).parent / "flow.py"
_LIVES = 20
_LIFE_S = 300.0  # a machine may be busy with other things
_LEASE_S = 45.0  # longer than the lease of a run whose process died before it took the run's lock
_REFUSED, _BUG = 2, 70  # exit codes
_BUG_TOLD = "This is a bug in penstock"

Restart = Callable[[Blow], None]


class Broken(Exception):
    """What was seen that must never be."""


class Case:
    """One project folder and its lives."""

    def __init__(self, plan: Plan, folder: Path, runs_url: str, restart: Restart | None) -> None:
        folder.mkdir()
        shutil.copy(FLOW, folder / "flow.py")
        (folder / "penstock.toml").write_text(f'runs = "{runs_url}"\n' if runs_url else "")
        self.plan = plan
        self.folder = folder
        self.lives = 0
        self.waited = False  # for a lease to run out
        self.landed: list[Strike] = []
        self.started_s = 0.0  # how long the first life took until a step began
        self.snapshots: list[dict[tuple[str, str], int]] = []  # after each life: finished steps, and by which attempt
        self._restart = restart
        self._strikes = list(plan.strikes)
        self._begun = monotonic()

    def play(self, start_s: float = 0.0) -> None:
        """To the end. `start_s`: how long a start takes, which strikes before the first step are timed by."""
        limit = monotonic() + _LEASE_S
        while self.lives < _LIVES:
            struck = len(self.landed)
            code, told = self._live(start_s)
            state = self._look()
            if code == _BUG or _BUG_TOLD in told:
                raise Broken(f"penstock calls it a bug of its own (exit code {code}):\n{told}")
            if code == 0:
                if state is not RunState.SUCCEEDED:
                    raise Broken(f"the command ended with 0, but the run is {state}:\n{told}")
                return
            if state is RunState.SUCCEEDED and len(self.landed) > struck:
                return  # it was killed after its last write
            if code == _REFUSED and "still running" in told and monotonic() < limit:
                self.waited = True
                _pause(1.0)
                self.lives -= 1
            elif len(self.landed) == struck:
                raise Broken(f"nothing struck it, and it ended with {code} and the run {state}:\n{told}")
        raise Broken(f"not done after {_LIVES} lives")

    def begins(self) -> list[str]:
        """One line for each time that a step began, in any life."""
        ran = self.folder / "ran"
        return ran.read_text().splitlines() if ran.exists() else []

    def project(self) -> Project:
        return Project(load_settings(str(self.folder)))

    # -- inside --------------------------------------------------------------------------------------------------

    def _look(self) -> RunState | None:
        """The run as another process sees it now; None where there is none yet."""
        project = self.project()
        try:
            known = project.store.match_runs("")
            if not known:
                return None
            if len(known) > 1:
                raise Broken(f"there are {len(known)} runs: {known}")
            finished = {
                (run.step, run.index): run.attempts for run in project.store.step_runs(known[0]) if run.state.has_output
            }
            if self.snapshots and not self.snapshots[-1].items() <= finished.items():
                raise Broken(f"finished steps are not what they were: {self.snapshots[-1]} became {finished}")
            self.snapshots.append(finished)
            found = project.store.find_run(known[0])
            return found.state if found is not None else None
        finally:
            project.store.close()

    def _live(self, start_s: float) -> tuple[int, str]:
        """One process from its start to its end; returns its exit code and what it said."""
        words = ["resume", "last"] if self.snapshots else ["run", "flow.py:flow"]
        mode = self.plan.cell.mode
        words += ["--quiet", "--workers", "1" if mode is Mode.IN_PROCESS else "2"]
        words += ["--one-process-per-step"] if mode is Mode.STEPS else []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment["SOAK_ISOLATION"] = "process" if mode is Mode.WORKERS else "auto"
        said = self.folder / f"life-{self.lives}.txt"
        self.lives += 1
        with open(said, "wb") as output:
            engine = subprocess.Popen(
                [sys.executable, "-P", "-m", "penstock", *words],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
            try:
                self._strike_while_it_runs(engine, start_s)
                code = engine.wait(_LIFE_S)
            except subprocess.TimeoutExpired:
                raise Broken(f"no end after {_LIFE_S:.0f} s; it said:\n{said.read_text()}") from None
            finally:
                if engine.poll() is None:
                    strike_all(engine.pid)
                    engine.wait()
        return code, said.read_text(errors="replace")

    def _strike_while_it_runs(self, engine: subprocess.Popen[bytes], start_s: float) -> None:
        born = monotonic()
        limit = born + _LIFE_S
        while self._strikes and engine.poll() is None and monotonic() < limit:
            strike = self._strikes[0]
            begins = len(self.begins())
            if begins and not self.started_s:
                self.started_s = monotonic() - born
            if strike.marks == 0:
                _pause(max(0.0, born + start_s * strike.delay - monotonic()))
            elif begins < strike.marks:
                _pause(0.002)
                continue
            else:
                _pause(strike.delay)
            if engine.poll() is None and self._land(strike, engine.pid):
                self.landed.append(strike)
                self._strikes.pop(0)
                if strike.blow in (Blow.ALL, Blow.ENGINE):
                    return

    def _land(self, strike: Strike, engine: int) -> bool:
        match strike.blow:
            case Blow.ALL:
                strike_all(engine)
            case Blow.ENGINE:
                send(engine, signal.SIGKILL)
            case Blow.CHILD:
                children = sorted(descendants(engine))
                if not children:
                    _pause(0.002)  # between two step processes: the next one will do
                    return False
                send(children[strike.marks % len(children)], signal.SIGKILL)
            case Blow.SERVER_FAST | Blow.SERVER_CRASH:
                assert self._restart is not None
                self._restart(strike.blow)
        return True


def measured_start(case: Case) -> float:
    """Seconds until the first step of a calm case began."""
    born = monotonic()
    case._strikes = [Strike(Blow.CHILD, 10 * BEGINS, 0.0)]  # never lands: it is only watched
    case.play()
    return case.started_s or monotonic() - born


def strike_all(engine: int) -> None:
    """The engine and everything below it, as fast as one process can."""
    family = [engine, *descendants(engine)]
    for pid in family:
        send(pid, signal.SIGKILL)


def _pause(seconds: float) -> None:
    if seconds > 0:
        select.select([], [], [], seconds)
