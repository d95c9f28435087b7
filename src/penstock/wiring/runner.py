"""Starts, resumes and plans runs on this machine."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..authoring.identity import find_qualname, load_module, split_target
from ..authoring.pipeline import Pipeline
from ..core.canonical import digest_bytes
from ..core.errors import CodeChangedError, NotFoundError, RunFailedError, UsageError, did_you_mean
from ..core.ids import run_id
from ..engine.environment import environment, git_record
from ..engine.fingerprint import digest_of
from ..engine.listener import Listener
from ..engine.scheduler import RunOptions, Scheduler
from ..engine.services import Services
from ..graph import Graph, Node
from ..ports.cluster import Cluster
from ..ports.events import Event, RunResumed, RunStarted, RunView, StepReopened, fold
from ..ports.records import ENGINE_HOST, RunRecord, RunState, RunSummary
from ..ports.runlog import RunQuery
from ..ports.runner import TracedPipeline
from ..stores.runlog import IN_MEMORY
from .active import active
from .config import Settings, check_pools, load_settings
from .manifest import write_manifest
from .places import open_cluster, place_of
from .project import Project
from .runs import Run
from .worker import MODULE

_NAMED_AMONG = 500  # newest runs that are searched for a name


class Ask(msgspec.Struct, frozen=True):
    """How somebody wants a run to go."""

    workers: int | str | None = None  # a number, or a cluster: "ray", "dask://host:8786"
    cache: bool = True
    restart_from: tuple[str, ...] = ()  # these steps and all that follow run anew
    one_process_per_step: bool = False
    profile: str | None = None
    name: str | None = None
    tags: dict[str, str] = {}
    idempotency_key: str | None = None
    trigger: str = "manual"
    logical_time: int | None = None
    echo: bool = True
    wait: bool = False  # where as many runs as may be active are: for one of them to end, instead of refusing


class LocalRunner:
    """The Runner behind `Pipeline.run` and `penstock run`."""

    def __init__(
        self,
        settings: Settings | None = None,
        project: Project | None = None,
        *,
        default_listener: Callable[[], Listener | None] | None = None,
    ) -> None:
        self._settings = settings
        self._project = project
        self._default_listener = default_listener  # who watches where nobody was named: a notebook's cell

    def project(self, root: str, profile: str | None = None) -> Project:
        if self._project is None:
            self._project = Project(self._settings or load_settings(root, profile=profile))
        return self._project

    def run(
        self,
        traced: TracedPipeline,
        parameters: dict[str, str],
        *,
        listener: Listener | None = None,
        check: bool = True,
        done: Sequence[Event] = (),
        **options: Any,
    ) -> Run:
        """A new run, to its end. With `check`, a failure raises. `done`: what is done already, for an experiment."""
        ask = _ask(options)
        project = self.project(traced.root, ask.profile)
        graph = with_payloads(traced)
        check_pools(graph, project.settings)
        services = project.services(graph, traced.functions)
        if ask.idempotency_key is not None and (known_id := project.store.run_of_key(ask.idempotency_key)) is not None:
            return self._finished(project, services, graph, find_run(project, known_id).record)
        with active(project, graph, listener, wait=ask.wait), _place(ask, project) as place:
            record, known = create_run(project, services, graph, parameters, ask)
            if known:
                return self._finished(project, services, graph, record)
            view = RunView()
            view.apply(RunStarted(at=record.created_at))
            if done:
                project.store.append(record.id, view.epoch, done)
                for event in done:
                    view.apply(event)
            return self._go(project, services, graph, record, view, ask, listener, check, place)

    def resume(
        self,
        run: str,
        root: str,
        *,
        with_current_code: bool = False,
        listener: Listener | None = None,
        check: bool = True,
        **options: Any,
    ) -> Run:
        """Finish a run that failed, was stopped or lost its process; what is finished stays finished."""
        ask = _ask(options)
        project = self.project(root, ask.profile)
        summary = find_run(project, run)
        record = summary.record
        if summary.state in (RunState.RUNNING, RunState.SUCCEEDED):
            what = "is still running" if summary.state is RunState.RUNNING else "succeeded; there is nothing to resume"
            raise UsageError(f"run {record.id} {what}", hint=f"penstock show {record.id}")
        graph = Graph.from_json(project.store.manifest(record.manifest))
        services = project.services(graph)
        view = fold(event for _, event in project.store.events(record.id))
        manifest, code, seen, kept, earlier = None, None, None, view.kept, {}
        changed, retraced = self._changes(project, graph, record)
        reached = [node.name for node in graph.nodes if node.target in changed and _has_finished(view, node.name)]
        if (reached or retraced) and not with_current_code:
            raise _code_changed(record, [*changed, *([f"pipeline {graph.pipeline}"] if retraced else [])], reached)
        if changed or retraced:
            traced = pipeline_of(project, graph).trace(record.parameters)
            graph = with_payloads(traced)
            services = project.services(graph, traced.functions)
            manifest = project.store.put_manifest(graph.to_json())
            earlier = record.code.get("steps", {})
            code = recorded_code(project, services, graph)
            seen = environment()
            kept = _kept(graph, view, earlier, code["steps"], services)
            record = msgspec.structs.replace(record, manifest=manifest, code=code, environment=seen)
        check_pools(graph, project.settings)
        resumed = RunResumed(
            at=project.clock.now_us(),
            epoch=view.epoch + 1,
            host=os.uname().nodename,
            pid=os.getpid(),
            manifest=manifest,
            code=code,
            environment=seen,
            earlier_code=earlier,
            kept=kept,
        )
        with active(project, graph, listener, wait=ask.wait), _place(ask, project) as place:
            project.store.append(record.id, view.epoch, [resumed])
            view.apply(resumed)
            if lost := self._lost(view, services):
                project.store.append(record.id, view.epoch, lost)
                for event in lost:
                    view.apply(event)
            finished = self._go(project, services, graph, record, view, ask, listener, check, place)
        finished.changed = tuple(changed)
        return finished

    # -- inside --------------------------------------------------------------------------------------------------

    def _go(
        self,
        project: Project,
        services: Services,
        graph: Graph,
        record: RunRecord,
        view: RunView,
        ask: Ask,
        listener: Listener | None,
        check: bool,
        place: int | Cluster,
    ) -> Run:
        cluster = None if isinstance(place, int) else place
        workers = place if isinstance(place, int) else place.places
        if cluster is not None:
            from .attending import far_boot  # a run on this machine needs none of it

            far_boot(services, project, record.id)
        command: tuple[str, ...] = ()
        if ask.one_process_per_step:
            path = write_manifest(project.settings, graph, project.home / "manifests" / f"{record.id}.json")
            command = (sys.executable, "-P", "-m", "penstock", "exec-step", "--manifest", str(path), "--run", record.id)
        options = RunOptions(workers=workers, worker_module=MODULE, step_command=command, echo=ask.echo)
        if listener is None and self._default_listener is not None:
            listener = self._default_listener()
        if listener is not None:
            listener.begin(record, graph, view)
        scheduler = Scheduler(graph, record, view, project.store, services, options, listener, cluster)
        state = scheduler.run()
        run = Run(graph, record, view, state, services, scheduler.error)
        return run.raise_for_state() if check else run

    def _finished(self, project: Project, services: Services, graph: Graph, record: RunRecord) -> Run:
        summary = find_run(project, record.id)
        view = fold(event for _, event in project.store.events(record.id))
        if summary.state is not RunState.SUCCEEDED:
            raise RunFailedError(
                f"run {record.id} has this idempotency key already and {summary.state.value}",
                hint=f"penstock resume {record.id}",
            )
        return Run(graph, record, view, summary.state, services, None)

    def _changes(self, project: Project, graph: Graph, record: RunRecord) -> tuple[list[str], bool]:
        """Functions of steps whose code is not what it was, and whether the pipeline would be traced otherwise."""
        before: dict[str, str] = record.code.get("steps", {})
        now = step_codes(project.services(graph), graph)
        changed = [target for target, digest in now.items() if before.get(target, digest) != digest]
        traced = with_payloads(pipeline_of(project, graph).trace(record.parameters))
        return changed, meaning(traced) != meaning(graph)

    def _lost(self, view: RunView, services: Services) -> list[StepReopened]:
        """A finished step whose bytes are gone is not finished. Step processes read this in the log, too."""
        now = services.clock.now_us()
        return [
            StepReopened(at=now, step=run.step, index=run.index, because="its output is gone from the artifact store")
            for run in view.steps.values()
            if run.state.has_output and not all(services.artifacts.intact(ref) for ref in run.outputs.values())
        ]


def _has_finished(view: RunView, step: str) -> bool:
    """Whether any instance of a step is finished."""
    return any(name == step and run.state.has_output for (name, _), run in view.steps.items())


def _code_changed(record: RunRecord, changed: list[str], reached: list[str]) -> CodeChangedError:
    """What is finished was made by other code than there is now, or from other inputs."""
    finished = f"{', '.join(reached)} finished with the code of then. " if reached else ""
    return CodeChangedError(
        f"the code of run {record.id} has changed since it was started: {', '.join(changed)}",
        hint=f"{finished}`penstock resume {record.id} --with-current-code` keeps what is finished, and runs the rest "
        "with the code of now; a new run takes what did not change from the cache",
    )


def _kept(
    graph: Graph, view: RunView, before: dict[str, str], now: dict[str, str], services: Services
) -> tuple[str, ...]:
    """Finished steps whose code is another one now; they are not computed again."""
    found = []
    for node in graph.nodes:
        runs = [run for run in view.steps.values() if run.step == node.name and run.state.has_output]
        current = now.get(node.target)
        # A step that keeps nothing for others has no digest of its own; what it was made by stands in the record.
        known = None if node.name in view.kept else before.get(node.target)
        older = any(run.parts.get("code", known) != current for run in runs)
        intact = all(services.artifacts.intact(ref) for run in runs for ref in run.outputs.values())
        if current is not None and older and intact:
            found.append(node.name)
    return tuple(found)


def create_run(
    project: Project,
    services: Services,
    graph: Graph,
    parameters: dict[str, str],
    ask: Ask,
    *,
    engine: str = "",
    more: Mapping[str, Any] | None = None,
) -> tuple[RunRecord, bool]:
    """A new run in the run log, or the one that has this idempotency key already (True). `engine`: who orders its
    steps, where that is not this process. `more`: what else its record keeps of how it was asked for."""
    now = project.clock.now_us()
    settings = project.settings
    host, pid = (ENGINE_HOST + engine, 0) if engine else (os.uname().nodename, os.getpid())
    wanted = RunRecord(
        id=run_id(graph.pipeline, now),
        pipeline=graph.pipeline,
        project=os.path.basename(settings.root),
        manifest=digest_bytes(graph.to_json()),
        parameters=parameters,
        created_at=now,
        name=ask.name,
        tags={**graph.tags, **ask.tags},
        user=_user(),
        host=host,
        pid=pid,
        trigger=ask.trigger,
        idempotency_key=ask.idempotency_key,
        logical_time=ask.logical_time,
        seed=settings.seed,
        code=recorded_code(project, services, graph),
        environment=environment(),
        options={
            "cache": ask.cache,
            "force": forced(graph, ask.restart_from),
            "profile": settings.profile,
            "folder": os.path.relpath(os.getcwd(), settings.root),
            **(more or {}),
        },
    )
    stored = project.store.create(wanted, graph.to_json(), now)
    known = ask.idempotency_key is not None and (stored.created_at, stored.pid, stored.host) != (now, pid, host)
    return stored, known


def recorded_code(project: Project, services: Services, graph: Graph) -> dict[str, Any]:
    """What a run's record says of its code: git's state, fingerprints, and the project's files as they are now."""
    steps = step_codes(services, graph)
    files = project.fingerprints.sources()
    name = digest_of(files)
    project.store.put_code(name, files, {})
    return {
        "git": git_record(Path(project.settings.root)),
        "steps": steps,
        "sources": name,
        "path": project.fingerprints.search_path(),
    }


