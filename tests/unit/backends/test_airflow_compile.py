"""The DAG file that is written for Airflow: what it may import, what it says of each option, that it is tidy."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from penstock.backends.airflow import AirflowBackend
from penstock.backends.airflow.parameters import Form
from penstock.core.errors import ConfigError, DefinitionError
from penstock.graph import Cron, Graph, Item, Node, Output, Parameter, RetryPolicy, Scope, StepOptions, Value
from penstock.graph.demands import demands, features
from penstock.graph.options import Growth, LimitPolicy, ResourceRequest
from penstock.ports.backend import Blueprint, Support, check

FORMS = ("subprocess", "docker", "kubernetes")
ALLOWED = {
    "__future__", "airflow", "contextlib", "datetime", "docker", "json", "kubernetes", "os", "pathlib", "subprocess",
    "tempfile", "zoneinfo",
}  # fmt: skip

OPTIONS = StepOptions(
    retry=RetryPolicy(attempts=4, base_s=2.0, factor=3.0, cap_s=60.0),
    timeout_s=90.0,
    resources=ResourceRequest(cpu=0.5, memory_bytes=8 * 2**30, gpu=1),
    limits=LimitPolicy(memory_bytes=2**30, on_out_of_memory=Growth(2.0, 4 * 2**30)),
    max_parallel=3,
    pool="gpus",
    updates=("s3://lake/orders",),
)
RICH = Graph.checked(
    pipeline="rich",
    target="flows/rich.py:rich",
    nodes=(
        Node("first", "flows/rich.py:first", options=OPTIONS),
        Node("prepare/split", "flows/rich.py:split", {"x": Output("first")}),
        Node("fit", "flows/rich.py:fit", {"x": Item("fit", "x")}, scope="fit"),
        Node("größe", "flows/rich.py:groesse", {"xs": Output("fit")}),
        Node("class", "flows/rich.py:kind", after=("größe", "first")),
    ),
    scopes=(Scope("fit", {"x": Output("prepare/split")}),),
    parameters=(
        Parameter(
            "uri",
            "str",
            '"s3://lake/say \\"hi\\" \\\\ and a path so long that no line could ever hold all of it/orders"',
        ),
        Parameter("depths", "list[int]", "[4,6,8]"),
        Parameter("shape", "tuple[int, int]", '{"$":"tuple","v":[1,2]}'),
        Parameter("odd", "Any", '{"$":"float","v":"nan"}'),
        Parameter("folds", "Annotated[int, 'penstock.static']", "5", static=True),
        Parameter("token", "str", '"secret:API_TOKEN"', secret=True),
    ),
    tags={"team": "growth", "owner": "ana"},
    schedule=Cron("0 3 * * *", "Europe/Paris", catch_up=True, start="2026-01-31"),
    on_data=("s3://lake/orders",),
    max_active_runs=2,
)


def blueprint(graph: Graph = RICH, form: str = "", **changes: Any) -> Blueprint:
    far: dict[str, Any] = {}
    if form in ("docker", "kubernetes"):
        far = {"image": "r.example/rich:1", "manifest": "s3://ml/m.json", "artifacts": "s3://ml/a"}
    made = Blueprint(graph=graph, name=graph.pipeline, digest="ab" * 20, manifest="", root="/srv/rich",
                     python="/srv/rich/.venv/bin/python", runs="postgresql://db/penstock", artifacts="/srv/artifacts",
                     home="/srv/rich/.penstock", form=form, source="flows/rich.py", version="1.2.3")  # fmt: skip
    return msgspec.structs.replace(made, **(far | changes))


def compiled(graph: Graph = RICH, form: str = "", **changes: Any) -> str:
    bundle = AirflowBackend().compile(blueprint(graph, form, **changes))
    return bundle.files[bundle.entry]


def calls(text: str, name: str) -> dict[str, dict[str, str]]:
    """First argument -> keyword arguments as source, of every call of a function."""
    found = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
    return {
        ast.unparse(each.args[0]).strip("'\""): {str(key.arg): ast.unparse(key.value) for key in each.keywords}
        for each in found
        if isinstance(each.func, ast.Name) and each.func.id == name and each.args
    }


def one(**options: Any) -> Graph:
    return Graph.checked(
        pipeline="one", target="f.py:one", nodes=(Node("a", "f.py:a", options=StepOptions(**options)),)
    )


def step_class(text: str) -> Any:
    """The file's `Step`, above an operator that only keeps what it is given, as Airflow's own does."""

    class Operator:
        execution_timeout: timedelta | None = None

        def __init__(self, **options: Any) -> None:
            vars(self).update(options)

    (found,) = (each for each in ast.parse(text).body if isinstance(each, ast.ClassDef) and each.name == "Step")
    names: dict[str, Any] = {"Penstock": Operator, "AirflowException": RuntimeError}
    exec(compile(ast.Module([found], []), "dag.py", "exec"), names)
    return names["Step"]


# -- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_it_imports_airflow_and_never_penstock(form: str) -> None:
    tree = ast.parse(compiled(form=form))
    modules = {each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    modules |= {name.name for each in ast.walk(tree) if isinstance(each, ast.Import) for name in each.names}
    assert {each.partition(".")[0] for each in modules} <= ALLOWED
    if form == "subprocess":
        assert {each for each in modules if each.startswith("airflow")} == {"airflow.sdk", "airflow.sdk.exceptions"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("graph", [RICH, one()], ids=["rich", "one"])
def test_it_is_as_a_formatter_and_a_linter_would_have_it(form: str, graph: Graph, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    file = tmp_path / "dag.py"
    file.write_text(compiled(graph, form), encoding="utf-8")
    options = ["--isolated", "--no-cache", "--line-length", "110"]
    rules = ["--select", "E,F,W,I,B,UP,C4,SIM", "--ignore", "E501"]  # a text may be longer than any line
    for command in (["check", *options, *rules], ["format", *options, "--diff"]):
        done = subprocess.run([ruff, *command, str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_pipeline_gives_the_same_bytes_and_no_time_or_user_is_in_them() -> None:
    assert compiled() == compiled(Graph.from_json(RICH.to_json()))


def test_the_head_says_what_it_is_and_how_to_change_it() -> None:
    head = ast.get_docstring(ast.parse(compiled(profile="prod"))) or ""
    assert "a pipeline of flows/rich.py, written for Airflow by penstock 1.2.3" in head
    assert "penstock deploy flows/rich.py --on airflow --profile prod" in head


def test_quotes_and_backslashes_in_names_of_files_do_no_harm() -> None:
    head = ast.get_docstring(ast.parse(compiled(source='a"""b\\c.py'))) or ""
    assert "a'''b\\c.py" in head


