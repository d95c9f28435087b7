"""Runs on an engine, seen from here: made, handed over, followed in the run log, and closed where the engine cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any

import msgspec

from ..core.errors import BackendError, CodeChangedError, PenstockError, StoreUnavailableError, UsageError
from ..engine.closing import close_run
from ..engine.listener import Listener, Silent
from ..engine.single import StepSession
from ..graph import Graph
from ..ports.backend import Backend, Blueprint, EngineRun, EngineState
from ..ports.events import RunCancelRequested, RunResumed, RunView, fold
from ..ports.records import ENGINE_HOST, RunRecord, RunState
from ..ports.runner import TracedPipeline
from .backends import backend_named, blueprint, deployed, places, plain_parameters, planned
from .config import Settings, load_settings
from .project import Project
from .runner import Ask, create_run, find_run, meaning, pipeline_of, step_codes, with_payloads
from .runs import Run
from .worker import MODULE

_LOOK_S = 0.3
_ASK_S = 2.0  # between two questions to the engine
_UNKNOWN_S = 60.0  # of saying that it knows no such run: a proxy in front of it may say so for a moment
_AWAY_S = 120.0  # of a run log that is away while somebody watches
_GRACE_S = 10.0  # between the engine's end of a run and ours: its last command may still be writing


class Submitted(msgspec.Struct, frozen=True):
    """A run in the engine's hands."""

    record: RunRecord
    graph: Graph
    plan: Blueprint
    engine_run: EngineRun
    deployed: str = ""  # what was done to get there, in words
    seen: int = 0  # events of before, which are not told again


