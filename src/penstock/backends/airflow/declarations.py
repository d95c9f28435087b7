"""What Airflow makes of each feature of a pipeline: its own, kept by the launcher, or not kept."""

from __future__ import annotations

from collections.abc import Callable

from ...graph.demands import Demand
from ...ports.backend import Blueprint, Declarations, Verdict, emulated, refused, supported
from .pods import GPU

_LAUNCHER = emulated("the launcher does it where the step runs")


def declarations(blueprint: Blueprint, form: str) -> Declarations:
    """A verdict for every feature, in the form that the blueprint asks for."""
    return {**_SHAPE, **_RETRIES, **_OPTIONS, **_SCHEDULES, **_places(blueprint, form)}


def _factor(demand: Demand) -> Verdict:
    if demand.raw == 1:
        return supported("the same retry_delay each time")
    return supported("retry_exponential_backoff, which draws between once and twice the delay, in whole seconds")


def _jitter(demand: Demand) -> Verdict:
    return emulated("the launcher waits for the time that it drew, on the task's own slot")


def _assets(word: str) -> Callable[[Demand], Verdict]:
    def verdict(demand: Demand) -> Verdict:
        wrong = [each for each in demand.raw or () if not each.isascii() or each.startswith("airflow:")]
        if wrong:
            return refused(f"an asset of Airflow cannot be named {wrong[0]!r}: use ASCII, and no 'airflow:'")
        return supported(word)

    return verdict


_SHAPE: Declarations = {
    "steps": supported("tasks"),
    "steps in parallel": supported("tasks that do not wait for each other"),
    "several outputs": emulated("the launcher keeps each as an artifact of its own"),
    "nested pipeline": supported("TaskGroup"),
    "map": supported("dynamic task mapping; a list longer than core.max_map_length goes in chunks"),
    "map.of a step's output": supported("expand() over index paths that a task lists"),
    "map.nested": emulated(
        "one map over the index paths of both, such as 2.0; an inner map begins when all outer steps it needs are done"
    ),
    "map.several lists": emulated("the launcher takes them side by side"),
    "map.max_size": emulated("the launcher refuses a longer list before any element starts"),
    "guard": emulated("the launcher decides; a skipped step is a skipped task"),
    "guard.inside a map": emulated("the launcher decides for each element; a skipped element is a skipped task"),
    "optional input": emulated("trigger_rule, and the launcher decides"),
    "after": supported("an edge"),
    "parameters": supported("params, with a form to trigger a run"),
    "parameters.static": supported("fixed in the generated file"),
    "result": emulated("kept in the run log; XCom carries references only"),
    "tags": supported("tags"),
    "notebook function": refused("it is in no file that an Airflow worker could import: move it into a module"),
}

_RETRIES: Declarations = {
    "retry.attempts": supported("retries"),
    "retry.base": supported("retry_delay"),
    "retry.factor": _factor,
    "retry.cap": supported("max_retry_delay"),
    "retry.jitter": _jitter,
    "retry.on": emulated("the launcher tells Airflow whether to try again"),
    "retry.not_on": emulated("the launcher tells Airflow whether to try again"),
    "retry.even_if_same": emulated("the launcher tells Airflow whether to try again"),
}

_OPTIONS: Declarations = {
    "timeout": emulated("the launcher ends the attempt, with everything below it; execution_timeout stands behind it"),
    "isolation": emulated("every step has a process of its own"),
    "limits.memory": _LAUNCHER,
    "limits.on_out_of_memory.factor": _LAUNCHER,
    "limits.on_out_of_memory.cap": _LAUNCHER,
    "cache": _LAUNCHER,
    "env": _LAUNCHER,
    "effect": _LAUNCHER,
    "on_invalid.max_fraction": _LAUNCHER,
    "on_invalid.max_rows": _LAUNCHER,
    "reads": _LAUNCHER,
    "cache_despite": _LAUNCHER,
    "max_parallel": supported("max_active_tis_per_dagrun"),
    "pool": supported("pool, which must exist in Airflow"),
    "updates": _assets("outlets: an Asset is updated when the step has succeeded"),
}

_SCHEDULES: Declarations = {
    "schedule.expression": supported("CronTriggerTimetable: the logical time is the cron time itself"),
    "schedule.tz": supported("the timetable's timezone"),
    "schedule.catch_up": supported("catchup"),
    "schedule.start": supported("start_date"),
    "on_data": _assets("schedule=[Asset(…)]: a run when all of them were updated"),
    "max_active_runs": supported("max_active_runs"),
    "fail_fast": emulated("the launcher starts nothing more after a failure; Airflow's tasks then end at once"),
}


def _places(blueprint: Blueprint, form: str) -> Declarations:
    """What depends on where steps run."""
    if form == "kubernetes":
        requests = supported("the pod's requests")
        return {
            "resources.cpu": requests,
            "resources.memory": requests,
            "resources.gpu": supported(f"the pod's limit of {blueprint.accelerator or GPU}"),
            "limits.memory": supported("the launcher, and 256 MiB above it, which it needs itself, the pod's limit"),
            "secret": emulated(
                f"the launcher reads it in the pod, from the Kubernetes secret '{blueprint.secret or 'penstock'}'"
            ),
        }
    nowhere = refused(
        "a step gets what its worker has: accept that, or choose the kubernetes form, which asks for resources"
    )
    if form == "docker":
        return {
            "resources.cpu": nowhere,
            "resources.memory": nowhere,
            "resources.gpu": supported("device_requests"),
            "limits.memory": supported("the launcher, and 256 MiB above it, which it needs itself, mem_limit"),
            "secret": emulated("the launcher reads it in the container, which gets the worker's variable of that name"),
        }
    return {
        "resources.cpu": nowhere,
        "resources.memory": nowhere,
        "resources.gpu": nowhere,
        "secret": emulated("the launcher reads it from the worker's environment, or the project's own secrets"),
    }
