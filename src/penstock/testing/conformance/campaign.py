"""Runs cases on an engine and holds what happened against the calm run of the same cases."""

from __future__ import annotations

import secrets
import shutil
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from ...core.jsonvalue import dumps
from .case import OURS, Act, Case
from .commands import CALM, LOCAL, Place, resume_here, run_here
from .comparing import compare
from .driving import EngineDriver, EngineRun, Ground
from .leaks import found_in_files, found_in_store
from .observing import Observed, observe, open_project

Verdict = Literal["kept", "differs", "refused", "broken"]
_LATE_S = 30.0  # how late an engine may show what has become of a step, after the end of its run
Leaks = list[str]  # where a planted secret was found


class Played(NamedTuple):
    """What became of one case on one engine."""

    case: Case
    verdict: Verdict
    differences: tuple[str, ...] = ()  # or why it was refused, or what broke
    emulated: tuple[str, ...] = ()  # features that the engine keeps by other means, with the means
    seconds: float = 0.0


class Happened(NamedTuple):
    """The runs of one case in one place."""

    runs: tuple[EngineRun, ...]
    observed: tuple[Observed, ...]
    leaks: tuple[str, ...]
    seconds: float


class Campaign:
    """The calm runs of some cases, made once, and what others are held against."""

    def __init__(self, cases: Sequence[Case], work: Path, *, full: bool = False) -> None:
        self.cases = tuple(cases)
        self.full = full
        self._work = work
        self._planted = {name: secrets.token_hex(16) for case in cases for name in case.secrets}
        self._calm: dict[str, Happened | str] | None = None

    def calm(self) -> Mapping[str, Happened | str]:
        """Case -> its calm runs, or what broke."""
        if self._calm is None:
            driver = LOCAL["calm"]()
            self._calm = _Stage(self, driver, self._work / "calm").play(self.cases)
        return self._calm

    def play(self, driver: EngineDriver, cases: Sequence[Case] | None = None) -> list[Played]:
        """Every case, or some of them, on one engine. The driver is closed afterwards, whatever happens."""
        calm = self.calm()
        wanted = self.cases if cases is None else tuple(cases)
        refused = {case.name: why for case in wanted if (why := _refusals(driver, case))}
        chosen = tuple(case for case in wanted if case.name not in refused)
        stage = _Stage(self, driver, self._work / driver.name)
        there = stage.play(chosen)
        return [
            _turned_away(case, driver.name, refused[case.name])
            if case.name in refused
            else self._judged(driver, case, calm[case.name], there[case.name], stage.leaks)
            for case in wanted
        ]

    def environment(self) -> dict[str, str]:
        """Variables that must be there wherever steps run."""
        return {**{name: value for case in self.cases for name, value in case.environment.items()}, **self._planted}

    def planted(self, names: Iterable[str] | None = None) -> dict[str, str]:
        return {name: self._planted[name] for name in (self._planted if names is None else names)}

    def _judged(
        self, driver: EngineDriver, case: Case, calm: Happened | str, there: Happened | str, leaks: Mapping[str, Leaks]
    ) -> Played:
        if isinstance(calm, str):
            return Played(case, "broken", (f"the calm run: {calm}",))
        if isinstance(there, str):
            return Played(case, "broken", (there,))
        script = case.script(full=self.full)
        found = [*surprises(script, calm.observed, "the calm run: "), *there.leaks]
        for at, (before, now, run) in enumerate(zip(calm.observed, there.observed, there.runs, strict=True), start=1):
            mark = f"run {at}: " if len(script) > 1 else ""
            found += [f"{mark}{each}" for each in compare(before, now, case.apart)]
            found += [f"{mark}{each}" for each in _disagreements(now, run)]
        if driver.name in case.refused:
            found.append("it is known to be refused here, and was not: the catalogue is behind")
        found += [leak for name in case.secrets for leak in leaks.get(name, ())]
        answers = driver.declared(case).items()
        emulated = tuple(f"{feature}: {answer.how}" for feature, answer in answers if answer.support == "emulated")
        return Played(case, "differs" if found else "kept", tuple(found), emulated, there.seconds)