def forced(graph: Graph, restart_from: Sequence[str]) -> list[str]:
    """These steps and all that follow. Raises UsageError where there is no such step."""
    names = [node.name for node in graph.nodes]
    for name in restart_from:
        if name not in names:
            raise UsageError(f"pipeline '{graph.pipeline}' has no step '{name}'", hint=did_you_mean(name, names))
    return sorted(graph.downstream(*restart_from)) if restart_from else []


def step_codes(services: Services, graph: Graph) -> dict[str, str]:
    """Target -> digest of its code fingerprint, for every step of a graph."""
    found = {target: services.fingerprints.of(target) for target in dict.fromkeys(n.target for n in graph.nodes)}
    return {target: each.digest for target, each in found.items() if each is not None}


def meaning(graph: Graph) -> Graph:
    """A graph without the line numbers that every edit moves."""
    strip = msgspec.structs.replace
    return strip(
        graph,
        nodes=tuple(strip(node, where=None) for node in graph.nodes),
        scopes=tuple(strip(scope, where=None) for scope in graph.scopes),
    )


def find_run(project: Project, name: str) -> RunSummary:
    """A run by its id, the beginning or end of it, its name (the newest so named), or "last".

    Raises NotFoundError with near names.
    """
    store = project.store
    if name != "last" and (found := store.find_run(name)) is not None:
        return found
    matches = store.match_runs("" if name == "last" else name)
    if matches and (name == "last" or len(matches) == 1):
        found = store.find_run(matches[0])
        assert found is not None
        return found
    newest = store.list_runs(RunQuery(limit=_NAMED_AMONG))
    if named := next((run for run in newest if run.record.name == name), None):
        return named
    if matches:
        raise NotFoundError(
            f"'{name}' fits {len(matches)} runs: {', '.join(matches[:5])}", hint="give a longer part of the id"
        )
    raise NotFoundError(f"there is no run '{name}' in {project.settings.runs_url}", hint=_known_runs(name, newest))