def test_names_that_python_or_the_file_itself_has_are_no_variables() -> None:
    names = ("class", "step", "json", "a-b", "end")
    nodes = tuple(Node(name, "f.py:f", after=names[:at]) for at, name in enumerate(names))
    text = compiled(Graph.checked(pipeline="dag", target="f.py:dag", nodes=nodes))
    assert set(calls(text, "step")) == set(names)
    compile(text, "dag.py", "exec")


def test_pipelines_nested_deeper_than_python_allows_blocks_are_flattened() -> None:
    name = "/".join(f"p{at}" for at in range(40)) + "/leaf"
    text = compiled(Graph.checked(pipeline="deep", target="f.py:deep", nodes=(Node(name, "f.py:f"),)))
    compile(text, "dag.py", "exec")
    assert name in calls(text, "step")


def test_a_group_that_comes_back_is_opened_again_and_not_made_twice() -> None:
    nodes = (Node("p/a", "f.py:a"), Node("b", "f.py:b", after=("p/a",)), Node("p/c", "f.py:c", after=("b",)))
    text = compiled(Graph.checked(pipeline="back", target="f.py:back", nodes=nodes))
    assert text.count('TaskGroup("p")') == 1


# -- options -----------------------------------------------------------------------------------------------------


def test_options_are_airflows_own_where_it_has_them() -> None:
    first = calls(compiled(), "step")["first"]
    assert first["retries"] == "3"
    assert first["retry_delay"] == "timedelta(seconds=2)"
    assert first["retry_exponential_backoff"] == "3.0"
    assert first["max_retry_delay"] == "timedelta(minutes=1)"
    assert first["max_active_tis_per_dagrun"] == "3"
    assert first["pool"] == "'gpus'"
    assert first["outlets"] == "[Asset('s3://lake/orders')]"


