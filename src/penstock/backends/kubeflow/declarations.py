"""What Kubeflow makes of each feature of a pipeline: its own, kept by the launcher, or not kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ...graph import Graph, Scope
from ...graph.demands import Demand
from ...ports.backend import Blueprint, Declarations, Verdict, emulated, refused, supported
from .conditions import decided_by_kubeflow
from .going_on import go_on_after
from .places import Layout

LOCAL = "local"  # the endpoint of runs on this machine, under kfp.local
UTC = ("UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu", "Universal")
_LAUNCHER = emulated("the launcher does it in the step's container")
_NO_CLOCK = emulated("kept with the pipeline; kfp.local has no clock")
_NOTHING_RESERVED = emulated("a request: kfp.local reserves nothing, and every run records that")
MOST_AT_ONCE = 10  # runs of one recurring run: its own limit


def declared(blueprint: Blueprint) -> Declarations:
    """A verdict for every feature, on a cluster or under kfp.local."""
    is_local = blueprint.endpoint == LOCAL
    return {
        **_SHAPE,
        **_shape_of(blueprint.graph),
        **_RETRIES,
        **_OPTIONS,
        **(_CLUSTER if not is_local else _HERE),
        "secret": emulated(_where_secrets_come_from(blueprint, is_local)),
        "max_active_runs": _most_runs(blueprint.graph, is_local),
    }


_SHAPE: Declarations = {
    "steps": supported("a container each"),
    "several outputs": supported("output artifacts, one per field"),
    "nested pipeline": emulated("flat: its steps carry its name before theirs"),
    "map.of a step's output": supported("ParallelFor over index paths that a task lists"),
    "map.nested": supported("ParallelFor inside ParallelFor"),
    "map.several lists": emulated("the launcher takes them side by side"),
    "map.max_size": emulated("the launcher refuses a longer list before any element starts"),
    "after": supported("dependentTasks"),
    "parameters": supported("typed pipeline parameters with their defaults; other types as JSON text"),
    "parameters.static": supported("fixed in the file"),
    "result": emulated("kept in the run log; what Kubeflow hands on are references"),
    "tags": emulated("kept with every run in the run log"),
    "notebook function": refused("it is in no file that a container could import: move it into a module"),
}

_RETRIES: Declarations = {
    "retry.attempts": supported(
        "retryPolicy.maxRetryCount; after a failure that is final, Kubeflow's further attempts end at once, uncounted"
    ),
    "retry.base": supported("retryPolicy.backoffDuration"),
    "retry.factor": supported("retryPolicy.backoffFactor"),
    "retry.cap": emulated("Kubeflow's delay does not grow where it would outgrow it; the launcher waits for the rest"),
    "retry.jitter": emulated("the launcher waits in the container for the time that it drew"),
    "retry.on": emulated("Kubeflow knows no exceptions: the launcher ends further attempts at once, uncounted"),
    "retry.not_on": emulated("Kubeflow knows no exceptions: the launcher ends further attempts at once, uncounted"),
    "retry.even_if_same": _LAUNCHER,
}

_OPTIONS: Declarations = {
    "timeout": emulated("Kubeflow has none for a task: the launcher ends the attempt, with everything below it"),
    "isolation": emulated("every step has a container of its own"),
    "limits.on_out_of_memory.factor": _LAUNCHER,
    "limits.on_out_of_memory.cap": _LAUNCHER,
    "cache": emulated("the launcher does it in the step's container; cachingOptions are off"),
    "env": emulated("the launcher reads it in the step's container, which must have it"),
    "effect": _LAUNCHER,
    "on_invalid.max_fraction": _LAUNCHER,
    "on_invalid.max_rows": _LAUNCHER,
    "reads": _LAUNCHER,
    "cache_despite": _LAUNCHER,
    "pool": emulated("Kubeflow has none: the launcher waits in the container for a place of the pool"),
    "fail_fast": emulated("the launcher starts nothing more after a failure; what Kubeflow starts then ends at once"),
}


def _zone(demand: Demand) -> Verdict:
    if demand.raw in UTC:
        return supported("its cron counts in UTC")
    return refused(f"Kubeflow's cron counts in UTC only, and {demand.value} may change its clocks: write it in UTC")


_CLUSTER: Declarations = {
    "steps in parallel": supported("tasks that do not wait for each other"),
    "resources.cpu": supported("resourceCpuRequest"),
    "resources.memory": supported("resourceMemoryRequest"),
    "resources.gpu": supported("accelerator"),
    "limits.memory": supported("the launcher, and resourceMemoryLimit behind it"),
    "schedule.expression": supported(f"a recurring run; Kubeflow has at most {MOST_AT_ONCE} of its runs at once"),
    "schedule.tz": _zone,
    "schedule.catch_up": supported("no_catchup=False"),
    "schedule.start": supported("start_time; what is deployed in place of an older one starts with its deployment"),
    "updates": refused("Kubeflow starts no pipeline when data changes: give the pipeline that waits a schedule"),
    "on_data": refused("Kubeflow starts no pipeline when data changes: give it a schedule"),
}

_HERE: Declarations = {
    "steps in parallel": emulated("kfp.local runs one after the other, and two elements of a map at a time"),
    "resources.cpu": _NOTHING_RESERVED,
    "resources.memory": _NOTHING_RESERVED,
    "resources.gpu": _NOTHING_RESERVED,
    "limits.memory": _LAUNCHER,
    "schedule.expression": _NO_CLOCK,
    "schedule.tz": _NO_CLOCK,
    "schedule.catch_up": _NO_CLOCK,
    "schedule.start": _NO_CLOCK,
    "updates": emulated("kept with the pipeline; nobody here waits for it"),
    "on_data": _NO_CLOCK,
}


_END_WELL = (
    "So that what still has to run does, these end well in Kubeflow even when they fail, and only the end of the run "
    "shows it"
)


def _shape_of(graph: Graph) -> dict[str, Callable[[Demand], Verdict] | Verdict]:
    """What depends on how the steps hang together."""
    decided = decided_by_kubeflow(graph)
    layout = Layout(graph, decided)
    stoppers = cache(lambda: sorted(go_on_after(layout)))  # looked for where it matters: it takes a while

    def mapped(demand: Demand) -> Verdict:
        if circle := layout.circle():
            return refused(
                f"Kubeflow waits for a map as a whole, and these would wait for each other: {' → '.join(circle)}. "
                "Make two maps of it"
            )
        how = "ParallelFor; what is collected in lists of at most 100 is handed on as artifacts, too"
        inside = {node.name for node in graph.nodes if demand.subject in graph.scopes_of(node.scope)}
        if failing := [name for name in stoppers() if name in inside]:
            return emulated(f"{how}. {_END_WELL}: {', '.join(failing)}")
        return supported(how)

    def guarded(demand: Demand) -> Verdict:
        if demand.subject in decided:
            return supported("triggerPolicy.condition")
        return emulated("the launcher decides: the container starts, and ends at once")

    def forgiving(demand: Demand) -> Verdict:
        if failing := stoppers():
            return emulated(f"the launcher decides. {_END_WELL}: {', '.join(failing)}")
        return emulated("the launcher decides")

    def parallel(demand: Demand) -> Verdict:
        scope = next((node.scope for node in graph.nodes if node.name == demand.subject), None)
        if scope is None:
            return supported("it has one instance")
        if _has_parent(graph, scope):
            return emulated("parallelismLimit of the inner map, with the outer one element after the other")
        return supported("parallelismLimit")

    return {
        "map": mapped, "guard": guarded, "guard.inside a map": guarded, "optional input": forgiving,
        "max_parallel": parallel,
    }  # fmt: skip


def _has_parent(graph: Graph, name: str) -> bool:
    scope: Scope = graph.scope(name)
    return scope.parent is not None


def _where_secrets_come_from(blueprint: Blueprint, is_local: bool) -> str:
    if is_local:
        return "the launcher reads it in the container, which is given this machine's variable of that name"
    return f"the launcher reads it in the container, from the Kubernetes secret '{blueprint.secret or 'penstock'}'"


def _most_runs(graph: Graph, is_local: bool) -> Verdict:
    if is_local:
        return refused("kfp.local knows of one run only, and nobody counts them: start them one after the other")
    if graph.schedule is None:
        return refused("Kubeflow counts only the runs of a recurring run: give it a schedule")
    if graph.max_active_runs is not None and graph.max_active_runs > MOST_AT_ONCE:
        return refused(f"a recurring run has at most {MOST_AT_ONCE} runs at once")
    return supported("max_concurrency of the recurring run; runs that are started by hand are not counted")