def _known_runs(name: str, newest: list[RunSummary]) -> str:
    """Near ids and names, or else the newest ids first."""
    if not newest:
        return "nothing has been run here yet: penstock run FILE"
    known = [run.record.id for run in newest]
    near = did_you_mean(name, [*known, *dict.fromkeys(run.record.name for run in newest if run.record.name)])
    if near.startswith("did you mean"):
        return near
    return "known: " + ", ".join(known[:12]) + (", …" if len(known) > 12 else "")


def pipeline_of(project: Project, graph: Graph) -> Pipeline[..., Any]:
    place, qualname = split_target(graph.target)
    found = find_qualname(load_module(project.settings.root, place), qualname, place)
    if not isinstance(found, Pipeline):
        raise UsageError(f"'{qualname}' in {place} is no longer a pipeline")
    return found


def with_payloads(traced: TracedPipeline) -> Graph:
    """The graph as every process reads it: functions that are in no file travel inside it."""
    graph = _with_classes_of_main(traced.graph)
    if not traced.functions:
        return graph
    import base64

    import cloudpickle

    def packed(function: Callable[..., Any]) -> str:
        return base64.b64encode(cloudpickle.dumps(function)).decode()

    payloads = {target: packed(function) for target, function in traced.functions.items()}
    nodes = tuple(
        msgspec.structs.replace(node, payload=payloads[node.target]) if node.target in payloads else node
        for node in graph.nodes
    )
    return msgspec.structs.replace(graph, nodes=nodes)


