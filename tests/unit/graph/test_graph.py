"""A Graph that exists is closed and acyclic, keeps its order, and is the same after a journey through JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.authoring.options import Secret as secret
from penstock.authoring.pipeline import Pipeline
from penstock.authoring.step import Step
from penstock.core.errors import DefinitionError, StoreTooNewError
from penstock.graph import Graph, Guard, Node, Output, Scope, Value, outputs_in


def work(inputs: Any = None, other: Any = None) -> list[Any]:
    return []


TARGET = "penstock.somewhere:work"  # ready-made: where it is found again is said, not derived
STEP: Step[..., Any] = Step(work, target=TARGET)


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """For each step, which earlier ones it takes, waits for, is guarded by, or is mapped over."""
    count = draw(st.integers(1, 12))
    plan = []
    for at in range(count):
        earlier = st.lists(st.integers(0, at - 1), max_size=3, unique=True) if at else st.just([])
        plan.append(
            {
                "takes": draw(earlier),
                "after": draw(earlier),
                "guard": draw(st.integers(0, at - 1)) if at and draw(st.booleans()) else None,
                "over": draw(st.integers(0, at - 1)) if at and draw(st.booleans()) else None,
                "shape": draw(st.sampled_from(["list", "dict", "first", "secret"])),
            }
        )
    return plan


def traced(plan: list[dict[str, Any]]) -> Graph:
    from penstock import when

    def body() -> Any:
        handles: list[Any] = []
        for at, each in enumerate(plan):
            call = STEP.named(f"s{at}").after(*(handles[n] for n in each["after"]))
            taken: Any = [handles[n] for n in each["takes"]]
            if each["shape"] == "dict":
                taken = {str(n): handle for n, handle in enumerate(taken)}
            elif each["shape"] == "first" and taken:
                taken = taken[0]
            elif each["shape"] == "secret":
                taken = [*taken, secret("TOKEN")]

            def record(call: Any = call, taken: Any = taken, over: int | None = each["over"]) -> Any:
                return call(taken) if over is None else call.partial(other=taken).map(inputs=handles[over])

            if each["guard"] is None:
                handles.append(record())
            else:
                with when(handles[each["guard"]], is_=[]):
                    handles.append(record())
        return handles

    pipeline: Pipeline[..., Any] = Pipeline(body, name="random")
    pipeline._target = lambda recorder: "f.py:random"  # type: ignore[method-assign]
    return pipeline.trace().graph


def edges(plan: list[dict[str, Any]]) -> dict[str, set[str]]:
    """What each step must wait for, read off the plan and not off the graph."""
    result = {}
    for at, each in enumerate(plan):
        taken = each["takes"][:1] if each["shape"] == "first" and each["takes"] else each["takes"]
        needs = {*taken, *each["after"], each["guard"], each["over"]} - {None}
        result[f"s{at}"] = {f"s{n}" for n in needs}
    return result


@settings(max_examples=80, deadline=None)
@given(plans())
def test_a_traced_pipeline_keeps_every_edge_orders_itself_and_survives_json(plan: list[dict[str, Any]]) -> None:
    graph, expected = traced(plan), edges(plan)
    assert graph.needs() == expected
    order = graph.order()
    assert sorted(order) == sorted(expected)
    assert all(order.index(need) < order.index(name) for name, needs in expected.items() for need in needs)
    again = Graph.from_json(graph.to_json())
    assert again == graph
    assert again.to_json() == graph.to_json() == traced(plan).to_json()
    for name in expected:
        reached = {name}
        while more := {one for one, needs in expected.items() if needs & reached} - reached:
            reached |= more
        assert graph.downstream(name) == reached


def node(name: str, *after: str, **fields: Any) -> Node:
    return Node(name, f"f.py:{name}", after=after, **fields)


def test_ties_in_the_order_go_by_the_order_of_writing() -> None:
    graph = Graph.checked(pipeline="p", target="t", nodes=(node("c"), node("a"), node("b", "c")))
    assert graph.order() == ("c", "a", "b")


def test_a_node_waits_for_what_its_scope_goes_over_and_is_guarded_by() -> None:
    scopes = (Scope("m", {"x": Output("a")}, guards=(Guard(Output("g")),)), Scope("n", {"y": Value("[1]")}, parent="m"))
    graph = Graph.checked(pipeline="p", target="t", nodes=(node("a"), node("g"), node("b", scope="n")), scopes=scopes)
    assert graph.needs()["b"] == {"a", "g"}
    assert graph.scopes_of("n") == ("m", "n")


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((node("a", "b"), node("b", "a")), "wait for each other"),
        ((node("a", "a"),), "wait for each other"),
        ((node("a"), node("a")), "two steps are named 'a'"),
        ((node("a", "ghost"),), "needs 'ghost'"),
        ((node("a", inputs={"x": Output("ghost")}),), "needs 'ghost'"),
    ],
)
def test_a_graph_with_a_fault_does_not_come_into_being(nodes: tuple[Node, ...], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        Graph.checked(pipeline="p", target="t", nodes=nodes)


def test_a_manifest_of_a_newer_format_is_refused_before_it_is_read() -> None:
    with pytest.raises(StoreTooNewError, match="format 99"):
        Graph.from_json(b'{"format": 99, "nodes": "a shape of the future"}')
    with pytest.raises(msgspec.MsgspecError):
        Graph.from_json(b'{"pipeline": 3}')


def test_unknown_names_are_key_errors() -> None:
    graph = Graph.checked(pipeline="p", target="t", nodes=(node("a"),))
    with pytest.raises(KeyError):
        graph.node("b")
    with pytest.raises(KeyError):
        graph.scope("b")
    assert list(outputs_in(None)) == []
