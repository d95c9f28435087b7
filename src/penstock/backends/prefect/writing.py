"""A pipeline as a Prefect flow: one readable file, and the file of the workers beside it. Pure: text from a graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from ...core.errors import UsageError
from ...graph import Argument, Cron, Graph, Node, RetryPolicy, Scope
from ...graph.graph import outputs_in
from ...ports.backend import Blueprint, Bundle
from .layout import bracketed, call, literal, names, quoted
from .naming import apart, flow_identifier, identifiers
from .parameters import FlowParameter, flow_parameters

_BESIDE = Path(__file__).parent / "beside"  # files that lie beside every flow
SERVED = "serve"  # the form in which a process of the user's serves the flow, without a work pool
FORMS = ("", "process", "subprocess", SERVED)
_GRACE_S = 60.0  # beyond what the launcher itself allows an attempt; only a worker that hangs gets so far
_DELAYS = 100  # Prefect goes on with the last delay of a list, so a longer one says no more


def compiled(blueprint: Blueprint) -> Bundle:
    """The generated files. The same blueprint gives the same bytes."""
    if not re.fullmatch(r"[\w-]+", blueprint.name):
        raise UsageError(
            f"{blueprint.name!r} cannot be the name of a deployment", hint="write letters, digits, - and _"
        )
    entry = entry_file(blueprint)
    return Bundle("prefect", entry, {entry: _Flow(blueprint).text(), **_beside()})


def entry_file(blueprint: Blueprint) -> str:
    """The flow's file. Not the pipeline's own name: it may come to lie beside the pipeline's file."""
    return f"{blueprint.name}_flow.py"


@cache
def _beside() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(_BESIDE.glob("*.py"))}


def flow_function(graph: Graph) -> str:
    """The name of the flow's function in the generated file."""
    return _Names(graph).flow


class _Names:
    """Who is called what in the file."""

    def __init__(self, graph: Graph) -> None:
        given = [each.name for each in flow_parameters(graph)]
        self.run, self.pipeline = (apart(name, given) for name in ("run", "PIPELINE"))
        taken = [*given, self.run, self.pipeline]
        self.steps = identifiers((node.name for node in graph.nodes), taken=taken)
        self.flow = flow_identifier(graph.pipeline, taken=[*self.steps.values(), *taken])