def _with_classes_of_main(graph: Graph) -> Graph:
    """`Retry(on=MyError)` written in the file that is `__main__` here, by the name its module has elsewhere."""
    main = sys.modules.get("__main__")
    name = next((name for name, module in sys.modules.items() if module is main and name != "__main__"), None)
    replace = msgspec.structs.replace

    def renamed(node: Node) -> Node:
        retry = node.options.retry
        if name is None or retry is None or not any(each.startswith("__main__:") for each in retry.on + retry.not_on):
            return node
        on = tuple(each.replace("__main__:", f"{name}:", 1) for each in retry.on)
        not_on = tuple(each.replace("__main__:", f"{name}:", 1) for each in retry.not_on)
        return replace(node, options=replace(node.options, retry=replace(retry, on=on, not_on=not_on)))

    return replace(graph, nodes=tuple(renamed(node) for node in graph.nodes))


def _ask(options: dict[str, Any]) -> Ask:
    unknown: Sequence[str] = [name for name in options if name not in Ask.__struct_fields__]
    if unknown:
        raise UsageError(f"a run has no option '{unknown[0]}'", hint=did_you_mean(unknown[0], Ask.__struct_fields__))
    ask = Ask(**options)
    if isinstance(ask.workers, int) and ask.workers < 1:
        raise UsageError(f"workers is {ask.workers}", hint="a run needs at least one worker")
    return ask


@contextmanager
def _place(ask: Ask, project: Project) -> Iterator[int | Cluster]:
    """Where attempts run: how many processes here, or a cluster that is connected to meanwhile."""
    place = place_of(ask.workers) if ask.workers is not None else project.settings.place
    if isinstance(place, int):
        yield place
        return
    if ask.one_process_per_step:
        raise UsageError(
            f"a process per step, and workers on {place.engine}, cannot be had together",
            hint="leave one of them out: a cluster runs every step in a process of its own machines",
        )
    if project.settings.runs_url in IN_MEMORY:
        raise UsageError(
            f"the run log is in memory, which the machines of {place.engine} cannot reach",
            hint="leave the setting `runs` out for a file beside the code, or set it to postgresql://…",
        )
    cluster = open_cluster(place)
    try:
        yield cluster
    finally:
        cluster.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