@pytest.mark.parametrize(
    ("policy", "delay", "backoff"),
    [
        (RetryPolicy(2, base_s=4, factor=1), "timedelta(seconds=4)", None),
        (RetryPolicy(2, base_s=9, factor=2, cap_s=5), "timedelta(seconds=5)", None),
        (RetryPolicy(2, base_s=4, factor=2, jitter="full"), "timedelta(seconds=0)", None),
        (RetryPolicy(2, base_s=4, factor=2, jitter="equal"), "timedelta(seconds=2)", "2"),
        (RetryPolicy(2, base_s=0, factor=2), "timedelta(seconds=0)", None),
    ],
)
def test_airflow_never_waits_longer_than_a_drawn_delay_may_be(
    policy: RetryPolicy, delay: str, backoff: str | None
) -> None:
    found = calls(compiled(one(retry=policy)), "step")["a"]
    assert found["retry_delay"] == delay
    assert found.get("retry_exponential_backoff") == backoff


def test_a_step_without_a_policy_is_tried_once() -> None:
    assert "retries" not in calls(compiled(one()), "step")["a"]
    assert '"retries": 0' in compiled(one())


def test_the_backstop_lies_behind_every_attempt_that_the_launcher_may_wait_for() -> None:
    text = calls(compiled(one(timeout_s=90.0, retry=RetryPolicy(3, cap_s=60))), "step")["a"]["execution_timeout"]
    seconds = eval(text, {"timedelta": __import__("datetime").timedelta}).total_seconds()
    assert seconds > 3 * 90 + 2 * 60


def test_pods_ask_for_resources_and_are_capped_above_where_growing_ends() -> None:
    needs = calls(compiled(form="kubernetes"), "step")["first"]["needs"]
    assert ast.literal_eval(needs) == {"cpu": 0.5, "memory": "8Gi", "gpu": 1, "memory_limit": "4352Mi"}
    first = calls(compiled(form="docker"), "step")["first"]
    assert (first["gpus"], first["mem_limit"]) == ("1", str((4096 + 256) * 2**20))


def test_a_container_has_room_for_the_launcher_above_the_limit_of_its_step() -> None:
    """They share a cgroup: at the step's own limit the kernel would kill the launcher before it records why."""
    graph = one(limits=LimitPolicy(memory_bytes=2**30))
    assert calls(compiled(graph, "docker"), "step")["a"]["mem_limit"] == str(2**30 + 256 * 2**20)
    needs = calls(compiled(graph, "kubernetes"), "step")["a"]["needs"]
    assert ast.literal_eval(needs) == {"memory_limit": "1280Mi"}
    for form in ("docker", "kubernetes"):
        told = check("airflow", AirflowBackend().declarations(blueprint(graph, form)), graph, demands(graph), ())
        assert ["256 MiB" in row.verdict.how for row in told.rows if row.demand.feature == "limits.memory"] == [True]