class EngineRunner:
    """Starts and resumes runs on one engine, and watches them."""

    def __init__(self, settings: Settings, name: str, project: Project | None = None) -> None:
        self._settings = msgspec.structs.replace(settings, backend=name)
        self._project = project or Project(self._settings)
        self._backend: Backend = backend_named(name)

    def submit(
        self,
        traced: TracedPipeline,
        parameters: dict[str, str],
        *,
        accepted: Sequence[str] = (),
        deployment: str = "",
        source: str = "",
        **options: Any,
    ) -> Submitted:
        """Deploy the pipeline as it is now, make the run, hand it over."""
        ask = _ask(options, self._backend.label)
        graph = with_payloads(traced)
        plan = planned(self._settings, graph, self._backend.name, source=source, name=deployment, accepted=accepted)
        told = deployed(self._backend, self._settings, plan)
        project = self._project
        waived = {"waived": list(plan.waived)} if plan.waived else {}
        record, known = create_run(
            project,
            project.services(graph),
            graph,
            parameters,
            ask,
            engine=self._backend.name,
            more={"deployment": plan.name, **waived},
        )
        if known and record.backend != self._backend.name:
            raise UsageError(
                f"run {record.id} has this idempotency key already, on {record.backend}",
                hint=f"penstock show {record.id}",
            )
        if known:  # whoever made it handed it over, and it may have been resumed since
            graph = Graph.from_json(project.store.manifest(record.manifest))
            _, plan, engine_run, self._settings = _engine_of(project, self._settings, record, graph)
            return Submitted(record, graph, plan, engine_run, told)
        return self._handed_over(record, graph, plan, told, record.id)

    def resume(self, run: str, *, accepted: Sequence[str] = (), force: bool = False, **options: Any) -> Submitted:
        """Let the engine finish a run that failed or was stopped, here or there; what is finished stays finished."""
        _ask(options, self._backend.label)
        project = self._project
        reconcile(project, run, self._settings, force=force)
        summary = find_run(project, run)
        record = summary.record
        if summary.state in (RunState.RUNNING, RunState.SUCCEEDED):
            what = "is still running" if summary.state is RunState.RUNNING else "succeeded; there is nothing to resume"
            raise UsageError(f"run {record.id} {what}", hint=f"penstock show {record.id}")
        graph = Graph.from_json(project.store.manifest(record.manifest))
        began_with = record.code.get("steps", {})
        now = step_codes(project.services(graph), graph)
        if changed := [target for target, digest in now.items() if began_with.get(target, digest) != digest]:
            raise CodeChangedError(
                f"the code of run {record.id} has changed since it was started: {', '.join(changed)}",
                hint=f"penstock resume {record.id} --on local finishes it here, with the code of now",
            )
        before = handover(project, record)
        plan = self._plan_of(record, graph, before, accepted)
        told = deployed(self._backend, self._settings, plan)
        happened = project.store.events(record.id)
        epoch = fold(event for _, event in happened).epoch
        host, key = ENGINE_HOST + self._backend.name, f"{record.id}.{epoch + 1}"
        resumed = RunResumed(
            at=project.clock.now_us(),
            epoch=epoch + 1,
            host=host,
            engine_run=key,
            deployment=plan.name,
            profile=self._settings.profile,
            waived=tuple(each for each in plan.waived if each not in before.waived),
        )
        project.store.append(record.id, epoch, [resumed])
        record = msgspec.structs.replace(record, host=host, pid=0, epoch=epoch + 1)
        return self._handed_over(record, graph, plan, told, key, seen=happened[-1][0])

    def _plan_of(self, record: RunRecord, graph: Graph, before: Handover, accepted: Sequence[str]) -> Blueprint:
        """How the engine is to know the pipeline of a run that goes on. What is deployed there is not replaced by an
        older graph: that one gets a name of its own, and no schedule."""
        name = str(record.options.get("deployment") or graph.pipeline)
        if not self._is_of_now(record, graph):
            name = f"{name}-{record.id.rpartition('-')[2]}"
            graph = msgspec.structs.replace(graph, schedule=None, on_data=(), max_active_runs=None)
        return planned(self._settings, graph, self._backend.name, name=name, accepted=accepted, inherited=before.waived)

    def _is_of_now(self, record: RunRecord, graph: Graph) -> bool:
        """Whether the pipeline is written today as it was when the run began."""
        try:
            traced = with_payloads(pipeline_of(self._project, graph).trace(record.parameters))
        except PenstockError:
            return False
        return meaning(Graph.from_json(traced.to_json())) == meaning(graph)

    def follow(self, submitted: Submitted, listener: Listener | None = None) -> Run:
        """Watch the run to its end: what happens is read from the run log, whatever engine it happens on."""
        record, graph, store = submitted.record, submitted.graph, self._project.store
        listener, view = listener or Silent(), RunView()
        seen = texts = 0
        if submitted.seen:  # resumed: what happened before is known
            for sequence, event in store.events(record.id):
                if sequence <= submitted.seen + 1:
                    seen = sequence
                    view.apply(event)
            texts = max((number for number, *_ in store.read_text(record.id)), default=0)
        listener.begin(record, graph, view)
        state = _Asked(lambda: self._backend.state(submitted.plan, places(self._settings), submitted.engine_run))
        last_read = monotonic()
        while True:
            try:
                for number, step, index, _, text in store.read_text(record.id, after=texts):
                    texts = number
                    listener.text(step, index, text)
                for sequence, event in store.events(record.id, after=seen):
                    seen = sequence
                    listener.event(view.apply(event))
            except StoreUnavailableError:
                if monotonic() - last_read > _AWAY_S:
                    raise
                sleep(_ASK_S)  # the run goes on without us
                continue
            last_read = monotonic()
            if view.finished is not None:
                break
            if (told := state.over()) is not None:  # its own last command never came
                self._close(submitted, told)
                continue
            sleep(_LOOK_S)
        return Run(graph, record, view, view.finished, self._project.services(graph), None)

    # -- inside --------------------------------------------------------------------------------------------------

    def _handed_over(
        self, record: RunRecord, graph: Graph, plan: Blueprint, told: str, key: str, seen: int = 0
    ) -> Submitted:
        parameters = plain_parameters(record.parameters, graph)
        try:
            engine_run = self._backend.submit(plan, places(self._settings), record.id, key, parameters)
        except BaseException as error:
            if not self._may_have_it(plan, key, error):
                session = _session(self._project, graph, record, self._backend.name)
                because = error.problem if isinstance(error, PenstockError) else ""
                close_run(session, RunState.FAILED, because)  # nobody will ever run it: it can be resumed
            raise
        return Submitted(record, graph, plan, engine_run, told, seen)

    def _may_have_it(self, plan: Blueprint, key: str, error: BaseException) -> bool:
        """Whether the engine may have taken the run although the answer never came."""
        try:
            state = self._backend.state(plan, places(self._settings), EngineRun(key)).state
        except PenstockError:
            return not isinstance(error, PenstockError)  # stopped in the middle, and nobody to ask
        return state is not RunState.INTERRUPTED

    def _close(self, submitted: Submitted, told: EngineState) -> None:
        session = _session(self._project, submitted.graph, submitted.record, self._backend.name)
        close_run(session, told.state if told.state is not RunState.SUCCEEDED else None)
        if told.note:
            raise BackendError(
                f"{self._backend.label} ended run {submitted.record.id} by itself: {told.note}",
                hint=f"penstock show {submitted.record.id}; penstock resume {submitted.record.id} --on local",
            )


def _ask(options: dict[str, Any], label: str) -> Ask:
    """How the run is to go. What only the local engine can do is refused, not dropped."""
    ask = Ask(**options)
    if ask.wait:
        raise UsageError(
            f"'wait' is for runs on this machine: {label} itself keeps max_active_runs", hint="leave it out"
        )
    if ask.workers is not None or ask.one_process_per_step:
        given = "workers" if ask.workers is not None else "one_process_per_step"
        raise UsageError(
            f"'{given}' is for runs on this machine: {label} places steps itself",
            hint="leave it out; max_parallel, pool and max_active_runs say how much may run at once on every engine",
        )
    return ask


