"""What may start next: order, maps, nested maps, closed maps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.frontier import Frontier, Item
from penstock.graph import Graph, Node, Output, Scope, Value
from penstock.graph import Item as Element


def node(name: str, *needs: str, scope: str | None = None, after: tuple[str, ...] = ()) -> Node:
    inputs = {need: Output(need) for need in needs}
    if scope is not None:
        inputs["element"] = Element(scope, "element")
    return Node(name, f"f.py:{name}", inputs=inputs, scope=scope, after=after)


def scope(name: str, over: str | None = None, parent: str | None = None) -> Scope:
    return Scope(name, {"element": Output(over) if over else Value("[]")}, parent=parent)


def drain(frontier: Frontier) -> list[Item]:
    found: list[Item] = []
    while frontier.open_more():
        found += frontier.ready
        frontier.ready.clear()
    return found


def test_a_step_waits_for_its_inputs_and_for_what_it_comes_after() -> None:
    frontier = Frontier(Graph("p", "f.py:p", (node("a"), node("b"), node("c", "a", after=("b",)))))
    assert drain(frontier) == [Item("a", ""), Item("b", "")]
    frontier.finished("a", "")
    assert drain(frontier) == []
    frontier.finished("b", "")
    assert drain(frontier) == [Item("c", "")]


def test_a_collector_waits_for_every_element_and_only_for_them() -> None:
    graph = Graph("p", "f.py:p", (node("xs"), node("f", scope="s"), node("sum", "f")), (scope("s", "xs"),))
    frontier = Frontier(graph)
    frontier.finished("xs", "")
    assert Item("s", "", is_scope=True) in drain(frontier)
    frontier.expanded("s", "", 2)
    assert drain(frontier) == [Item("f", "0"), Item("f", "1")]
    frontier.finished("f", "1")
    assert drain(frontier) == []
    frontier.finished("f", "0")
    assert drain(frontier) == [Item("sum", "")]


def test_an_element_of_one_step_waits_for_the_same_element_of_another() -> None:
    graph = Graph("p", "f.py:p", (node("f", scope="s"), node("g", "f", scope="s")), (scope("s"),))
    frontier = Frontier(graph)
    drain(frontier)
    frontier.expanded("s", "", 2)
    drain(frontier)
    frontier.finished("f", "1")
    assert drain(frontier) == [Item("g", "1")]


def test_an_empty_map_and_a_closed_one_are_done_for_whoever_collects_them() -> None:
    for close in (False, True):
        graph = Graph("p", "f.py:p", (node("f", scope="s"), node("sum", "f")), (scope("s"),))
        frontier = Frontier(graph)
        drain(frontier)
        if close:
            assert frontier.closed("s", "") == ["f"]
        else:
            frontier.expanded("s", "", 0)
        assert drain(frontier) == [Item("sum", "")]


@given(st.lists(st.integers(0, 3), max_size=4), st.randoms())
def test_nested_maps_end_whatever_their_sizes_and_the_order_of_their_elements(sizes: list[int], random: object) -> None:
    nodes = (node("xs", scope="outer"), node("f", scope="inner"), node("sum", "f"), node("per", "f", scope="outer"))
    graph = Graph("p", "f.py:p", nodes, (scope("outer"), scope("inner", "xs", parent="outer")))
    frontier = Frontier(graph)
    done: list[Item] = []
    waiting = drain(frontier)
    while waiting:
        item = waiting.pop(random.randrange(len(waiting)))  # type: ignore[attr-defined]
        if item.is_scope:
            frontier.expanded(item.name, item.index, len(sizes) if item.name == "outer" else sizes[int(item.index)])
        else:
            done.append(item)
            frontier.finished(item.name, item.index)
        waiting += drain(frontier)
    assert not list(frontier.waiting)
    expected = [Item("xs", str(i)) for i in range(len(sizes))] + [Item("per", str(i)) for i in range(len(sizes))]
    expected += [Item("f", f"{i}.{j}") for i, size in enumerate(sizes) for j in range(size)] + [Item("sum", "")]
    assert sorted(done, key=repr) == sorted(expected, key=repr)
    assert done[-1] == Item("sum", "") or done.index(Item("sum", "")) > max(
        (done.index(item) for item in expected if item.name == "f"), default=-1
    )


def test_elements_are_opened_as_they_are_asked_for_and_those_that_are_not_are_told_as_waiting() -> None:
    graph = Graph("p", "f.py:p", (node("f", scope="s"), node("g", "f", scope="s"), node("sum", "g")), (scope("s"),))
    frontier = Frontier(graph)
    drain(frontier)
    frontier.expanded("s", "", 1000)
    assert frontier.has_ready
    assert not frontier.ready
    assert len(list(frontier.waiting)) == 2001
    assert frontier.open_more()
    first = len(frontier.ready)
    assert 0 < first < 1000
    assert len(list(frontier.waiting)) + first == 2001
    opened = drain(frontier)
    assert [item.index for item in opened] == [str(at) for at in range(1000)]
    for item in opened:
        frontier.finished("f", item.index)
    for item in drain(frontier):
        assert item.name == "g"
        frontier.finished("g", item.index)
    assert drain(frontier) == [Item("sum", "")]
    assert not frontier.has_ready