class _Flow:
    """One flow file, part by part."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._graph = blueprint.graph
        self._parameters = flow_parameters(self._graph)
        self._names = _Names(self._graph)
        self._inside = _by_scope(self._graph)

    def text(self) -> str:
        parts = [self._head(), self._imports(), self._constants(), *self._tasks(), self._flow(), self._main()]
        head, imports, *rest = (part.strip("\n") for part in parts)
        return f"{head}\n\n{imports}\n\n" + "\n\n\n".join(rest) + "\n"

    # -- head ------------------------------------------------------------------------------------------------------

    def _head(self) -> str:
        blueprint = self._blueprint
        source = blueprint.source or self._graph.target.partition(":")[0]
        made = f"penstock {blueprint.version}".strip()
        file = entry_file(blueprint)
        return "\n".join(
            [
                f'"""The pipeline `{self._graph.pipeline}` as a Prefect flow.',
                "",
                f"Made by {made} from {source}. Do not edit: change the pipeline, then compile it again:",
                "",
                f"    penstock compile {source}:{self._graph.target.rpartition(':')[2]} --on prefect --output DIR",
                "",
                "Steps run in the project's own environment (PIPELINE.python); this file needs Prefect alone.",
                "",
                f"    python {file}{self._example()}",
                f"    python {file} serve",
                "",
                "The first runs the flow now, the second waits for runs that somebody starts or schedules.",
                '"""',
            ]
        )

    def _example(self) -> str:
        required = [each.name for each in self._parameters if each.required]
        return "".join(f" --{name.replace('_', '-')} …" for name in required)

    def _imports(self) -> str:
        limited = self._graph.max_active_runs is not None
        config = ["from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy"]
        typing = sorted({name for each in self._parameters for name in ("Any", "Literal") if name in each.annotation})
        has_mutable = any(isinstance(each.default, (list, dict)) for each in self._parameters)
        return "\n".join(
            [
                *(
                    ["# ruff: noqa: B006 (Prefect's form shows the defaults, and nobody changes them)"]
                    if has_mutable
                    else []
                ),
                *([f"from typing import {', '.join(typing)}", ""] if typing else []),
                "from prefect import flow, task",
                "from prefect.cache_policies import NO_CACHE",
                *(config if limited else []),
                *(["from prefect.schedules import Cron"] if self._graph.schedule else []),
                "",
                "from penstock_run import Pipeline, another_attempt, beside, command_line, perform",
            ]
        )

    def _constants(self) -> str:
        blueprint, schedule = self._blueprint, self._graph.schedule
        manifest = (
            literal(blueprint.manifest)
            if blueprint.manifest
            else f"beside(__file__, {quoted(f'{blueprint.name}.manifest.json')})"
        )
        pipeline = [
            f"manifest={manifest}",
            f"digest={quoted(blueprint.digest)}",
            f"python={quoted(blueprint.python)}",
            f"root={quoted(blueprint.root)}",
            *([f"pools={literal(dict(blueprint.pools), indent=4)}"] if blueprint.pools else []),
            *(["fail_fast=True"] if self._graph.fail_fast else []),
            *(["catch_up=True"] if schedule is not None and schedule.catch_up else []),
            *([f"start={quoted(_moment(schedule))}"] if schedule is not None and schedule.start else []),
        ]
        step = 'STEP = {"cache_policy": NO_CACHE, "persist_result": False, "retry_condition_fn": another_attempt}'
        return f"{call(f'{self._names.pipeline} = Pipeline', pipeline)}\n{step}"

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _tasks(self) -> Iterator[str]:
        for node in self._graph.nodes:
            mapped = node.scope is not None
            given, taken = (", index", "index") if mapped else ("", "")
            text = [
                call("@task", [*_task_options(node, mapped), "**STEP"]),
                f"async def {self._names.steps[node.name]}({taken}):",
                f'    """{_documented(node)}"""',
                f"    return await perform({quoted(node.name)}{given})",
            ]
            yield "\n".join(text)

    # -- the flow --------------------------------------------------------------------------------------------------

    def _flow(self) -> str:
        graph, run = self._graph, self._names.run
        decorator = call("@flow", [f"name={quoted(graph.pipeline)}", "persist_result=False"])
        head = call(f"async def {self._names.flow}", [_declared(each) for each in self._parameters], ":")
        start = call(f"    {run} = {self._names.pipeline}.run", self._given(), indent=4)
        body = [*self._told(None, 1), f"    return await {run}.to_the_end()"]
        return "\n".join([decorator, head, *self._own_defaults(), start, *body])

    def _own_defaults(self) -> list[str]:
        return [
            f"    # {each.name}: None stands for the pipeline's own default, {each.own}"
            for each in self._parameters
            if each.own
        ]

    def _given(self) -> list[str]:
        own = [each.name for each in self._parameters if each.own]
        plain = [each.name for each in self._parameters if not each.own]
        return [_by_name(plain, ""), *([_by_name(own, "or_default=")] if own else [])]

    def _told(self, scope: str | None, depth: int) -> Iterator[str]:
        """What is told to the run inside one map, or outside of all, in the order in which the pipeline was written."""
        margin, run = "    " * depth, self._names.run
        for each in self._inside.get(scope, []):
            if isinstance(each, Node):
                yield margin + call(f"{run}.step", self._step_arguments(each, depth), indent=4 * depth)
                continue
            arguments = [quoted(each.name), *self._waits(_scope_needs(each), depth)]
            yield margin + call(f"with {run}.map", arguments, ":", indent=4 * depth)
            yield from self._told(each.name, depth + 1)

    def _step_arguments(self, node: Node, depth: int) -> list[str]:
        options = node.options
        return [
            self._names.steps[node.name],
            *self._waits(_node_needs(node), depth),
            *([f"at_once={options.max_parallel}"] if options.max_parallel else []),
            *([f"updates={literal(list(options.updates), indent=4 * depth + 4)}"] if options.updates else []),
        ]

    def _waits(self, needs: list[str], depth: int) -> list[str]:
        if not needs:
            return []
        found = [self._names.steps[name] for name in needs]
        return [f"wait_for={names(found, indent=4 * depth + 4, before=4 * depth + 14)}"]

    # -- at the end ------------------------------------------------------------------------------------------------

    def _main(self) -> str:
        graph, blueprint = self._graph, self._blueprint
        tags = [f"{key}={value}" for key, value in graph.tags.items()]
        name = blueprint.name if blueprint.form == SERVED else f"{blueprint.name}-served"
        deployment = [
            f'"name": {quoted(name)}',
            *([f'"schedule": {_cron(graph.schedule)}'] if graph.schedule else []),
            *([f'"global_limit": {_limit(graph.max_active_runs)}'] if graph.max_active_runs else []),
            *([f'"tags": {literal(tags, indent=8)}'] if tags else []),
            f'"version": {quoted(blueprint.digest[:12])}',
        ]
        served = bracketed("    DEPLOYMENT = {", deployment, "}", indent=4)
        return f'if __name__ == "__main__":\n{served}\n    command_line({self._names.flow}, DEPLOYMENT)'


