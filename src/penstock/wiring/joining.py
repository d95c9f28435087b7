"""A process that an engine started joins its run: the graph, the stores, and the run, made where it is not there yet.

The engine's own name of its run is an idempotency key, so whichever command comes first makes penstock's run, and all
others find it. A run keeps the graph it began with: it is read from the run log where the manifest is a newer one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..authoring.parameters import fit_value
from ..authoring.pipeline import Pipeline
from ..core.canonical import digest_bytes
from ..core.errors import NotFoundError, ParameterError, UsageError
from ..core.jsonvalue import loads
from ..engine.single import StepSession
from ..graph import Graph
from ..ports.records import RunRecord
from ..ports.runlog import Store
from .config import check_pools
from .manifest import Manifest, read_manifest
from .project import Project
from .runner import Ask, create_run, pipeline_of
from .worker import MODULE

_CONTAINERS = ("docker", "kubernetes")  # forms whose steps run in the project's image


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine's command says of its run."""

    manifest: str
    engine: str = ""
    engine_run: str = ""
    run: str = ""  # one that penstock has made already: its id, or that with the number of the ownership ("ID.2")
    digest: str = ""  # that the manifest must have
    logical_time: str = ""  # ISO
    parameters: str = ""  # a JSON object of plain values
    handed: Any = None  # ExecutorInput: what Kubeflow hands to a container, instead of flags


def joined(
    asked: Joining, opened: Callable[[Project], Store], told: Callable[[str], None] | None = None
) -> StepSession:
    """The session of a run. Raises UsageError, ParameterError or NotFoundError where there can be none."""
    manifest = read_manifest(asked.manifest, asked.digest)
    project = Project(manifest.settings)
    if asked.handed is not None:
        asked.handed.artifacts_url = project.settings.artifacts_url
    store = opened(project)
    record = _found(asked, manifest, project, store) or _created(asked, manifest, project)
    graph = manifest.graph
    if record.manifest != digest_bytes(graph.to_json()):
        graph = Graph.from_json(store.manifest(record.manifest))  # deployed anew since, or resumed with other code
    check_pools(graph, manifest.settings)
    services = project.services(graph)
    return StepSession(
        graph,
        record,
        store,
        services,
        worker_module=MODULE,
        engine=asked.engine,
        engine_run=asked.run or asked.engine_run,
        in_image=asked.handed is not None or manifest.settings.form in _CONTAINERS,
        is_older=record.manifest != digest_bytes(manifest.graph.to_json()),
        told=told,
    )


def _found(asked: Joining, manifest: Manifest, project: Project, store: Store) -> RunRecord | None:
    run_id = asked.run.partition(".")[0] or store.run_of_key(_key(asked, manifest))
    if not run_id:
        return None
    found = store.find_run(run_id)
    if found is None:
        raise NotFoundError(f"there is no run '{run_id}' in {project.settings.runs_url}")
    return found.record


def _created(asked: Joining, manifest: Manifest, project: Project) -> RunRecord:
    """The run, by whichever command of the engine comes first."""
    graph = manifest.graph
    ask = Ask(
        idempotency_key=_key(asked, manifest),
        trigger=asked.engine,
        logical_time=_microseconds(asked.logical_time),
    )
    more: dict[str, Any] = {"engine_run": asked.engine_run, "deployment": manifest.deployment}
    if manifest.waived:
        more["waived"] = list(manifest.waived)
    parameters = _parameters(asked, pipeline_of(project, graph), graph)
    return create_run(project, project.services(graph), graph, parameters, ask, engine=asked.engine, more=more)[0]


def _key(asked: Joining, manifest: Manifest) -> str:
    if not (asked.engine and asked.engine_run):
        raise UsageError("which run? give --run ID, or --engine NAME and --engine-run KEY")
    return f"{asked.engine}:{manifest.deployment or manifest.graph.target}:{asked.engine_run}"


def _parameters(asked: Joining, pipeline: Pipeline[..., Any], graph: Graph) -> dict[str, str]:
    """Values that the engine was given, checked against the signature. A null stands for "not given"."""
    try:
        given = msgspec.json.decode(asked.parameters, type=dict[str, Any]) if asked.parameters.strip() else {}
        given |= asked.handed.parameters(graph.parameters) if asked.handed is not None else {}
    except msgspec.MsgspecError as error:
        raise ParameterError(f"the parameters from {asked.engine} are no JSON object: {error}") from error
    annotations = pipeline.signature.annotations
    fixed = {each.name: each.default for each in graph.parameters if each.static}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is None and not _takes_none(graph, name):
            continue
        values[name] = fit_value(name, value, annotations[name]) if name in annotations else value
    for name, text in fixed.items():
        static = loads(text, annotations[name]) if text is not None else None
        if values.setdefault(name, static) != static:
            raise ParameterError(
                f"'{name}' was fixed as {static!r} when '{graph.pipeline}' was compiled for {asked.engine}",
                hint="deploy it again with another value",
            )
    return pipeline.parameters(values)


def _takes_none(graph: Graph, name: str) -> bool:
    return any(each.name == name and "None" in each.annotation for each in graph.parameters)


def _microseconds(text: str) -> int | None:
    if not text or text == "None":
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--logical-time {text!r} is no time", hint="write for example 2026-11-27T03:00:00Z") from None
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def from_environment(name: str) -> str:
    """PENSTOCK_RUN, PENSTOCK_PARAMETERS, …; "" where it is not set."""
    return os.environ.get(f"PENSTOCK_{name}", "")


def handed_by_kubeflow(text: str) -> Any:
    """What Kubeflow hands to a container. Raises UsageError where it is something else."""
    from ..backends.kubeflow.executor import ExecutorInput  # other engines' commands do without its room

    return ExecutorInput(text)
