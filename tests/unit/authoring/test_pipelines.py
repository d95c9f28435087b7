"""What a traced pipeline is: the graph that its body says, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.authoring.identity import load_file
from penstock.authoring.options import Cron, OnData
from penstock.authoring.options import Secret as secret
from penstock.authoring.pipeline import Pipeline
from penstock.core.errors import DefinitionError, ParameterError
from penstock.graph import Fields, Graph, Guard, Item, Many, Mapping, Output, Param, Secret, Value

shop: Any = load_file(str(Path(__file__).parent / "shop.py"))
HERE = Path(shop.__file__)


def graph_of(name: str, **parameters: Any) -> Graph:
    pipeline: Pipeline[..., Any] = getattr(shop, name)
    return pipeline.trace(pipeline.parameters(parameters)).graph


def inputs(graph: Graph, name: str) -> dict[str, Any]:
    return graph.node(name).inputs


def test_a_step_call_becomes_a_node_named_after_its_function_with_the_line_of_the_call() -> None:
    node = graph_of("named_outputs").node("extract")
    assert node.target == f"{HERE.relative_to(Path.cwd()).as_posix()}:extract"
    assert node.where is not None
    assert "split(extract())" in HERE.read_text().splitlines()[node.where.line - 1]
    assert (node.inputs, node.outputs, node.several, node.returns) == ({}, ("output",), False, "list[int]")


def test_a_namedtuple_gives_a_handle_per_field_by_name_by_unpacking_and_as_a_whole() -> None:
    graph = graph_of("named_outputs")
    assert graph.node("split").outputs == ("train", "test")
    assert graph.node("split").several
    assert graph.scope("square").over == {"x": Output("split", "train")}
    assert inputs(graph, "total") == {"xs": Output("split", "test")}
    assert inputs(graph, "size_of") == {"parts": Output("split")}
    assert graph.result == Output("size_of")


def test_only_declared_fields_make_several_outputs() -> None:
    assert graph_of("branching").node("judge").outputs == ("passed", "reasons")
    assert not graph_of("branching").node("total").several


def test_a_map_opens_a_scope_over_a_parameter_an_output_or_a_constant() -> None:
    graph = graph_of("maps", depths=[1])
    assert graph.scope("square").over == {"x": Param("depths")}
    assert graph.scope("square_2").over == {"x": Output("extract"), "plus": Param("depths")}
    assert graph.scope("square_3").over == {"x": Value("[0,1,2]")}
    assert graph.scope("square_3").max_size == 10
    assert inputs(graph, "square_3") == {"x": Item("square_3", "x"), "plus": Param("shift")}
    assert {node.name: node.scope for node in graph.nodes} == {
        "square": "square", "extract": None, "square_2": "square_2", "square_3": "square_3",
    }  # fmt: skip


def test_options_of_pipeline_and_step_are_in_the_graph() -> None:
    graph = graph_of("maps", depths=[1])
    assert graph.schedule is not None
    assert (graph.schedule.tz, graph.tags, graph.fail_fast) == ("Europe/Paris", {"team": "growth"}, True)
    options = graph_of("named_outputs").node("total").options
    assert options.retry is not None
    assert (options.retry.attempts, options.retry.base_s, options.timeout_s) == (2, 1.0, 600.0)


def test_a_mapped_pipeline_nests_its_scopes() -> None:
    graph = graph_of("nested_maps", shops=["a"])
    assert graph.scope("of_shop").parent is None
    assert graph.scope("of_shop/forecast").parent == "of_shop"
    assert graph.scopes_of(graph.node("of_shop/forecast").scope) == ("of_shop", "of_shop/forecast")
    assert inputs(graph, "of_shop/days") == {"shop": Item("of_shop", "shop")}
    assert inputs(graph, "of_shop/forecast") == {
        "shop": Item("of_shop", "shop"), "day": Item("of_shop/forecast", "day"),
    }  # fmt: skip
    assert inputs(graph, "flat") == {"xs": Output("of_shop/forecast")}
    for scope in graph.scopes:
        assert scope.where is not None
        assert ".map(" in HERE.read_text().splitlines()[scope.where.line - 1]


def test_a_nested_pipeline_has_a_namespace_per_call_and_its_constants_are_inputs() -> None:
    graph = graph_of("nesting")
    assert [node.name for node in graph.nodes] == [
        "extract", "scored/total", "scored/square", "scored_2/total", "scored_2/square", "scored_2/square_2",
    ]  # fmt: skip
    assert inputs(graph, "scored_2/total") == {"xs": Value("[1,2]")}
    assert graph.result == Mapping(("once", "again"), (Output("scored/square"), Output("scored_2/square_2")))


def test_a_branch_puts_its_guard_on_the_steps_inside_and_branches_nest() -> None:
    graph = graph_of("branching")
    passed = Guard(Output("judge", "passed"), "true")
    assert graph.node("say").guards == (passed,)
    assert graph.node("loud").guards == (passed, Guard(Param("note"), '"loud"'))
    assert graph.node("bad").guards == (Guard(Output("judge", "passed"), "false"),)
    assert graph.node("last").guards == ()


def test_an_optional_input_says_so_also_for_the_fields_of_an_optional_handle() -> None:
    assert inputs(graph_of("branching"), "last")["note"] == Output("loud", optional=True)
    assert inputs(graph_of("optional_fields"), "say")["verdict"] == Output("judge_2", optional=True)
    assert shop.optional(3) == 3


def test_a_static_parameter_shapes_the_graph_and_is_fixed_in_it() -> None:
    graph = graph_of("unrolled", times=3, loud=True)
    assert [node.name for node in graph.nodes] == ["fetch", "fetch_2", "fetch_3", "cleanup"]
    assert graph.result == Many((Output("fetch"), Output("fetch_2"), Output("fetch_3")))
    assert [(p.name, p.default, p.static) for p in graph.parameters] == [("times", "3", True), ("loud", "true", True)]
    assert [node.name for node in graph_of("unrolled", times=1).nodes] == ["fetch"]


def test_a_static_parameter_without_a_value_is_asked_for_by_name() -> None:
    with pytest.raises(ParameterError, match="needs a value for its Static parameter 'times'") as caught:
        shop.unrolled.trace()
    assert "--times" in str(caught.value.hint)


def test_a_secret_is_in_the_graph_by_name_and_its_value_is_refused() -> None:
    graph = graph_of("secretive")
    assert inputs(graph, "read") == {"token": Secret("OTHER")}
    assert inputs(graph, "read_2") == {"token": Param("token")}
    assert graph.parameters[0].secret
    assert shop.secretive.parameters({}) == {"token": '"secret:SHOP_TOKEN"'}
    assert shop.secretive.parameters({"token": secret("NEW")}) == {"token": '"secret:NEW"'}
    with pytest.raises(ParameterError) as caught:
        shop.secretive.parameters({"token": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert b"hunter2" not in graph.to_json()


def test_after_orders_steps_that_share_no_data_in_both_forms() -> None:
    graph = graph_of("ordered")
    assert graph.node("cleanup").after == ("total", "extract")
    assert graph.needs()["cleanup"] == {"total", "extract"}


def test_parameters_are_checked_all_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        shop.maps.parameters({"depths": "a", "shift": "b", "shfit": 1})
    assert all(text in caught.value.problem for text in ("'depths' takes list[int]", "'shift' takes int", "'shfit'"))
    with pytest.raises(ParameterError, match="is missing 'depths'"):
        shop.maps.run()
    with pytest.raises(ParameterError, match="cannot be kept"):
        Pipeline(lambda what: None, name="any").parameters({"what": object()})


def test_an_untouched_pipeline_has_the_same_bytes_every_time() -> None:
    for name, parameters in {"nesting": {}, "nested_maps": {"shops": ["a"]}, "branching": {}}.items():
        content = graph_of(name, **parameters).to_json()
        assert content == graph_of(name, **parameters).to_json()
        assert Graph.from_json(content).to_json() == content
        assert Graph.from_json(content) == graph_of(name, **parameters)


def test_a_pipeline_outside_another_one_can_only_be_run() -> None:
    with pytest.raises(DefinitionError, match="only nests"):
        shop.scored([1])
    with pytest.raises(DefinitionError, match="belongs inside a pipeline"):
        shop.of_shop.map(shop=["a"])


def test_a_handle_of_one_trace_is_refused_in_another(user_file: Any) -> None:
    module = user_file(
        "from penstock import pipeline, step\nkept = []\n"
        "@step\ndef one() -> int:\n    return 1\n"
        "@step\ndef two(a: int) -> int:\n    return a\n"
        "@pipeline\ndef first() -> None:\n    kept.append(one())\n"
        "@pipeline\ndef second() -> None:\n    two(kept[0])\n    two.after(kept[0])(1)\n"
    )
    module.first.trace()
    with pytest.raises(DefinitionError) as caught:
        module.second.trace()
    assert [each.problem for each in caught.value.problems] == [
        "the output of step 'one' belongs to another pipeline"
    ] * 2
    with pytest.raises(DefinitionError, match="calculated with"):
        module.kept[0] + 1


def test_the_first_mistake_of_a_body_is_raised_as_it_is(user_file: Any) -> None:
    module = user_file("from penstock import pipeline\n@pipeline\ndef broken() -> None:\n    raise KeyError('mine')\n")
    with pytest.raises(KeyError, match="mine"):
        module.broken.trace()


def test_several_results_keep_their_class(user_file: Any) -> None:
    module = user_file(
        "from typing import NamedTuple\nfrom penstock import pipeline, step\n"
        "class Both(NamedTuple):\n    a: int\n    b: int\n"
        "@step\ndef one() -> int:\n    return 1\n"
        "@pipeline\ndef both() -> Both:\n    return Both(one(), 2)\n"
    )
    graph = module.both.trace().graph
    assert graph.result == Fields("churn.py:Both", ("a", "b"), (Output("one"), Value("2")))
    assert Graph.from_json(graph.to_json()).result == graph.result


def test_options_that_bound_and_schedule_reach_the_graph(user_file: Any) -> None:
    module = user_file("""