def _by_name(found: list[str], before: str) -> str:
    """Parameters as a dict, as the first thing in a line of the flow's body."""
    return bracketed(before + "{", [f"{quoted(name)}: {name}" for name in found], "}", indent=8)


def _by_scope(graph: Graph) -> dict[str | None, list[Node | Scope]]:
    """What lies directly in each map, and outside of all (None): steps, and maps where their first step is."""
    scopes = {scope.name: scope for scope in graph.scopes}
    found: dict[str | None, list[Node | Scope]] = {}
    placed: set[str] = set()
    for node in graph.nodes:
        above: list[Scope] = []
        name = node.scope
        while name is not None and name not in placed:
            placed.add(name)
            above.append(scopes[name])
            name = scopes[name].parent
        for scope in reversed(above):
            found.setdefault(scope.parent, []).append(scope)
        found.setdefault(node.scope, []).append(node)
    return found


def _declared(parameter: FlowParameter) -> str:
    if parameter.required:
        return f"{parameter.name}: {parameter.annotation}"
    head = f"{parameter.name}: {parameter.annotation} = "
    return head + literal(parameter.default, indent=4, before=4 + len(head))


def _moment(schedule: Cron) -> str:
    """The schedule's start with its offset: a bare one is meant in the schedule's time zone."""
    start = datetime.fromisoformat(schedule.start)
    return (start if start.tzinfo else start.replace(tzinfo=ZoneInfo(schedule.tz))).isoformat()


def _cron(schedule: Cron) -> str:
    return f"Cron({quoted(schedule.expression)}, timezone={quoted(schedule.tz)})"


def _limit(count: int) -> str:
    return call(
        "ConcurrencyLimitConfig", [f"limit={count}", "collision_strategy=ConcurrencyLimitStrategy.ENQUEUE"], indent=8
    )


def _documented(node: Node) -> str:
    target = node.target.replace("\\", "/").replace('"', "'")
    return target if not node.where else f"{target}, called at {node.where}"


def _task_options(node: Node, mapped: bool) -> Iterator[str]:
    options = node.options
    yield f"name={quoted(node.name)}"
    yield f"task_run_name={quoted(node.name + ('[{index}]' if mapped else ''))}"
    if options.retry is not None and options.retry.attempts > 1:
        yield f"retries={options.retry.attempts - 1}"
        yield f"retry_delay_seconds={literal(delays(options.retry), indent=4, before=24)}"
    if options.timeout_s is not None:
        yield f"timeout_seconds={_number(_backstop(options.timeout_s))}"
    if options.pool is not None:
        yield f"tags={literal([options.pool], indent=4)}"


def delays(policy: RetryPolicy) -> list[float]:
    """What Prefect waits for before each further attempt: never more than the policy may draw. With jitter, the
    worker says how much longer it is."""
    least = {"none": 1.0, "equal": 0.5, "full": 0.0}[policy.jitter]
    if least == 0.0:
        return [0]
    found: list[float] = []
    for attempt in range(min(policy.attempts - 1, _DELAYS)):
        try:
            full = min(policy.cap_s, policy.base_s * policy.factor**attempt)
        except OverflowError:
            full = policy.cap_s
        found.append(_number(full * least))
    while len(found) > 1 and found[-1] == found[-2]:  # Prefect repeats the last one by itself
        found.pop()
    return found


def _backstop(timeout_s: float) -> float:
    """Prefect's own timeout, above the launcher's: an attempt may first wait for another one of the same work."""
    return 2 * timeout_s + _GRACE_S


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else round(value, 6)


def _node_needs(node: Node) -> list[str]:
    values: list[Argument] = [*node.inputs.values(), *(guard.value for guard in node.guards)]
    return _in_order([*(output.node for value in values for output in outputs_in(value)), *node.after])


def _scope_needs(scope: Scope) -> list[str]:
    values: list[Argument] = [*scope.over.values(), *(guard.value for guard in scope.guards)]
    return _in_order([output.node for value in values for output in outputs_in(value)])


def _in_order(found: list[str]) -> list[str]:
    return list(dict.fromkeys(found))
