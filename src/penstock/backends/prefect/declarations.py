"""What Prefect makes of each feature, by name. What is not here is refused by whoever asks."""

from __future__ import annotations

from ...graph.demands import Demand, features
from ...ports.backend import Blueprint, Declarations, Verdict, emulated, refused, supported
from .parameters import RESERVED, unusable
from .writing import FORMS

_LAUNCHER = "the worker that runs the step"
_REQUEST = emulated(
    "a request: a process work pool reserves nothing, and every run records that; a pool is a way to wait for places"
)
_FIXED = emulated("fixed when the pipeline is compiled; not in the flow's form")

_ROWS: dict[str, Verdict] = {
    "steps": supported("tasks, ordered by wait_for"),
    "steps in parallel": supported("tasks that do not wait for each other; as many at a time as there are workers"),
    "several outputs": emulated(f"{_LAUNCHER} stores each field"),
    "nested pipeline": emulated("tasks named pipeline/step, in the same flow"),
    "map": supported("one task run per element, named step[2]"),
    "map.of a step's output": supported("task runs are submitted when the list is known"),
    "map.nested": supported("one task run per element, named step[2.0]; an inner map begins when every list is known"),
    "map.several lists": supported("one task run per element"),
    "map.max_size": emulated(f"{_LAUNCHER} refuses a longer list"),
    "guard": emulated(f"{_LAUNCHER} decides; the task run ends as Completed, named Skipped"),
    "guard.inside a map": emulated(f"{_LAUNCHER} decides; the task run ends as Completed, named Skipped"),
    "optional input": emulated(f"{_LAUNCHER} decides"),
    "after": supported("wait_for"),
    "secret": emulated(f"{_LAUNCHER} resolves it; Prefect never sees it"),
    "parameters.static": _FIXED,
    "result": emulated("kept in penstock's run log and stores; Prefect persists no result"),
    "tags": supported("tags of the deployment, name=value"),
    "notebook function": refused("a worker finds a step by its file; move the function into a .py file"),
    "retry.attempts": supported("retries, with a retry_condition_fn"),
    "retry.base": supported("retry_delay_seconds"),
    "retry.factor": supported("retry_delay_seconds, a list"),
    "retry.cap": supported("retry_delay_seconds, a list"),
    "retry.jitter": emulated("Prefect waits for the least of it, then the flow for what the launcher drew"),
    "retry.on": supported("retry_condition_fn, told by the worker"),
    "retry.not_on": supported("retry_condition_fn, told by the worker"),
    "retry.even_if_same": supported("retry_condition_fn, told by the worker"),
    "timeout": supported("TimedOut: the launcher stops the attempt's process; timeout_seconds above it, if that hangs"),
    "isolation": emulated(f"{_LAUNCHER} starts a process of its own where a step asks for it"),
    "resources.cpu": _REQUEST,
    "resources.memory": _REQUEST,
    "resources.gpu": _REQUEST,
    "limits.memory": emulated(f"{_LAUNCHER} enforces it"),
    "limits.on_out_of_memory.factor": emulated(f"{_LAUNCHER} gives the next attempt more"),
    "limits.on_out_of_memory.cap": emulated(f"{_LAUNCHER} gives the next attempt more"),
    "cache": emulated("the launcher's own, shared by all engines (a hit is named Cached); Prefect's is off: NO_CACHE"),
    "env": emulated("read where the worker runs"),
    "effect": emulated(f"{_LAUNCHER} keeps it"),
    "on_invalid.max_fraction": emulated(f"{_LAUNCHER} checks rows at the step's boundary"),
    "on_invalid.max_rows": emulated(f"{_LAUNCHER} checks rows at the step's boundary"),
    "reads": emulated(f"{_LAUNCHER} observes versions"),
    "cache_despite": emulated(f"{_LAUNCHER} decides"),
    "max_parallel": emulated("the flow keeps count: the limits of Prefect's that could do it span all runs"),
    "pool": supported("a task tag with a concurrency limit; the launcher counts, also other engines' steps"),
    "updates": supported("an event penstock.data.updated, where a step has done its work"),
    "schedule.expression": supported("a cron schedule of the deployment"),
    "schedule.tz": supported("the schedule's timezone"),
    "schedule.catch_up": refused(
        "Prefect's server makes no runs for times that passed while it was away, and whoever is away while the server"
        " is up finds every late run: start the missed runs yourself, or accept that only the latter are made up for"
    ),
    "schedule.start": emulated("a run that is scheduled for an earlier time ends as Cancelled, named NotYet"),
    "on_data": supported("an automation: starts a run when steps on this server have updated every URL; for data that"
                         " others write, they emit the event penstock.data.updated of the resource penstock.data.URL"),
    "max_active_runs": supported("the deployment's concurrency_limit, ENQUEUE; not for `python FILE.py`"),
    "fail_fast": emulated("the flow begins nothing more, the launcher stops what runs"),
}  # fmt: skip


def declared(blueprint: Blueprint) -> Declarations:
    """Every feature that there is; a form that Prefect's generated code does not have is refused as a whole."""

    def parameters(demand: Demand) -> Verdict:
        wrong = unusable(blueprint.graph)
        if not wrong:
            return supported("the flow's own, typed, with a form in the UI")
        names = ", ".join(f"'{name}'" for name in wrong)
        return refused(
            f"Prefect takes no flow parameter {names}: {' and '.join(RESERVED)} are its own, and none begins with _;"
            " rename it"
        )

    if blueprint.form not in FORMS:
        known = ", ".join(f'"{form}"' for form in FORMS if form)
        wrong = refused(f'form = "{blueprint.form}" is none of Prefect\'s: {known}; leave it out for a process pool')
        return dict.fromkeys(features(), wrong)
    return {**_ROWS, "parameters": parameters}