class _Asked:
    """What the engine says, asked now and then; it counts when it has said "over" for a while."""

    def __init__(self, ask: Callable[[], EngineState]) -> None:
        self._ask = ask
        self._next = monotonic() + _ASK_S
        self._since: float | None = None

    def over(self) -> EngineState | None:
        now = monotonic()
        if now < self._next:
            return None
        self._next = now + _ASK_S
        try:
            told = self._ask()
        except PenstockError:
            return None  # away for a moment: the run log goes on telling what happens
        if told.state is RunState.RUNNING:
            self._since = None
            return None
        self._since = self._since or now
        grace = _UNKNOWN_S if told.state is RunState.INTERRUPTED else _GRACE_S
        return told if now - self._since >= grace else None


def reconcile(project: Project, run: str, settings: Settings, *, force: bool = False) -> None:
    """Before a resume: close a run that its engine says is over, though the run log has no end of it.

    `force`: without asking. Raises UsageError where the engine does not know the run, and BackendError where it cannot
    be asked.
    """
    summary = find_run(project, run)
    record = summary.record
    if summary.state is not RunState.RUNNING or record.backend == "local":
        return
    graph = Graph.from_json(project.store.manifest(record.manifest))
    state, deadline = RunState.CANCELLED, monotonic() + (0.0 if force else _GRACE_S)
    while not force:
        state = state_of(project, record, graph, settings)
        if state is RunState.RUNNING or find_run(project, record.id).state is not RunState.RUNNING:
            return
        if state is RunState.INTERRUPTED:
            raise UsageError(
                f"{record.backend} does not know run {record.id}, which is not over in the run log",
                hint="look there; --from-engine takes the run away from it all the same",
            )
        if monotonic() > deadline:  # its last command may have been writing until now
            break
        sleep(_ASK_S)
    close_run(_session(project, graph, record, record.backend), state)


def state_of(project: Project, record: RunRecord, graph: Graph, settings: Settings) -> RunState:
    """Where the engine says that a run stands; INTERRUPTED where it does not know it."""
    backend, plan, engine_run, used = _engine_of(project, settings, record, graph)
    return backend.state(plan, places(used), engine_run).state


def request_cancel(project: Project, record: RunRecord, by: str, settings: Settings) -> str:
    """Ask a run on an engine to stop. Its steps see that in the run log; the engine is told to start nothing more."""
    project.store.append(record.id, record.epoch, [RunCancelRequested(at=project.clock.now_us(), by=by)])
    graph = Graph.from_json(project.store.manifest(record.manifest))
    try:
        backend, plan, engine_run, used = _engine_of(project, settings, record, graph)
        backend.cancel(plan, places(used), engine_run)
    except PenstockError as error:
        return f"; {record.backend} itself could not be told ({error.problem})"
    return ""


class Handover(msgspec.Struct, frozen=True):
    """How an engine has a run, since whoever handed it over last."""

    engine_run: str  # its own name of the run
    deployment: str  # and of the pipeline; "" where nobody said
    profile: str
    waived: tuple[str, ...]  # by whoever handed it over, first or later


def handover(project: Project, record: RunRecord) -> Handover:
    """Read from the run log: what it began with, and every resume since."""
    resumes = [event for _, event in project.store.events(record.id) if isinstance(event, RunResumed)]
    options = record.options
    engine_run = (resumes[-1].engine_run if resumes else "") or str(options.get("engine_run") or record.id)
    deployment, profile = str(options.get("deployment") or ""), str(options.get("profile") or "")
    for each in resumes:
        if each.deployment:
            deployment, profile = each.deployment, each.profile
    waived = dict.fromkeys([*options.get("waived", ()), *(name for each in resumes for name in each.waived)])
    return Handover(engine_run, deployment, profile, tuple(waived))


def _engine_of(
    project: Project, settings: Settings, record: RunRecord, graph: Graph
) -> tuple[Backend, Blueprint, EngineRun, Settings]:
    """How to ask the engine of a run: with the profile that the run was started with."""
    found = handover(project, record)
    if found.profile and found.profile != settings.profile:
        settings = load_settings(settings.root, profile=found.profile)
    backend = backend_named(record.backend)
    plan = blueprint(settings, graph, name=found.deployment)
    return backend, plan, EngineRun(found.engine_run.rpartition("/")[2]), settings


def _session(project: Project, graph: Graph, record: RunRecord, engine: str) -> StepSession:
    services = project.services(graph)
    return StepSession(graph, record, project.store, services, worker_module=MODULE, engine=engine)
