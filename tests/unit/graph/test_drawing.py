"""Drawings show every step, frame, map and condition; the picture is valid XML in which nothing overlaps."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest

from penstock.graph import Graph, Guard, Item, Many, Node, Output, Param, Parameter, Scope, Value
from penstock.graph.drawing import mermaid, svg, terminal
from penstock.graph.layout import Box, layout
from penstock.graph.outline import outline

SVG = "{http://www.w3.org/2000/svg}"
TRAIN = "flow.py:step"


def a_graph() -> Graph:
    """A nested pipeline, a map of one step, a nested pipeline that is mapped, and a condition."""
    when = (Guard(Output("gate", "passed")),)
    return Graph.checked(
        pipeline="churn",
        target="flow.py:churn",
        parameters=(Parameter("uri", "str"), Parameter("depths", "list[int]", default="[4,6]")),
        scopes=(Scope("fit", {"depth": Param("depths")}), Scope("shops", {"shop": Output("shop_names")})),
        nodes=(
            Node("prepare/ingest", TRAIN, {"uri": Param("uri")}, returns="DataFrame"),
            Node("prepare/split", TRAIN, {"rows": Output("prepare/ingest")}, ("train", "test"), True, returns="Split"),
            Node("shop_names", TRAIN, {"rows": Output("prepare/ingest")}, returns="list[str]"),
            Node("shops/load", TRAIN, {"shop": Item("shops", "shop")}, scope="shops", returns="int"),
            Node("shops/score", TRAIN, {"n": Output("shops/load")}, scope="shops", returns="float"),
            Node(
                "fit",
                TRAIN,
                {"train": Output("prepare/split", "train"), "depth": Item("fit", "depth")},
                scope="fit",
                returns="Model",
            ),
            Node("gate", TRAIN, {"models": Output("fit")}, ("passed", "reasons"), True, returns="Verdict"),
            Node("register", TRAIN, {"models": Many((Output("fit"),))}, guards=when, returns="Version"),
            Node("deploy", TRAIN, {"version": Output("register")}, guards=when),
            Node("tell", TRAIN, {"scores": Output("shops/score"), "note": Value('"a < b"')}, after=("deploy",)),
        ),
    )


def test_the_terminal_drawing_frames_what_belongs_together() -> None:
    assert terminal(a_graph()) == (
        "churn(uri: str, depths: list[int] = [4,6])\n"
        "╭ prepare\n"
        "│ ● ingest         → DataFrame  ← uri\n"
        "│ ● split          → Split      ← ingest\n"
        "╰\n"
        "● shop_names       → list[str]  ← ingest\n"
        "╭ shops ×each shop\n"
        "│ ● load           → int        ← each of shop_names\n"
        "│ ● score          → float      ← load\n"
        "╰\n"
        "● fit ×each depth  → Model      ← split.train, each of depths\n"
        "● gate             → Verdict    ← fit\n"
        "╭ if gate.passed\n"
        "│ ● register       → Version    ← fit\n"
        "│ ● deploy                      ← register\n"
        "╰\n"
        "● tell                          ← score, after deploy\n"
    )


def test_the_terminal_drawing_has_an_ascii_form_and_fits_its_width() -> None:
    drawn = terminal(a_graph(), width=40, ascii_only=True)
    assert drawn.isascii()
    assert max(map(len, drawn.splitlines()[1:])) <= 40


def test_the_terminal_drawing_marks_states() -> None:
    drawn = terminal(a_graph(), {"gate": "failed"}, symbol=lambda state: f"<{state}>")
    assert "<failed> gate" in drawn
    assert "● fit" in drawn


def test_the_mermaid_drawing_is_this_text() -> None:
    assert mermaid(a_graph(), {"gate": "failed", "fit": "cached"}) == (
        "flowchart TD\n"
        '  n11(["depths"])\n'
        '  n10(["uri"])\n'
        '  n2["shop_names<br/><small>list[str]</small>"]\n'
        '  n5[["fit<br/><small>× each depth</small><br/><small>Model</small>"]]\n'
        '  n6["gate<br/><small>Verdict</small>"]\n'
        '  n7["register<br/><small>Version</small>"]\n'
        '  n8["deploy"]\n'
        '  n9["tell"]\n'
        '  n12{"gate.passed?"}\n'
        '  subgraph g_pipeline_prepare["prepare"]\n'
        '    n0["ingest<br/><small>DataFrame</small>"]\n'
        '    n1["split<br/><small>Split</small>"]\n'
        "  end\n"
        '  subgraph g_map_shops["shops × each shop"]\n'
        '    n3["load<br/><small>int</small>"]\n'
        '    n4["score<br/><small>float</small>"]\n'
        "  end\n"
        "  n10 --> n0\n"
        "  n0 --> n1\n"
        "  n0 --> n2\n"
        "  n2 --> n3\n"
        "  n3 --> n4\n"
        '  n1 -->|"train"| n5\n'
        "  n11 --> n5\n"
        "  n5 --> n6\n"
        "  n5 --> n7\n"
        '  n6 -->|"passed"| n12\n'
        "  n12 -.-> n7\n"
        "  n7 --> n8\n"
        "  n4 --> n9\n"
        "  n8 -.-> n9\n"
        "  classDef cached stroke:#0969da,stroke-width:2px\n"
        "  class n5 cached\n"
        "  classDef failed stroke:#cf222e,stroke-width:2px\n"
        "  class n6 failed\n"
    )


def test_the_picture_is_valid_xml_with_every_step_and_state() -> None:
    root = ElementTree.fromstring(svg(a_graph(), {"gate": "failed", "fit": "succeeded"}, {"fit": "1.2 s"}))
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    for name in ("churn", "ingest", "split", "fit", "gate", "register", "deploy", "tell", "prepare", "gate.passed?"):
        assert name in texts
    assert any("× each depth" in text and "1.2 s" in text for text in texts)
    assert {"failed", "succeeded"} <= set(texts)
    classes = [element.get("class", "") for element in root.iter()]
    assert sum("frame" in each for each in classes) == 2
    assert sum("card" in each.split() for each in classes) == 10


def test_names_are_escaped() -> None:
    graph = Graph.checked(
        pipeline='a<b>&"c"', target="f.py:p", nodes=(Node("x<y>&", TRAIN, returns='dict[str, "T<&>"]'),)
    )
    root = ElementTree.fromstring(svg(graph))
    assert 'a<b>&"c"' in [element.text for element in root.iter(f"{SVG}text")]
    assert '"T<&>"' not in mermaid(graph)


def overlaps(left: Box, right: Box) -> bool:
    return (
        left.x < right.x + right.width
        and right.x < left.x + left.width
        and left.y < right.y + right.height
        and right.y < left.y + left.height
    )


def inside(outer: Box, inner: Box) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


def grid(columns: int, rows: int) -> Graph:
    """Every step of a row needs every second step of the row above."""
    nodes = [
        Node(
            f"s{row}_{column}",
            TRAIN,
            {f"a{above}": Output(f"s{row - 1}_{above}") for above in range(column % 2, columns, 2)} if row else {},
        )
        for row in range(rows)
        for column in range(columns)
    ]
    return Graph.checked(pipeline="grid", target="f.py:grid", nodes=tuple(nodes))


@pytest.mark.parametrize("graph", [a_graph(), grid(4, 5)], ids=["churn", "grid"])
def test_no_two_boxes_overlap_and_lines_run_downwards(graph: Graph) -> None:
    shown = outline(graph)
    placed = layout(shown.root, dict.fromkeys(shown.vertices, (120.0, 40.0)), shown.edges)
    for left, right in itertools.combinations(placed.boxes.values(), 2):
        assert not overlaps(left, right)
    for edge in shown.edges:
        points = placed.routes[edge.source, edge.target]
        assert [y for _, y in points] == sorted(y for _, y in points)
        source, target = placed.boxes[edge.source], placed.boxes[edge.target]
        assert points[0] == (source.x + source.width / 2, source.y + source.height)
        assert points[-1] == (target.x + target.width / 2, target.y)
    whole = Box(0, 0, placed.width, placed.height)
    assert all(inside(whole, box) for box in placed.boxes.values())


def test_a_frame_holds_its_own_steps_and_no_other() -> None:
    shown = outline(a_graph())
    placed = layout(shown.root, dict.fromkeys(shown.vertices, (120.0, 40.0)), shown.edges)
    assert len(placed.frames) == 2
    for group, frame in placed.frames:
        for name, box in placed.boxes.items():
            assert inside(frame, box) if name in group.everything() else not overlaps(frame, box)


def test_an_order_across_frames_is_drawn_without_frames() -> None:
    graph = Graph.checked(
        pipeline="p",
        target="f.py:p",
        nodes=(
            Node("a/one", TRAIN),
            Node("b/one", TRAIN, after=("a/one",)),
            Node("a/two", TRAIN, after=("b/one",)),
        ),
    )
    shown = outline(graph)
    placed = layout(shown.root, dict.fromkeys(shown.vertices, (120.0, 40.0)), shown.edges)
    assert placed.frames == []
    assert len(placed.boxes) == 3


def test_a_pipeline_without_steps_can_be_drawn() -> None:
    empty = Graph.checked(pipeline="none", target="f.py:none")
    assert terminal(empty) == "none()\n"
    assert ElementTree.fromstring(svg(empty)).tag == f"{SVG}svg"
    assert mermaid(empty) == "flowchart TD\n"