from datetime import date
from penstock import Cron, OnData, pipeline, step

@step(max_parallel=4, pool="big-gpu_1", updates=("s3://raw/a", "s3://raw/b", "s3://raw/a"))
def one(x: int) -> int:
    return x

@pipeline(schedule=OnData("s3://raw/a", "s3://raw/b"), max_active_runs=2)
def by_data() -> list[int]:
    return one.map(x=[1, 2])

@pipeline(schedule=Cron("0 3 * * *", catch_up=True, start=date(2026, 1, 1)))
def by_time() -> int:
    return one.with_options(pool=None, max_parallel=None, updates="s3://raw/c")(1)
""")
    graph = module.by_data.trace().graph
    assert (graph.schedule, graph.on_data, graph.max_active_runs) == (None, ("s3://raw/a", "s3://raw/b"), 2)
    options = graph.node("one").options
    assert (options.max_parallel, options.pool, options.updates) == (4, "big-gpu_1", ("s3://raw/a", "s3://raw/b"))
    graph = module.by_time.trace().graph
    assert graph.schedule == Cron("0 3 * * *", catch_up=True, start="2026-01-01")
    assert (graph.on_data, graph.max_active_runs) == ((), None)
    options = graph.node("one").options
    assert (options.max_parallel, options.pool, options.updates) == (None, None, ("s3://raw/c",))
    assert Graph.from_json(graph.to_json()) == graph


def test_a_schedule_by_data_shows_as_it_is_written() -> None:
    assert repr(OnData("s3://raw/a", "s3://raw/b")) == "OnData('s3://raw/a', 's3://raw/b')"
