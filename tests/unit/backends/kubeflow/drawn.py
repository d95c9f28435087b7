"""Graphs of a few steps, with maps, conditions, optional inputs and orders, as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

from penstock.graph import Graph, Guard, Item, Node, Output, Param, Parameter, Scope
from penstock.graph.graph import Argument

FLAG = Parameter("flag", "bool", "true")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """At most seven steps; at most one map with up to three of them in it, beside or around others."""
    count = draw(st.integers(2, 7))
    mapped = draw(st.integers(0, 3))
    start = draw(st.integers(0, max(0, count - mapped)))
    inside = set(range(start, start + mapped)) & set(range(count))
    nodes: list[Node] = []
    for number in range(count):
        # What lies in the map takes from before the map or from inside it, so that nothing waits in a circle.
        before = [each for at, each in enumerate(nodes) if number not in inside or at < start or at in inside]
        nodes.append(_node(draw, number, before, "each" if number in inside else None))
    if inside:
        first = [each for each in nodes[:start] if each.scope is None]
        over: Argument = Output(draw(st.sampled_from(first)).name) if first and draw(st.booleans()) else Param("many")
        scopes: tuple[Scope, ...] = (Scope("each", {"x": over}, max_size=draw(st.sampled_from([None, 9]))),)
    else:
        scopes = ()
    return Graph.checked(
        pipeline="drawn",
        target="drawn.py:drawn",
        nodes=tuple(nodes),
        scopes=scopes,
        parameters=(FLAG, Parameter("many", "list[int]", "[1]")),
    )


def _node(draw: st.DrawFn, number: int, before: list[Node], scope: str | None) -> Node:
    taken = draw(st.lists(st.sampled_from(before), max_size=2, unique_by=lambda each: each.name)) if before else []
    inputs: dict[str, Argument] = {
        f"a{at}": Output(each.name, optional=draw(st.booleans())) for at, each in enumerate(taken)
    }
    if scope is not None and draw(st.booleans()):
        inputs["x"] = Item(scope, "x")
    after = draw(st.lists(st.sampled_from(before), max_size=1)) if before else []
    guards: tuple[Guard, ...] = ()
    match draw(st.integers(0, 4)):
        case 0 if before:
            looked = draw(st.sampled_from([each for each in before if each.scope in (None, scope)] or before))
            if looked.scope in (None, scope):
                guards = (Guard(Output(looked.name), draw(st.sampled_from(["true", "false"]))),)
        case 1:
            guards = (Guard(Param("flag"), draw(st.sampled_from(["true", "false"]))),)
        case _:
            pass
    return Node(
        f"s{number}", "drawn.py:s", inputs, scope=scope, guards=guards, after=tuple(each.name for each in after)
    )
