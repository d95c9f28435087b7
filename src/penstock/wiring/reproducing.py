"""`reproduce`: a finished run again, in its recorded code and environment; what differs first, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import UsageError
from ..engine.causes import (
    HASH_0,
    HASH_1,
    ONE_THREAD,
    RECORDED_THREADS,
    SAME,
    Cause,
    Evidence,
    Probe,
    Signature,
    causes,
)
from ..engine.comparison import Change, definition_changes, observation_changes, package_changes
from ..engine.environment import THREADS
from ..engine.listener import Listener
from ..engine.replay import done_before, effects, never
from ..engine.reproduction import Comparison, Runs, judge, unlike
from ..graph import Graph
from ..ports.agreement import Tolerance
from ..ports.events import RunView, fold
from ..ports.records import RunRecord, RunState, RunSummary, StepRun
from ..ports.runlog import RunQuery
from .copying import DEFAULT, Terms
from .environments import lock_of, make
from .laboratory import PROBES, Laboratory, Subject, fresh_home, own_settings
from .project import Project
from .recorded import Restored, begin, begun, restore
from .trials import Interpreter, Tried, tuned

TAG = "reproduces"
_ABOUT = ("python", "implementation", "platform", "machine")


class Wish(msgspec.Struct, frozen=True):
    """How a run is to be reproduced."""

    tolerance: Tolerance = Tolerance()
    here: bool = False  # in the present environment, not in the recorded one
    workers: int = 1
    search: bool = True  # try the step that differs alone, to find out why
    terms: Terms = DEFAULT  # of copying the project's present files


class Reproduction(msgspec.Struct, frozen=True):
    """What came of it."""

    run: str
    rerun: str
    store: str  # the folder that holds the new run, as PENSTOCK_HOME takes it
    here: bool
    python: str
    packages: int
    notes: tuple[str, ...]
    environment: tuple[Change, ...]  # what was otherwise when it ran again
    comparison: Comparison
    causes: tuple[Cause, ...] = ()  # of the step that the first difference comes from


def reproduce(
    project: Project, summary: RunSummary, wish: Wish, *, tell: Callable[[str], None], listener: Listener | None = None
) -> Reproduction:
    """Run it again and compare. Neither the run nor its cache entries are touched. Raises NotReproducibleError."""
    return _Reproducing(project, summary, wish, tell).reproduction(listener)


class _Reproducing:
    def __init__(self, project: Project, summary: RunSummary, wish: Wish, tell: Callable[[str], None]) -> None:
        record = summary.record
        if summary.state not in (RunState.SUCCEEDED, RunState.FAILED):
            raise UsageError(
                f"run {record.id} is {summary.state.value}: only a run that came to its end can be compared with",
                hint=f"penstock resume {record.id}",
            )
        self._project = project
        self._record = record
        self._wish = wish
        self._tell = tell
        self._graph = Graph.from_json(project.store.manifest(record.manifest))
        self._view: RunView = fold(event for _, event in project.store.events(record.id))
        self._before: Runs = {(run.step, run.index): run for run in project.store.step_runs(record.id)}

    def reproduction(self, listener: Listener | None) -> Reproduction:
        record, wish = self._record, self._wish
        kind = "here" if wish.here else "recorded"
        home = self._project.home / "reproductions" / record.id
        place, code = home / kind, home / f"code-{kind}"
        restored = begun(code)
        done = self._unfinished(place) if restored is not None else None
        if restored is None or done is None:
            restored = restore(self._project, record, code, wish.terms)
            fresh_home(place)
            begin(code, restored)
        by, notes = self._interpreter()
        laboratory = self._laboratory(place, restored, by)
        tried = self._run(laboratory, done, listener)
        after: Runs = tried.steps
        apart = frozenset(effects(self._graph))
        places = [place for place in unlike(self._graph, self._before, after) if place[0] not in apart]
        agreements = laboratory.agreements(places, self._before, after, self._project.settings, wish.tolerance)
        comparison = judge(self._graph, self._before, after, agreements, wish.tolerance, apart)
        environment: dict[str, Any] = tried.record.environment
        return Reproduction(
            run=record.id,
            rerun=tried.record.id,
            store=os.path.relpath(laboratory.home, self._project.settings.root),
            here=wish.here,
            python=str(environment.get("python", "")),
            packages=len(environment.get("packages", ())),
            notes=(*restored.notes, *notes, *self._present_files(laboratory, tried)),
            environment=tuple(_surroundings(self._record, tried.record)),
            comparison=comparison,
            causes=self._causes(laboratory, tried, comparison) if wish.search else (),
        )

    # -- running it again --------------------------------------------------------------------------------------------

    def _interpreter(self) -> tuple[Interpreter, tuple[str, ...]]:
        if self._wish.here:
            return Interpreter(), ()
        environment = self._record.environment
        lock = lock_of(environment, self._project.settings.root)
        python = make(lock, self._project.home, self._tell)
        return Interpreter(python, {**tuned(environment.get("settings", {})), "PYTHONPATH": None}), lock.notes

    def _laboratory(self, place: Path, restored: Restored, by: Interpreter) -> Laboratory:
        settings = own_settings(self._project, place, restored.root, self._record.seed)
        return Laboratory(
            self._graph,
            self._record.parameters,
            settings,
            by,
            folder=restored.folder,
            path=restored.path,
            logical_time=self._record.logical_time,
            tags={**self._record.tags, TAG: self._record.id},
        )

    def _run(self, laboratory: Laboratory, done: list[StepRun] | None, listener: Listener | None) -> Tried:
        """Without effects: where the record has what one came to, that stands in for it. What an interrupted
        reproduction of this run has `done` is kept, and so are the files that its steps left behind."""
        apart = effects(self._graph)
        kept = [run for run in self._before.values() if run.step in apart and run.state.has_output]
        lost = laboratory.keep([ref for run in kept for ref in run.outputs.values()], self._project.artifacts)
        for problem in lost:
            self._tell(problem)
        known = done_before(self._record.id, [*kept, *(done or ())], laboratory.project.clock.now_us())
        graph = never(self._graph, apart)
        (tried,) = laboratory.run(graph, known=known, workers=self._wish.workers, listener=listener)
        return tried

    def _unfinished(self, place: Path) -> list[StepRun] | None:
        """What an earlier reproduction of this run had done when it was stopped; None where there is none."""
        if not (place / "runs.db").exists():
            return None
        earlier = Project(own_settings(self._project, place, self._project.settings.root, self._record.seed))
        try:
            newest = earlier.store.list_runs(RunQuery(tags={TAG: self._record.id}, limit=1))
            if not newest or newest[0].state not in (RunState.CANCELLED, RunState.INTERRUPTED):
                return None
            runs = earlier.store.step_runs(newest[0].record.id)
        finally:
            earlier.store.close()  # its file may go next
        apart = effects(self._graph)
        kept = [run for run in runs if run.state.has_output and run.step not in apart]
        whole = [run for run in kept if all(map(earlier.artifacts.intact, run.outputs.values()))]
        self._tell(f"going on with {newest[0].record.id}, which was stopped: {len(whole)} steps are done")
        return whole

    def _present_files(self, laboratory: Laboratory, tried: Tried) -> tuple[str, ...]:
        """Files that the run did not keep, and that were imported now."""
        known = self._project.store.get_code(self._record.code.get("sources", ""))
        used = laboratory.project.store.get_code(tried.record.code.get("sources", ""))
        if known is None or used is None:
            return ()
        names = sorted({part.name for part in used[0]} - {part.name for part in known[0]})
        return (f"not kept by the run, and used as it is now: {', '.join(names)}",) if names else ()

    # -- finding the cause -------------------------------------------------------------------------------------------

    def _causes(self, laboratory: Laboratory, tried: Tried, comparison: Comparison) -> tuple[Cause, ...]:
        origin = comparison.origin
        if origin is None:
            return ()
        place = (origin.step, origin.index)
        before, after = self._before.get(place), tried.steps.get(place)
        if before is None or after is None:
            return (Cause("unknown", "possible", "only one of the runs has this step: a condition or a map differs"),)
        subject = laboratory.alone(self._record.id, self._before, self._view.sizes, place, self._project.artifacts)
        if subject is None:
            self._tell("its recorded inputs are gone, so that it cannot be tried alone")
        self._tell(f"looking for the cause: '{origin.step}' is tried alone, a few times")
        evidence = self._records_of(laboratory, tried, before, after)
        if origin.same_inputs or subject is None:
            again = evidence.again
        else:  # it was given other bytes than in the run: what it makes of the recorded ones is what counts
            again = subject.tried(PROBES[SAME], 1)[0]
        evidence = msgspec.structs.replace(evidence, again=again)
        if subject is not None:
            evidence = msgspec.structs.replace(evidence, tried=self._probed(subject, evidence, self._made_by(before)))
        return causes(evidence)

    def _probed(self, subject: Subject, evidence: Evidence, made_by: RunRecord) -> dict[str, tuple[Signature, ...]]:
        """As few tries as answer the question: each takes as long as the step."""
        found = {SAME: subject.tried(PROBES[SAME], 1)}
        if found[SAME][0] != evidence.again:
            return found | subject.steadied()
        if evidence.data:
            return found
        probes = [PROBES[name] for name in (ONE_THREAD, HASH_0, HASH_1)]
        if evidence.threads:
            probes.insert(0, Probe(RECORDED_THREADS, _recorded_threads(made_by)))
        for probe in probes:
            found[probe.name] = subject.tried(probe, 1)
            if found[probe.name][0] == evidence.recorded:
                break
        return found

    def _records_of(self, laboratory: Laboratory, tried: Tried, before: StepRun, after: StepRun) -> Evidence:
        store, theirs = self._project.store, laboratory.project.store
        target = self._graph.node(before.step).target
        left = before.parts.get("code") or self._record.code.get("steps", {}).get(target, "")
        right = after.parts.get("code") or tried.record.code.get("steps", {}).get(target, "")
        old, new = store.get_code(left), theirs.get_code(right)
        made_by = self._made_by(before)
        packages = package_changes(
            made_by.environment.get("packages", {}), tried.record.environment.get("packages", {})
        )
        reached = {name for code in (old, new) if code is not None for name in code[1]}
        return Evidence(
            recorded=Signature.of(before),
            again=Signature.of(after),
            data=tuple(observation_changes(before.observations, after.observations)),
            code=tuple(definition_changes(old[0], new[0], target)) if old and new else (),
            packages=tuple(change for change in packages if change.name in reached),
            other_packages=tuple(change for change in packages if change.name not in reached),
            environment=tuple(_surroundings(made_by, tried.record)),
            threads=tuple(_threads(made_by, tried.record)),
            unseen=store.get_unseen(left) if left else (),
            here=self._wish.here,
        )

    def _made_by(self, run: StepRun) -> RunRecord:
        """The run that computed this: another one, where it came from the cache."""
        if run.origin is None:
            return self._record
        found = self._project.store.find_run(run.origin[0])
        return self._record if found is None else found.record


def _surroundings(before: RunRecord, after: RunRecord) -> list[Change]:
    old, new = before.environment, after.environment
    return [
        Change("environment", name, f"{name}: {old.get(name)} → {new.get(name)}", str(old[name]), str(new[name]))
        for name in _ABOUT
        if old.get(name) != new.get(name) and name in old and name in new
    ]


def _recorded_threads(record: RunRecord) -> dict[str, str | None]:
    """The variables as the run had them; where it set none, libraries counted its processors."""
    settings: dict[str, str] = record.environment.get("settings", {})
    cpus = record.environment.get("cpus")
    given = {name: settings.get(name) for name in THREADS}
    return given if cpus is None else {name: value or str(cpus) for name, value in given.items()}


def _threads(before: RunRecord, after: RunRecord) -> list[Change]:
    """What decides how many threads libraries start, where it differs."""
    old, new = before.environment, after.environment
    pairs = {name: (old.get("settings", {}).get(name), new.get("settings", {}).get(name)) for name in THREADS}
    pairs["processors"] = (old.get("cpus"), new.get("cpus"))
    if "cpus" not in old:
        del pairs["processors"]  # an older penstock made it
    return [
        Change(
            "environment",
            name,
            f"{name} {left or 'not set'} → {right or 'not set'}",
            left and str(left),
            right and str(right),
        )
        for name, (left, right) in pairs.items()
        if left != right
    ]