@pytest.mark.parametrize("form", ["docker", "kubernetes"])
def test_a_limit_that_grows_without_an_end_is_none_of_the_container(form: str) -> None:
    graph = one(limits=LimitPolicy(memory_bytes=2**30, on_out_of_memory=Growth(2.0)))
    assert "limit" not in str(calls(compiled(graph, form), "step")["a"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("index", "elements"), [("", 1), ("2.0", 1), ("0,1,2", 3)])
def test_the_backstop_of_a_chunk_is_that_of_each_of_its_elements_together(form: str, index: str, elements: int) -> None:
    step = step_class(compiled(form=form))(step="fit", index=index, execution_timeout=timedelta(minutes=2))
    step.pre_execute({})
    assert step.execution_timeout == elements * timedelta(minutes=2)
    unbounded = step_class(compiled(form=form))(step="fit", index=index)
    unbounded.pre_execute({})
    assert unbounded.execution_timeout is None


def test_a_step_that_airflow_starts_too_early_says_what_happened_and_what_to_do() -> None:
    step = step_class(compiled())(step="fit", index="3")
    step.command = lambda *words: 4
    with pytest.raises(RuntimeError, match=r"step fit\[3\] did not start: .* is not done yet") as caught:
        step.execute({"ti": SimpleNamespace(try_number=1)})
    for advice in ("deployed again", "Clear this task", "`penstock resume`"):
        assert advice in str(caught.value)


def test_containers_join_the_network_of_the_profile() -> None:
    assert "NETWORK = None" in compiled(form="docker")
    assert 'NETWORK = "ml_default"' in compiled(form="docker", network="ml_default")


def test_pods_take_the_secret_and_the_accelerator_of_the_profile() -> None:
    text = compiled(form="kubernetes")
    assert 'SECRET = "penstock"' in text
    assert 'ACCELERATOR = "nvidia.com/gpu"' in text
    text = compiled(form="kubernetes", secret="churn-secrets", accelerator="amd.com/gpu")
    assert 'SECRET = "churn-secrets"' in text
    assert 'ACCELERATOR = "amd.com/gpu"' in text
    assert "nvidia" not in text


def test_the_schedule_is_a_timetable_whose_logical_time_is_the_cron_time() -> None:
    text = compiled()
    assert 'CronTriggerTimetable("0 3 * * *", timezone="Europe/Paris")' in text
    assert "AssetOrTimeSchedule" in text
    assert "catchup=True" in text
    assert 'start_date=datetime(2026, 1, 31, tzinfo=ZoneInfo("Europe/Paris"))' in text
    assert "max_active_runs=2" in text


def test_without_catching_up_no_time_before_the_deployment_is_made_up_for() -> None:
    graph = msgspec.structs.replace(one(), schedule=Cron("@hourly"[0:0] + "0 * * * *"))
    text = compiled(graph)
    assert "run_immediately=timedelta(seconds=0)" in text
    assert "catchup=False" in text


def test_a_pipeline_that_starts_by_itself_needs_defaults() -> None:
    graph = msgspec.structs.replace(one(), parameters=(Parameter("n", "int"),), schedule=Cron("0 3 * * *"))
    with pytest.raises(DefinitionError, match="needs values for n"):
        compiled(graph)


# -- parameters --------------------------------------------------------------------------------------------------


def test_the_form_asks_for_what_may_be_given_and_shows_no_secret() -> None:
    form = Form(RICH.parameters)
    assert list(form.params) == ["uri", "depths", "shape", "odd"]
    assert form.params["depths"].options["items"] == {"type": "integer"}
    assert form.params["shape"].arguments == ([1, 2],)
    assert form.as_written == ["odd"]
    assert "API_TOKEN" not in compiled()


def test_a_default_that_is_null_is_null_and_one_that_cannot_be_shown_is_left_to_the_pipeline() -> None:
    form = Form((Parameter("a", "int | None", "null"), Parameter("b", "float", '{"$":"float","v":"nan"}')))
    assert form.params["a"].options["type"] == ["integer", "null"]
    assert form.as_written == ["b"]


# -- what it keeps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_feature_has_an_answer(form: str) -> None:
    declared = AirflowBackend().declarations(blueprint(form=form))
    assert set(features()) <= set(declared)


def test_a_worker_gives_no_resources_and_says_so() -> None:
    found = check("airflow", AirflowBackend().declarations(blueprint()), RICH, demands(RICH), ())
    assert {row.demand.feature for row in found.refused} == {"resources.cpu", "resources.memory", "resources.gpu"}


def test_an_asset_that_airflow_could_not_name_is_refused() -> None:
    graph = one(updates=("s3://lake/größe",))
    found = check("airflow", AirflowBackend().declarations(blueprint(graph)), graph, demands(graph), ())
    assert [row.verdict.support for row in found.rows if row.demand.feature == "updates"] == [Support.REFUSED]


@pytest.mark.parametrize("form", ["docker", "kubernetes"])
def test_a_container_that_could_reach_nothing_is_refused_with_all_reasons(form: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(form=form, image="", manifest="", runs="sqlite:///x.db", artifacts="/srv/a")
    for reason in ("no image", "manifest", "run log", "artifact store"):
        assert reason in str(caught.value)


def test_an_unknown_form_is_told_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="kubernets"):
        compiled(form="kubernets")


def test_a_value_that_is_mapped_over_needs_no_step() -> None:
    graph = Graph.checked(
        pipeline="flat", target="f.py:flat",
        nodes=(Node("a", "f.py:a", {"x": Item("a", "x")}, scope="a"),), scopes=(Scope("a", {"x": Value("[1]")}),),
    )  # fmt: skip
    assert calls(compiled(graph), "elements") == {"a": {"task_id": "'a_elements'"}}
