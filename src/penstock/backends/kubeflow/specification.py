"""The pipeline's specification, as Kubeflow's IR has it: components, what their containers run, and the DAGs of tasks.

Plain dicts rather than the protobufs of `kfp-pipeline-spec`: nothing to install, readable in the order written here.
Tests parse the result into those protobufs, and load it with the SDK.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from typing import Any

from ...core.jsonvalue import loads
from ...graph import Node, Output, Param, RetryPolicy, Scope, outputs_in
from ...graph.graph import Argument, Fields, Many, Mapping
from ...ports.backend import Blueprint
from .conditions import Conditions, decided_by_kubeflow
from .containers import executor
from .going_on import go_on_after
from .kinds import artifact_kinds, given, parameter_kind, to_kubeflow
from .names import ENGINE_RUN, INDEX, LOGICAL_TIME, RUN, STATE, pipeline_name
from .places import END, STEPS, Entry, Layout, Place
from .wiring import Artifact, Given, Wiring, item_name, list_name

_NEVER_S = 366 * 86400
_INPUTS_MOST = 64  # artifacts that one task takes natively: all of them travel as one argument of a command
_ENGINE_RUN = Given({"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}, "STRING")


class Specification:
    """Of one pipeline. `whole` is ready to be written as YAML."""

    def __init__(self, blueprint: Blueprint) -> None:
        graph = blueprint.graph
        self._blueprint = blueprint
        self._conditions = Conditions(graph)
        decided = decided_by_kubeflow(graph)
        self._layout = Layout(graph, decided)
        self._told = self._conditions.told(decided)
        self.going_on = go_on_after(self._layout)
        self._parameters = given(graph.parameters)
        kinds = {each.name: parameter_kind(each) for each in self._parameters}
        self._own = [RUN, LOGICAL_TIME] if graph.schedule is not None else [RUN]
        self._wiring = Wiring(self._layout, self._conditions, kinds | dict.fromkeys(self._own, "STRING"))
        self._components: dict[str, Any] = {}
        self._executors: dict[str, Any] = {}
        self.steps: dict[str, Node | None] = {}  # label of each executor -> its step

    def task(self, node: str) -> str:
        """What Kubeflow calls a step."""
        return self._layout.tasks[node]

    def loop(self, scope: str) -> str:
        return self._layout.loop(scope).task

    def whole(self) -> dict[str, Any]:
        graph, steps = self._blueprint.graph, self._layout.steps
        self._place(steps)
        for place in self._layout.places:
            self._gives(place)
        tasks = {STEPS: self._dag_task(Entry(STEPS, place=steps)), END: self._end()}
        root: dict[str, Any] = {"dag": {"tasks": tasks}}
        if inputs := self._pipeline_inputs():
            root["inputDefinitions"] = {"parameters": inputs}
        return {
            "pipelineInfo": {"name": pipeline_name(self._blueprint.name), "description": f"penstock: {graph.target}"},
            "root": root,
            "components": self._components,
            "deploymentSpec": {"executors": self._executors},
            "schemaVersion": "2.1.0",
            "sdkVersion": f"penstock-{self._blueprint.version}",
        }

    def _pipeline_inputs(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in self._parameters:
            kind = parameter_kind(each)
            found[each.name] = {"parameterType": kind}
            if each.default is not None:
                as_text = kind == "STRING" and each.annotation != "str"
                default = each.default if as_text else to_kubeflow(each, loads(each.default))
                found[each.name] |= {"isOptional": True, "defaultValue": default}
        for name in self._own:
            found[name] = {"parameterType": "STRING", "isOptional": True, "defaultValue": ""}
        return found

    # -- DAGs ----------------------------------------------------------------------------------------------------

    def _place(self, place: Place) -> None:
        """One DAG and those inside it; the tasks note what it must be given on the way."""
        tasks = {}
        self._components[f"comp-{place.task}"] = {}  # it stands before what is inside it
        for entry in place.entries.values():
            if entry.place is not None:
                self._place(entry.place)
                tasks[entry.task] = self._dag_task(entry)
            elif entry.listing is not None:
                tasks[entry.task] = self._list_task(place, entry, entry.listing)
            elif entry.node is not None:
                tasks[entry.task] = self._step_task(place, entry, entry.node)
        handed = self._wiring.handed[place.task]
        dag: dict[str, Any] = {"tasks": tasks}
        component: dict[str, Any] = {"dag": dag}
        parameters = {name: each.kind for name, each in handed.parameters.items()}
        if place.scope is not None:
            parameters |= {list_name(self._layout, place): "LIST", item_name(self._layout, place): "STRING"}
        parameters |= dict.fromkeys((name for name, _ in self._guards(place)), "STRING")
        if inputs := _definitions(parameters, handed.artifacts):
            component["inputDefinitions"] = inputs
        self._components[f"comp-{place.task}"] = component

    def _gives(self, place: Place) -> None:
        """What comes out of a DAG, which is known when everybody has said what they take."""
        gives, component = self._wiring.handed[place.task].gives, self._components[f"comp-{place.task}"]
        if gives:
            component["dag"]["outputs"] = {
                "artifacts": {
                    name: {"artifactSelectors": [{"outputArtifactKey": field, "producerSubtask": task}]}
                    for name, (task, field, _) in gives.items()
                }
            }
            lists = {name: Artifact({}, kind, is_list=True).declared() for name, (_, _, kind) in gives.items()}
            component["outputDefinitions"] = {"artifacts": lists}

    def _guards(self, place: Place) -> list[tuple[str, Given]]:
        return [self._wiring.condition(place, guard) for guard in place.guards]

    def _dag_task(self, entry: Entry) -> dict[str, Any]:
        place = entry.place
        assert place is not None
        handed, more = self._wiring.handed[place.task], dict[str, Any]()
        parameters = dict(handed.parameters)
        if place.scope is not None:
            name, listed = list_name(self._layout, place), self._layout.lists[place.scope.name]
            output = {"outputParameterKey": "Output", "producerTask": listed}
            parameters[name] = Given({"taskOutputParameter": output}, "LIST")
            item = item_name(self._layout, place)
            more["parameterIterator"] = {"itemInput": item, "items": {"inputParameter": name}}
            if most := self._parallel(place):
                more["iteratorPolicy"] = {"parallelismLimit": most}
        if guards := self._guards(place):
            parameters |= dict(guards)
            tests = [f"inputs.parameter_values['{name}'] == 'true'" for name, _ in guards]
            more["triggerPolicy"] = {"condition": " && ".join(tests)}
        return {**self._task(entry, parameters, handed.artifacts), **more}

    def _parallel(self, place: Place) -> int | None:
        """How many elements at once: as many as the step of the map allows that allows fewest. A map around a map whose
        steps have a limit goes one by one, for the inner one alone keeps it."""
        limits: list[int] = []
        for inner in place.walk():
            is_deeper = any(each.scope is not None for each in inner.path[len(place.path) :])
            for entry in inner.entries.values():
                if entry.node is not None and entry.node.options.max_parallel is not None:
                    limits.append(1 if is_deeper else entry.node.options.max_parallel)
        return min(limits, default=None)

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _step_task(self, place: Place, entry: Entry, node: Node) -> dict[str, Any]:
        parameters = self._common(place, entry) | {
            name: self._wiring.parameter(place, name) for name in sorted(_parameters_in(node)) if self._is_given(name)
        }
        if (element := self._wiring.element(place)) is not None:
            parameters[INDEX] = element
        artifacts = self._inputs(place, node)
        component: dict[str, Any] = {"executorLabel": f"exec-{entry.task}"}
        component["inputDefinitions"] = _definitions({name: each.kind for name, each in parameters.items()}, artifacts)
        outputs = {name: Artifact({}, kind) for name, kind in artifact_kinds(node).items()}
        if told := _definitions(dict.fromkeys(self._told[node.name], "STRING"), outputs):
            component["outputDefinitions"] = told
        self._components[f"comp-{entry.task}"] = component
        command = ["exec-step", "--step", node.name, *(["--go-on"] if node.name in self.going_on else [])]
        if element is not None:
            command += ["--index", f"{{{{$.inputs.parameters['{INDEX}']}}}}"]
        self._run(entry.task, command, node)
        task = self._task(entry, parameters, artifacts)
        if (policy := _retry_policy(node)) is not None:
            task["retryPolicy"] = policy
        return task

    def _list_task(self, place: Place, entry: Entry, scope: Scope) -> dict[str, Any]:
        parameters = self._common(place, entry)
        command = ["exec-map", "--scope", scope.name]
        if (element := self._wiring.element(place)) is not None:
            parameters[INDEX] = element
            command += ["--below", f"{{{{$.inputs.parameters['{INDEX}']}}}}"]
        self._components[f"comp-{entry.task}"] = {
            "executorLabel": f"exec-{entry.task}",
            "inputDefinitions": _definitions({name: each.kind for name, each in parameters.items()}, {}),
            "outputDefinitions": {"parameters": {"Output": {"parameterType": "LIST"}}},
        }
        self._run(entry.task, command)
        return self._task(entry, parameters, {})

    def _end(self) -> dict[str, Any]:
        names = [*(each.name for each in self._parameters), *self._own]
        parameters = {name: Given({"componentInputParameter": name}, self._wiring.kind(name)) for name in names}
        parameters[ENGINE_RUN] = _ENGINE_RUN
        kinds: dict[str, Any] = {name: {"parameterType": each.kind} for name, each in parameters.items()}
        kinds[STATE] = {"parameterType": "TASK_FINAL_STATUS", "isOptional": True}
        parameters[STATE] = Given({"taskFinalStatus": {"producerTask": STEPS}}, "TASK_FINAL_STATUS")
        self._components[f"comp-{END}"] = {"executorLabel": f"exec-{END}", "inputDefinitions": {"parameters": kinds}}
        self._run(END, ["exec-end"])
        task = self._task(Entry(END, after={STEPS}), parameters, {})
        return {**task, "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}}

    def _run(self, task: str, command: list[str], node: Node | None = None) -> None:
        self._executors[f"exec-{task}"] = executor(self._blueprint, command, node)
        self.steps[f"exec-{task}"] = node

    def _common(self, place: Place, entry: Entry) -> dict[str, Given]:
        """Which run it is. Whoever may come first makes the run, and is told all that the run is given."""
        comes_first = place.above is None and not entry.after
        names = [*(each.name for each in self._parameters), *self._own] if comes_first else [RUN]
        return {name: self._wiring.parameter(place, name) for name in names} | {ENGINE_RUN: _ENGINE_RUN}

    def _inputs(self, place: Place, node: Node) -> dict[str, Artifact]:
        """Natively, what the steps before it returned; too much of it, or in lists of lists, is only waited for."""
        found: dict[str, Artifact] = {}
        for argument, value in node.inputs.items():
            outputs = [each for output in outputs_in(value) for each in self._fields(output)]
            for number, output in enumerate(outputs, 1):
                name = argument if len(outputs) == 1 else f"{argument}-{number}"
                artifact = self._wiring.artifact(place, output)
                if artifact is not None:
                    found[f"{name}-artifact" if self._is_given(name) else name] = artifact
        return found if len(found) <= _INPUTS_MOST else {}

    def _fields(self, output: Output) -> list[Output]:
        node = self._wiring.node(output.node)
        if output.field is not None or not node.several:
            return [output]
        return [Output(output.node, field, output.optional) for field in node.outputs]

    def _is_given(self, name: str) -> bool:
        return any(each.name == name for each in self._parameters)

    def _task(self, entry: Entry, parameters: dict[str, Given], artifacts: dict[str, Artifact]) -> dict[str, Any]:
        task: dict[str, Any] = {"componentRef": {"name": f"comp-{entry.task}"}, "taskInfo": {"name": entry.task}}
        if entry.after:
            task["dependentTasks"] = sorted(entry.after)
        inputs: dict[str, Any] = {}
        if artifacts:
            inputs["artifacts"] = {name: each.source for name, each in artifacts.items()}
        if parameters:
            inputs["parameters"] = {name: each.source for name, each in parameters.items()}
        if inputs:
            task["inputs"] = inputs
        if entry.place is None:
            task["cachingOptions"] = {}  # off: a hit is the launcher's, which verifies it
        return task


def _definitions(parameters: dict[str, str], artifacts: dict[str, Artifact]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if artifacts:
        found["artifacts"] = {name: each.declared() for name, each in artifacts.items()}
    if parameters:
        found["parameters"] = {name: {"parameterType": kind} for name, kind in parameters.items()}
    return found


def _retry_policy(node: Node) -> dict[str, Any] | None:
    """Kubeflow never waits longer than the policy may draw; the launcher waits for the rest.

    Kubeflow's "longest delay" is no such thing on a cluster: Argo takes it for a deadline, counted from the first
    attempt's start. So it is out of reach, and where delays would outgrow the policy's cap they do not grow here. Argo
    counts in whole seconds, and by whole numbers.
    """
    retry = node.options.retry
    if retry is None or retry.attempts < 2:
        return None
    least = {"none": 1.0, "equal": 0.5, "full": 0.0}[retry.jitter]
    return {
        "maxRetryCount": retry.attempts - 1,
        "backoffDuration": f"{int(min(retry.base_s, retry.cap_s) * least)}s",
        "backoffFactor": 1.0 if _outgrows_cap(retry) else float(max(int(retry.factor), 1)),
        "backoffMaxDuration": f"{_NEVER_S}s",
    }


def _outgrows_cap(retry: RetryPolicy) -> bool:
    if retry.factor <= 1 or retry.base_s <= 0:
        return False
    return (retry.attempts - 2) * log(retry.factor) > log(retry.cap_s / retry.base_s) + 1e-9


def _parameters_in(node: Node) -> set[str]:
    return {name for argument in node.inputs.values() for name in _names(argument)}


def _names(argument: Argument) -> Iterator[str]:
    if isinstance(argument, Param):
        yield argument.name
    elif isinstance(argument, Many | Mapping | Fields):
        items: Sequence[Argument] = argument.items
        for item in items:
            yield from _names(item)