class _Stage:
    """One engine with its ground."""

    def __init__(self, campaign: Campaign, driver: EngineDriver, work: Path) -> None:
        self._campaign = campaign
        self._driver = driver
        self._work = work
        self._settings: Mapping[str, str] = {}
        self.leaks: dict[str, Leaks] = {}  # secret -> where it was found

    def play(self, cases: tuple[Case, ...]) -> dict[str, Happened | str]:
        """Case -> what happened, or what broke."""
        self._ground = lay_out(cases, self._campaign, self._work)
        try:
            self._settings = self._driver.prepare(self._ground)
            with ThreadPoolExecutor(self._driver.at_once) as threads:
                done = dict(zip((case.name for case in cases), threads.map(self._one, cases), strict=True))
            self._search()
        finally:
            self._driver.close()
        return done

    def _one(self, case: Case) -> Happened | str:
        begun = time.monotonic()
        try:
            return self._happened(case, begun)
        except Exception as error:  # noqa: BLE001 - the boundary to an engine: whatever it raises is its verdict
            return "".join(traceback.format_exception_only(error)).strip()

    def _happened(self, case: Case, begun: float) -> Happened:
        runs: list[EngineRun] = []
        observed: list[Observed] = []
        for act in case.script(full=self._campaign.full):
            runs.append(run := self._acted(case, act, runs))
            if run.run_id is None:
                raise RuntimeError(f"no run came of it; {self._driver.name} says: {run.told or run.state}")
            observed.append(self._observed(list(dict.fromkeys(each.run_id or "" for each in runs)), run.run_id))
            runs[-1] = _with_late_news(run, observed[-1])
        leaks = self._leaks({each.run_id or "" for each in runs})
        return Happened(tuple(runs), tuple(observed), tuple(leaks), time.monotonic() - begun)

    def _observed(self, acts: Sequence[str], run_id: str) -> Observed:
        project = open_project(str(self._ground.folder), self._settings)
        try:
            return observe(project, run_id, acts)
        finally:
            project.store.close()

    def _leaks(self, runs: Iterable[str]) -> Leaks:
        project = open_project(str(self._ground.folder), self._settings)
        planted = self._campaign.planted()
        try:
            return [leak for run in sorted(runs) for leak in found_in_store(planted, project.store, run)]
        finally:
            project.store.close()

    def _acted(self, case: Case, act: Act, before: Sequence[EngineRun]) -> EngineRun:
        if act.where == "engine" and act.resume:
            return self._driver.resume(case, before[-1].run_id or "")
        if act.where == "engine":
            return self._driver.run(case, act.parameters)
        place = Place.of(self._ground, self._settings)
        if act.resume:
            return resume_here(place, before[-1].run_id or "", act.environment, *CALM)
        return run_here(place, case, act.parameters, act.environment, *CALM)

    def _search(self) -> None:
        home = self._settings.get("PENSTOCK_HOME")
        places = [
            *self._driver.places_to_search(),
            self._ground.work,
            self._ground.folder,
            *([Path(home)] if home else []),
        ]
        for name, value in self._campaign.planted().items():
            self.leaks[name] = list(dict.fromkeys(found_in_files({name: value}, places)))


def lay_out(cases: tuple[Case, ...], campaign: Campaign, work: Path) -> Ground:
    """A project with the files of all cases, as they are."""
    folder, own = work / "project", work / "work"
    folder.mkdir(parents=True)
    own.mkdir()
    (folder / "penstock.toml").write_text("[pools]\nnarrow = 1\n", encoding="utf-8")
    for case in cases:
        shutil.copyfile(case.path, folder / case.file)
    for path in {path for case in cases for path in case.folder.glob("*.txt")}:
        shutil.copyfile(path, folder / path.name)
    return Ground(folder, cases, campaign.environment(), own, campaign.full)


def surprises(script: Sequence[Act], observed: Sequence[Observed], mark: str = "") -> list[str]:
    """Where runs did not end as the case says that they must."""
    found = []
    for at, (act, run) in enumerate(zip(script, observed, strict=True), start=1):
        if act.state and run.state != act.state:
            found.append(f"{mark}run {at} {run.state}, and should have {act.state}")
        if act.output is not ... and run.result != dumps(act.output):
            found.append(f"{mark}run {at} returned {run.result}, and should have {dumps(act.output)}")
        found += [f"{mark}run {at}: {law}" for law in run.broken]
    return found


def _turned_away(case: Case, engine: str, why: tuple[str, ...]) -> Played:
    """A refusal is no failure where it is known; a declaration that has become one by mistake is."""
    if engine in OURS and case.group != "generated" and engine not in case.refused:
        return Played(case, "differs", tuple(f"refused, and it is kept elsewhere: {each}" for each in why))
    return Played(case, "refused", why)


def _refusals(driver: EngineDriver, case: Case) -> tuple[str, ...]:
    answers = driver.declared(case)
    return tuple(f"{feature}: {answer.how}" for feature, answer in answers.items() if answer.support == "refused")


def _disagreements(now: Observed, run: EngineRun) -> list[str]:
    """What the engine shows its own users, against the run log."""
    found = []
    if run.state and run.state != now.state:
        found.append(f"the run has {now.state}, and the engine says that it has {run.state}")
    if run.failed_steps is not None:
        for place in sorted(_failed(now) - run.failed_steps):
            found.append(f"{place} failed, and the engine does not show it as failed")
        fine = {place for place, step in now.instances.items() if step.state in ("succeeded", "cached", "skipped")}
        for place in sorted(fine & run.failed_steps):
            found.append(f"{place} {now.instances[place].state}, and the engine shows it as failed")
    return found


def _failed(now: Observed) -> set[str]:
    return {place for place, step in now.instances.items() if step.state in ("failed", "timed_out")}


def _with_late_news(run: EngineRun, now: Observed) -> EngineRun:
    """The run as its engine shows it, when all that failed is shown, or should have been by now."""
    deadline = time.monotonic() + _LATE_S
    while (
        run.look_again is not None
        and run.failed_steps is not None
        and not _failed(now) <= run.failed_steps
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
        run = run._replace(failed_steps=run.look_again())
    return run
