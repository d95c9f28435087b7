"""What is written for Kubeflow: tasks and who they wait for, containers, artifacts, parameters, maps, conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from penstock.backends.kubeflow import KubeflowBackend
from penstock.backends.kubeflow.conditions import decided_by_kubeflow
from penstock.backends.kubeflow.places import Layout
from penstock.core.errors import ConfigError
from penstock.graph import (
    Cron,
    Graph,
    Growth,
    Guard,
    Item,
    LimitPolicy,
    Many,
    Node,
    Output,
    Param,
    Parameter,
    ResourceRequest,
    RetryPolicy,
    Scope,
    Secret,
    StepOptions,
)

from .drawn import graphs
from .plans import compiled, container, graph, plan, tasks

FIT = Node("fit", "churn.py:fit", {"rows": Output("load"), "depth": Param("depth")}, returns="Classifier")
CHURN = graph(Node("load", "churn.py:load", returns="pd.DataFrame"), FIT, parameters=(Parameter("depth", "int", "3"),))


def dags(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "root", spec["root"]["dag"]
    for name, component in spec["components"].items():
        if "dag" in component:
            yield name, component["dag"]


# -- what holds for every pipeline ---------------------------------------------------------------------------------


@settings(max_examples=40)
@given(graphs())
def test_every_step_is_one_task_with_a_container_and_without_kubeflow_s_cache(drawn: Graph) -> None:
    spec, _ = compiled(drawn)
    executors = spec["deploymentSpec"]["executors"]
    found = [task for _, dag in dags(spec) for task in dag["tasks"].values()]
    labels = [spec["components"][task["componentRef"]["name"]].get("executorLabel") for task in found]
    assert sorted(filter(None, labels)) == sorted(executors)
    assert all(task["cachingOptions"] == {} for task, label in zip(found, labels, strict=True) if label)
    steps = [each["container"]["args"] for each in executors.values() if "--step" in each["container"]["args"]]
    assert sorted(args[args.index("--step") + 1] for args in steps) == sorted(node.name for node in drawn.nodes)


@settings(max_examples=40)
@given(graphs())
def test_what_a_task_takes_is_given_to_it_in_its_own_dag(drawn: Graph) -> None:
    """References hold: to a neighbour that it waits for and that gives this, or to an input of the DAG it stands in."""
    spec, _ = compiled(drawn)
    for name, dag in dags(spec):
        around = spec["root"] if name == "root" else spec["components"][name]
        for task in dag["tasks"].values():
            component = spec["components"][task["componentRef"]["name"]]
            iterates = task.get("parameterIterator", {}).get("itemInput")
            for sort in ("artifacts", "parameters"):
                taken = task.get("inputs", {}).get(sort, {})
                declared = component.get("inputDefinitions", {}).get(sort, {})
                assert set(taken) | ({iterates} & set(declared)) == set(declared)
                for source in taken.values():
                    holds(spec, dag, around, task, sort, source)


def holds(
    spec: dict[str, Any], dag: dict[str, Any], around: dict[str, Any], task: dict[str, Any], sort: str, source: Any
) -> None:
    ((word, said),) = source.items()
    if word in ("componentInputArtifact", "componentInputParameter"):
        assert said in around["inputDefinitions"][sort]
    elif word in ("taskOutputArtifact", "taskOutputParameter"):
        assert said["producerTask"] in task["dependentTasks"]
        producer = spec["components"][dag["tasks"][said["producerTask"]]["componentRef"]["name"]]
        key = said.get("outputArtifactKey") or said["outputParameterKey"]
        assert key in producer["outputDefinitions"][sort]
    else:
        assert word in ("runtimeValue", "taskFinalStatus")


@settings(max_examples=40)
@given(graphs())
def test_a_step_waits_for_all_that_it_needs(drawn: Graph) -> None:
    spec, _ = compiled(drawn)
    layout = Layout(drawn, decided_by_kubeflow(drawn))
    around = {component: (name, task) for name, dag in dags(spec) for task in dag["tasks"].values()
              for component in [task["componentRef"]["name"]]}  # fmt: skip

    def chain(component: str) -> list[tuple[str, dict[str, Any]]]:
        found = [around[component]]
        while found[-1][0] != "root":
            found.append(around[found[-1][0]])
        return found

    for node in drawn.nodes:
        waits = {
            (dag, each) for dag, task in chain(f"comp-{layout.tasks[node.name]}") for each in waited(spec, dag, task)
        }
        for need in drawn.needs()[node.name]:
            stands = {(dag, task["taskInfo"]["name"]) for dag, task in chain(f"comp-{layout.tasks[need]}")}
            assert stands & waits, (node.name, need)


def waited(spec: dict[str, Any], dag: str, task: dict[str, Any]) -> set[str]:
    """The neighbours that a task waits for, directly or not."""
    neighbours = dict(dags(spec))[dag]["tasks"]
    found, todo = set[str](), list(task.get("dependentTasks", []))
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += neighbours[name].get("dependentTasks", [])
    return found


@settings(max_examples=20)
@given(graphs())
def test_the_same_pipeline_gives_the_same_bytes(drawn: Graph) -> None:
    backend = KubeflowBackend()
    assert backend.compile(plan(drawn)) == backend.compile(plan(Graph.from_json(drawn.to_json())))


# -- containers ----------------------------------------------------------------------------------------------------


def test_a_container_runs_the_launcher_with_what_kubeflow_hands_it() -> None:
    found = container(CHURN, "fit")
    assert found["image"] == "registry.example/churn:7"
    assert found["command"] == ["python", "-P", "-m", "penstock", "exec-step"]
    digest = plan(CHURN).digest
    assert found["args"] == [
        "--manifest", "s3://lake/penstock/manifests/m.json", "--digest", digest, "--engine", "kubeflow",
        "--step", "fit", "--executor-input", "{{$}}",
    ]  # fmt: skip


def test_the_end_of_the_run_is_an_exit_task_that_is_told_how_the_steps_ended() -> None:
    root = compiled(CHURN)[0]["root"]["dag"]["tasks"]
    assert set(root) == {"steps", "end"}
    assert root["end"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert root["end"]["dependentTasks"] == ["steps"]
    assert root["end"]["inputs"]["parameters"]["penstock_state"] == {"taskFinalStatus": {"producerTask": "steps"}}
    assert "exec-end" in container(CHURN, "end")["command"]


def test_resources_and_limits() -> None:
    node = Node(
        "fit",
        "churn.py:fit",
        options=StepOptions(
            resources=ResourceRequest(cpu=0.5, memory_bytes=8 << 30, gpu=2), limits=LimitPolicy(memory_bytes=1 << 30)
        ),
    )
    assert container(graph(node), "fit")["resources"] == {
        "resourceCpuRequest": "0.5",
        "resourceMemoryRequest": "8Gi",
        "resourceMemoryLimit": "1280Mi",  # and the launcher beside it
        "accelerator": {
            "type": "nvidia.com/gpu", "count": "2", "resourceType": "nvidia.com/gpu", "resourceCount": "2",
        },
    }  # fmt: skip
    other = container(graph(node), "fit", accelerator="amd.com/gpu")["resources"]["accelerator"]
    assert other["resourceType"] == "amd.com/gpu"


def test_a_limit_that_grows_is_the_largest_one_from_the_start() -> None:
    limits = LimitPolicy(memory_bytes=1 << 30, on_out_of_memory=Growth(2.0, 3 << 30))
    node = Node("fit", "churn.py:fit", options=StepOptions(limits=limits, retry=RetryPolicy(attempts=5)))
    assert container(graph(node), "fit")["resources"] == {"resourceMemoryLimit": "3328Mi"}


def test_retries_with_their_backoff() -> None:
    retry = RetryPolicy(attempts=5, base_s=1.5, factor=3.5, cap_s=120)
    node = Node("fit", "churn.py:fit", options=StepOptions(retry=retry))
    assert tasks(graph(node))["fit"]["retryPolicy"] == {
        "maxRetryCount": 4, "backoffDuration": "1s", "backoffFactor": 3.0, "backoffMaxDuration": "31622400s",
    }  # fmt: skip
    once = Node("fit", "churn.py:fit", options=StepOptions(retry=RetryPolicy(attempts=1)))
    assert "retryPolicy" not in tasks(graph(once))["fit"]


@pytest.mark.parametrize(("jitter", "base"), [("none", "4s"), ("equal", "2s"), ("full", "0s")])
@pytest.mark.parametrize(("attempts", "factor"), [(3, 2.0), (5, 2.0), (6, 1.0)])
def test_kubeflow_waits_no_longer_than_the_policy_may_draw(
    jitter: Any, base: str, attempts: int, factor: float
) -> None:
    """Its longest delay is a deadline for all attempts on a cluster, so it is none; what outgrew the cap stays."""
    retry = RetryPolicy(attempts=attempts, base_s=4, cap_s=32, jitter=jitter)
    node = Node("fit", "churn.py:fit", options=StepOptions(retry=retry))
    found = tasks(graph(node))["fit"]["retryPolicy"]
    assert found == {
        "maxRetryCount": attempts - 1, "backoffDuration": base, "backoffFactor": factor,
        "backoffMaxDuration": "31622400s",
    }  # fmt: skip


def test_a_first_delay_is_not_longer_than_the_longest() -> None:
    retry = RetryPolicy(attempts=3, base_s=120, cap_s=60)
    node = Node("fit", "churn.py:fit", options=StepOptions(retry=retry))
    assert tasks(graph(node))["fit"]["retryPolicy"]["backoffDuration"] == "60s"


def test_secrets_are_names_in_a_kubernetes_secret_for_the_containers_that_need_them() -> None:
    needs = Node("fit", "churn.py:fit", {"token": Secret("API_TOKEN"), "own": Param("password")})
    of = graph(
        Node("load", "churn.py:load"), needs, parameters=(Parameter("password", "str", '"secret:DB"', secret=True),)
    )
    spec, platform = compiled(of)
    assert "password" not in spec["root"]["inputDefinitions"]["parameters"]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    def names(label: str) -> list[str]:
        (found,) = executors[label]["secretAsEnv"]
        assert found["secretName"] == "penstock"
        assert found["optional"] is True
        return [each["envVar"] for each in found["keyToEnv"]]

    stores = ["PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"]
    assert names("exec-fit") == [*stores, "API_TOKEN", "DB"]
    assert names("exec-load") == names("exec-end") == stores


# -- artifacts and parameters --------------------------------------------------------------------------------------


def test_lineage_is_native_a_step_takes_the_artifact_that_another_gives() -> None:
    spec, _ = compiled(CHURN)
    given_out = spec["components"]["comp-load"]["outputDefinitions"]["artifacts"]
    assert given_out == {"output": {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}}
    taken = spec["components"]["comp-fit"]["inputDefinitions"]["artifacts"]
    assert taken == {"rows": {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}}
    source = {"taskOutputArtifact": {"outputArtifactKey": "output", "producerTask": "load"}}
    assert tasks(CHURN)["fit"]["inputs"]["artifacts"] == {"rows": source}


def test_several_outputs_and_a_list_of_handles_are_artifacts_of_their_own() -> None:
    split = Node("split", "churn.py:split", outputs=("train", "test"), several=True, returns="Split")
    other = Node("other", "churn.py:other")
    fit = Node(
        "fit", "churn.py:fit", {"all": Many((Output("split", "train"), Output("other"))), "whole": Output("split")}
    )
    found = tasks(graph(split, other, fit))["fit"]["inputs"]["artifacts"]
    assert list(found) == ["all-1", "all-2", "whole-1", "whole-2"]
    assert found["whole-2"] == {"taskOutputArtifact": {"outputArtifactKey": "test", "producerTask": "split"}}


def test_what_would_not_fit_on_a_command_line_is_waited_for_only() -> None:
    many = [Node(f"n{number}", "churn.py:n") for number in range(200)]
    total = Node("total", "churn.py:total", {"all": Many(tuple(Output(each.name) for each in many))})
    found = tasks(graph(*many, total))["total"]
    assert len(found["dependentTasks"]) == 200
    assert "artifacts" not in found["inputs"]


def test_parameters_are_typed_and_have_their_defaults() -> None:
    of = graph(
        Node("fit", "churn.py:fit"),
        parameters=(
            Parameter("depth", "int", "3"),
            Parameter("rate", "float"),
            Parameter("names", "list[str]", '["a"]'),
            Parameter("limit", "int | None", "null"),
            Parameter("fixed", "int", "1", static=True),
        ),
    )
    assert compiled(of)[0]["root"]["inputDefinitions"]["parameters"] == {
        "depth": {"parameterType": "NUMBER_INTEGER", "isOptional": True, "defaultValue": 3},
        "rate": {"parameterType": "NUMBER_DOUBLE"},
        "names": {"parameterType": "LIST", "isOptional": True, "defaultValue": ["a"]},
        "limit": {"parameterType": "STRING", "isOptional": True, "defaultValue": "null"},
        "penstock_run": {"parameterType": "STRING", "isOptional": True, "defaultValue": ""},
    }


def test_whoever_may_come_first_is_told_all_that_the_run_is_given() -> None:
    found = tasks(CHURN)
    assert "depth" in found["load"]["inputs"]["parameters"]  # it does not use it, but may make the run
    alone = graph(Node("a", "c.py:a"), Node("b", "c.py:b", after=("a",)), parameters=(Parameter("x", "int"),))
    assert "x" not in tasks(alone)["b"]["inputs"]["parameters"]
    assert "x" in compiled(alone)[0]["root"]["dag"]["tasks"]["end"]["inputs"]["parameters"]


def test_a_scheduled_run_is_told_its_logical_time() -> None:
    of = graph(Node("fit", "churn.py:fit"), schedule=Cron("0 3 * * *"))
    assert "penstock_logical_time" in compiled(of)[0]["root"]["inputDefinitions"]["parameters"]
    assert "penstock_logical_time" in tasks(of)["fit"]["inputs"]["parameters"]


# -- maps and conditions -------------------------------------------------------------------------------------------


def mapped(**more: Any) -> Graph:
    scope = Scope("fits", {"depth": Param("depths")}, **more)
    load = Node("load", "churn.py:load")
    fit = Node(
        "fit", "churn.py:fit", {"depth": Item("fits", "depth"), "rows": Output("load")}, scope="fits", returns="Model"
    )
    pick = Node("pick", "churn.py:pick", {"models": Output("fit")})
    return graph(load, fit, pick, scopes=(scope,), parameters=(Parameter("depths", "list[int]", "[1]"),))


def test_a_map_is_a_parallel_for_over_index_paths_that_a_task_lists() -> None:
    found = tasks(mapped())
    assert set(found) == {"load", "fits-list", "fits-map", "pick"}
    name = "pipelinechannel--fits-list-Output"
    loop = found["fits-map"]
    assert loop["parameterIterator"] == {"itemInput": f"{name}-loop-item", "items": {"inputParameter": name}}
    assert loop["dependentTasks"] == ["fits-list", "load"]
    assert "--scope" in container(mapped(), "fits-list")["args"]
    inner = tasks(mapped(), "fits-map")["fit"]
    assert inner["inputs"]["parameters"]["penstock_index"] == {"componentInputParameter": f"{name}-loop-item"}
    assert inner["inputs"]["artifacts"] == {"rows": {"componentInputArtifact": "load-output"}}


def test_what_is_collected_is_a_list_of_artifacts_where_the_map_is_known_to_be_small() -> None:
    small = tasks(mapped(max_size=100))["pick"]
    source = {"outputArtifactKey": "fit-output", "producerTask": "fits-map"}
    assert small["inputs"]["artifacts"] == {"models": {"taskOutputArtifact": source}}
    spec, _ = compiled(mapped(max_size=100))
    loop = spec["components"]["comp-fits-map"]
    assert loop["outputDefinitions"]["artifacts"]["fit-output"]["isArtifactList"] is True
    selected = {"artifactSelectors": [{"outputArtifactKey": "output", "producerSubtask": "fit"}]}
    assert loop["dag"]["outputs"]["artifacts"] == {"fit-output": selected}
    assert spec["components"]["comp-pick"]["inputDefinitions"]["artifacts"]["models"]["isArtifactList"] is True
    for other in (mapped(), mapped(max_size=101)):
        found = tasks(other)["pick"]
        assert found["dependentTasks"] == ["fits-map"]
        assert "artifacts" not in found["inputs"]


def test_a_map_in_a_map_lists_below_the_element_it_stands_in() -> None:
    of = graph(
        Node("shop", "c.py:shop", {"s": Item("shops", "s")}, scope="shops"),
        Node("day", "c.py:day", {"d": Item("days", "d")}, scope="days"),
        Node("sum", "c.py:sum", {"all": Output("day")}, scope="shops"),
        scopes=(Scope("shops", {"s": Param("p")}), Scope("days", {"d": Output("shop")}, parent="shops")),
        parameters=(Parameter("p", "list[int]", "[1]"),),
    )
    inner = tasks(of, "shops-map")
    assert set(inner) == {"shop", "days-list", "days-map", "sum"}
    assert inner["sum"]["dependentTasks"] == ["days-map"]
    args = container(of, "days-list")["args"]
    assert args[args.index("--below") + 1] == "{{$.inputs.parameters['penstock_index']}}"


def test_max_parallel_limits_a_map_and_makes_the_one_around_it_go_one_by_one() -> None:
    few = StepOptions(max_parallel=3)
    of = graph(
        Node("day", "c.py:day", {"d": Item("days", "d")}, scope="days", options=few),
        scopes=(Scope("shops", {"s": Param("p")}), Scope("days", {"d": Param("p")}, parent="shops")),
        parameters=(Parameter("p", "list[int]", "[1]"),),
    )
    assert tasks(of)["shops-map"]["iteratorPolicy"] == {"parallelismLimit": 1}
    assert tasks(of, "shops-map")["days-map"]["iteratorPolicy"] == {"parallelismLimit": 3}


def gated(*more: Node) -> Graph:
    return graph(
        Node("fit", "c.py:fit"),
        Node("gate", "c.py:gate", {"m": Output("fit")}, outputs=("passed", "why"), several=True),
        Node("register", "c.py:register", {"m": Output("fit")}, guards=(Guard(Output("gate", "passed")),)),
        Node("deploy", "c.py:deploy", {"v": Output("register")}, guards=(Guard(Output("gate", "passed")),)),
        *more,
    )


def test_a_condition_that_nobody_outside_waits_for_is_kubeflow_s_own() -> None:
    found = tasks(gated())
    assert set(found) == {"fit", "gate", "when-gate"}
    name = "pipelinechannel--gate--when-1"
    assert found["when-gate"]["triggerPolicy"] == {"condition": f"inputs.parameter_values['{name}'] == 'true'"}
    assert set(tasks(gated(), "when-gate")) == {"register", "deploy"}


@pytest.mark.parametrize(
    "more",
    [
        Node("tell", "c.py:tell", {"v": Output("register", optional=True)}),
        Node("tell", "c.py:tell", after=("deploy",)),
    ],
    ids=["optional input", "after"],
)
def test_a_condition_that_somebody_outside_waits_for_is_the_launcher_s(more: Node) -> None:
    found = tasks(gated(more))
    assert set(found) == {"fit", "gate", "register", "deploy", "tell"}
    assert all("condition" not in task.get("triggerPolicy", {}) for task in found.values())


def test_what_is_skipped_with_a_condition_stands_under_it() -> None:
    assert set(tasks(gated(Node("tell", "c.py:tell", {"v": Output("deploy")})), "when-gate")) == {
        "register", "deploy", "tell",
    }  # fmt: skip


def test_steps_under_one_condition_that_need_different_steps_are_not_held_back_together() -> None:
    other = Node("other", "c.py:other")
    own = Node("own", "c.py:own", {"o": Output("other")}, guards=(Guard(Output("gate", "passed")),))
    assert "when-gate" not in tasks(gated(other, own))


# -- the file ------------------------------------------------------------------------------------------------------


def test_names_that_kubeflow_does_not_take_are_replaced_and_stay_apart() -> None:
    of = graph(*(Node(name, "c.py:x") for name in ("Größe", "größe", "日本", "a/b", "a_b", "end", "steps")))
    assert list(tasks(of)) == ["gr-e", "gr-e-2", "step", "a-b", "a-b-2", "end-2", "steps-2"]
    args = container(of, "step")["args"]
    assert args[args.index("--step") + 1] == "日本"


@pytest.mark.parametrize("name", ["churn", "daily_sales", "Daily-Sales", "d" * 70, "___", "x_" * 40])
def test_the_pipeline_s_name_is_one_that_kubeflow_takes_and_nobody_else_has(name: str) -> None:
    found = compiled(CHURN, name=name)[0]["pipelineInfo"]["name"]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", found)
    assert len(found) <= 56
    assert (found == name) is (name == "churn")
    assert found != compiled(CHURN, name=name + "_")[0]["pipelineInfo"]["name"]


def test_the_head_tells_where_it_comes_from() -> None:
    bundle = KubeflowBackend().compile(plan(CHURN))
    head = [line for line in bundle.files["churn.yaml"].splitlines() if line.startswith("#")]
    assert head[0] == "# Pipeline 'churn', made by penstock 1.0 from churn.py."
    assert "Do not edit" in head[1]
    assert "#   fit: churn.py:fit -> Classifier" in head


def test_without_an_image_or_a_store_that_containers_reach_it_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="no image") as missing:
        KubeflowBackend().compile(plan(CHURN, image=""))
    assert "penstock build" in str(missing.value)
    with pytest.raises(ConfigError, match="cannot reach"):
        KubeflowBackend().compile(plan(CHURN, manifest="", artifacts="/home/me/churn/.penstock/artifacts"))
