"""A pipeline drawn as text: for a terminal, and as Mermaid for pages that render it. `svg` makes a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from .graph import Argument, Fields, Graph, Guard, Item, Many, Node, Output, Param, Secret, Value
from .graph import Mapping as Mapped
from .outline import Edge, Group, Vertex, each_of, guard_label, outline, short_type
from .svg import svg

__all__ = ["mermaid", "svg", "terminal"]

_MERMAID_COLOURS = {
    "succeeded": "#1a7f37",
    "cached": "#0969da",
    "running": "#0e7490",
    "pending": "#818b98",
    "failed": "#cf222e",
    "timed_out": "#cf222e",
    "cancelled": "#9a6700",
    "upstream_failed": "#bc4c00",
    "skipped": "#818b98",
}


# -- Mermaid -----------------------------------------------------------------------------------------------------------


def mermaid(graph: Graph, states: Mapping[str, str] | None = None) -> str:
    """A Mermaid flowchart. `states`: step name -> state, shown as the colour of its border."""
    shown, states = outline(graph), dict(states or {})
    ids = {name: f"n{at}" for at, name in enumerate(shown.vertices)}
    lines = ["flowchart TD", *_mermaid_group(shown.root, shown.vertices, ids, "  ")]
    lines += [f"  {_mermaid_edge(edge, ids)}" for edge in shown.edges]
    for state, colour in _MERMAID_COLOURS.items():
        of_state = [ids[name] for name, each in states.items() if each == state and name in ids]
        if of_state:
            lines.append(f"  classDef {state} stroke:{colour},stroke-width:2px")
            lines.append(f"  class {','.join(of_state)} {state}")
    return "\n".join(lines) + "\n"


def _mermaid_group(group: Group, vertices: Mapping[str, Vertex], ids: Mapping[str, str], indent: str) -> Iterator[str]:
    for name in group.vertices:
        yield indent + ids[name] + _mermaid_shape(vertices[name])
    for inner in group.groups:
        yield f'{indent}subgraph {_identifier(inner.id)}["{_escaped(inner.label)}"]'
        yield from _mermaid_group(inner, vertices, ids, indent + "  ")
        yield f"{indent}end"


def _mermaid_shape(vertex: Vertex) -> str:
    label = _escaped(vertex.label)
    match vertex.kind:
        case "parameter":
            return f'(["{label}"])'
        case "condition":
            return f'{{"{label}"}}'
        case _:
            if vertex.each:
                label += f"<br/><small>× {_escaped(vertex.each)}</small>"
            if vertex.detail not in ("", "None"):
                label += f"<br/><small>{_escaped(vertex.detail)}</small>"
            return f'[["{label}"]]' if vertex.each else f'["{label}"]'


def _mermaid_edge(edge: Edge, ids: Mapping[str, str]) -> str:
    arrow = "-.->" if edge.dashed else "-->"
    label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
    return f"{ids[edge.source]} {arrow}{label} {ids[edge.target]}"


def _identifier(name: str) -> str:
    return "g_" + re.sub(r"\W", "_", name)


def _escaped(text: str) -> str:
    for found, code in (("&", "&amp;"), ('"', "#quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(found, code)
    return text


# -- terminal ----------------------------------------------------------------------------------------------------------


class _Row(msgspec.Struct, frozen=True):
    depth: int  # frames around it
    left: str = ""
    returns: str = ""
    inputs: str = ""
    state: str = ""
    opens: bool = False  # the head of a frame
    closes: bool = False


class _Signs(msgspec.Struct, frozen=True):
    """The characters of a drawing."""

    rail: str = "│ "
    head: str = "╭ "
    foot: str = "╰"
    step: str = "● "
    returns: str = "→ "
    inputs: str = "← "
    times: str = "×"
    more: str = "…"


_ASCII = _Signs("| ", "+ ", "+", "* ", "-> ", "<- ", "x ", "~")


def terminal(
    graph: Graph,
    states: Mapping[str, str] | None = None,
    width: int = 100,
    *,
    symbol: Callable[[str], str] | None = None,
    ascii_only: bool = False,
) -> str:
    """One line per step, in an order in which they can run: what it returns, and from where its inputs come.

    Frames stand for nested pipelines, maps over several steps, and conditions. `symbol` gives the mark of a state (it
    may hold colour codes); without states every step has the same dot.
    """
    signs = _ASCII if ascii_only else _Signs()
    rows = list(_rows(graph, dict(states or {}), signs))
    left = max((len(row.left) + 2 * row.depth for row in rows if not row.opens), default=0)
    middle = max((len(row.returns) for row in rows), default=0)
    lines = [_heading(graph)]
    for row in rows:
        rails = signs.rail * row.depth
        if row.opens:
            lines.append(f"{rails}{signs.head}{row.left}")
        elif row.closes:
            lines.append(f"{rails}{signs.foot}")
        else:
            mark = f"{symbol(row.state)} " if symbol is not None and row.state else signs.step
            text = f"{row.left.ljust(left - 2 * row.depth)}  {row.returns.ljust(middle)}  {row.inputs}".rstrip()
            room = max(20, width - len(rails) - 2)
            lines.append(rails + mark + (text if len(text) <= room else text[: room - 1] + signs.more))
    return "\n".join(lines) + "\n"


def _heading(graph: Graph) -> str:
    def shown(name: str, annotation: str, default: str | None) -> str:
        return f"{name}: {annotation}" + (f" = {default}" if default is not None and len(default) < 30 else "")

    listed = ", ".join(shown(each.name, each.annotation, each.default) for each in graph.parameters)
    return f"{graph.pipeline}({listed})"


def _rows(graph: Graph, states: dict[str, str], signs: _Signs) -> Iterator[_Row]:
    open_frames: list[str] = []
    nodes = {node.name: node for node in graph.nodes}
    for name in _grouped_order(graph):
        node = nodes[name]
        frames = _frames(graph, node, signs)
        common = 0
        while common < min(len(frames), len(open_frames)) and frames[common] == open_frames[common]:
            common += 1
        for depth in range(len(open_frames) - 1, common - 1, -1):
            yield _Row(depth, closes=True)
        for depth in range(common, len(frames)):
            yield _Row(depth, frames[depth].partition("\0")[2], opens=True)
        open_frames = frames
        yield _Row(
            len(frames),
            _name(graph, node, signs),
            f"{signs.returns}{short_type(node.returns)}" if node.returns not in ("", "None") else "",
            _inputs(graph, node, signs),
            states.get(name, ""),
        )
    for depth in range(len(open_frames) - 1, -1, -1):
        yield _Row(depth, closes=True)


def _grouped_order(graph: Graph) -> list[str]:
    """An order in which the steps can run, that leaves a frame only when it must."""
    needs = graph.needs()
    frames = {node.name: _frames(graph, node, _ASCII) for node in graph.nodes}
    left = {node.name: at for at, node in enumerate(graph.nodes)}
    done: list[str] = []
    while left:
        here = frames[done[-1]] if done else []
        ready = [name for name in left if not (needs[name] & left.keys())]

        def preference(name: str, here: list[str] = here) -> tuple[int, int]:
            shared = sum(1 for mine, theirs in zip(frames[name], here, strict=False) if mine == theirs)
            return (-shared, left[name])

        chosen = min(ready, key=preference)
        done.append(chosen)
        del left[chosen]
    return done


def _frames(graph: Graph, node: Node, signs: _Signs) -> list[str]:
    """Identity and label of each frame around a step, outermost first."""
    scopes = [graph.scope(name) for name in graph.scopes_of(node.scope)]
    several = {
        scope.name: f"{scope.name.rpartition('/')[2]} {signs.times}{each_of(graph, scope)}"
        for scope in scopes
        if sum(scope.name in graph.scopes_of(each.scope) for each in graph.nodes) > 1
    }
    found: list[str] = []
    folders = node.name.split("/")[:-1]
    for depth in range(len(folders) + 1):
        path = "/".join(folders[:depth])
        if depth and path not in several:
            found.append(f"pipeline {path}\0{folders[depth - 1]}")
        found += [f"map {name}\0{text}" for name, text in several.items() if name.rpartition("/")[0] == path]
    guards: list[Guard] = list(dict.fromkeys([*(guard for scope in scopes for guard in scope.guards), *node.guards]))
    return found + [f"if {guard!r}\0if {guard_label(guard)}" for guard in guards]


def _name(graph: Graph, node: Node, signs: _Signs) -> str:
    name = node.name.rpartition("/")[2]
    if node.scope is None or sum(node.scope in graph.scopes_of(each.scope) for each in graph.nodes) > 1:
        return name
    return f"{name} {signs.times}{each_of(graph, graph.scope(node.scope))}"


def _inputs(graph: Graph, node: Node, signs: _Signs) -> str:
    found = [text for argument in node.inputs.values() for text in _sources(graph, argument)]
    found += [f"after {name.rpartition('/')[2]}" for name in node.after]
    return signs.inputs + ", ".join(dict.fromkeys(found)) if found else ""


def _sources(graph: Graph, argument: Argument) -> Iterator[str]:
    match argument:
        case Output(name, field):
            short = name.rpartition("/")[2]
            yield f"{short}.{field}" if field else short
        case Param(name):
            yield name
        case Item(scope, name):
            for text in _sources(graph, graph.scope(scope).over[name]):
                yield f"each of {text}"
        case Secret(name):
            yield f"secret {name}"
        case Many(items) | Mapped(_, items) | Fields(_, _, items):
            for item in items:
                yield from _sources(graph, item)
        case Value():
            return
