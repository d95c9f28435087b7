"""A pipeline as a picture: one SVG file that needs nothing else, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import pairwise

from .graph import Graph
from .layout import Box, Layout, Point, layout
from .outline import Edge, Group, Outline, Vertex, outline

_MARGIN = 28.0
_HEAD = 64.0
_FOOT = 34.0
_STACK = 8.0  # how far the cards of a map stick out

# state -> (accent on light, accent on dark)
_COLOURS = {
    "succeeded": ("#1a7f37", "#3fb950"),
    "cached": ("#0969da", "#58a6ff"),
    "running": ("#0e7490", "#22d3ee"),
    "pending": ("#818b98", "#7d8590"),
    "failed": ("#cf222e", "#f85149"),
    "timed_out": ("#cf222e", "#f85149"),
    "cancelled": ("#9a6700", "#d29922"),
    "upstream_failed": ("#bc4c00", "#db6d28"),
    "skipped": ("#818b98", "#7d8590"),
}

_LIGHT = {
    ".page": "fill:#ffffff;stroke:#d8dee4",
    ".card": "fill:#f6f8fa;stroke:#c4ccd6",
    ".under": "fill:#eaeef2;stroke:#c4ccd6",
    ".pill": "fill:#fff8e5;stroke:#d4a72c",
    ".gem": "fill:#fbefff;stroke:#a475f9",
    ".frame": "fill:#8c959f;fill-opacity:.06;stroke:#8c959f",
    ".name": "fill:#1f2328",
    ".soft": "fill:#59636e",
    ".line": "stroke:#8c959f",
    ".tip": "fill:#8c959f",
    ".halo": "stroke:#f8f9fa",
}
_DARK = {
    ".page": "fill:#0d1117;stroke:#30363d",
    ".card": "fill:#161b22;stroke:#3d444d",
    ".under": "fill:#21262d;stroke:#3d444d",
    ".pill": "fill:#272115;stroke:#9e6a03",
    ".gem": "fill:#221a33;stroke:#8957e5",
    ".frame": "fill:#8b949e;fill-opacity:.07;stroke:#6e7681",
    ".name": "fill:#f0f6fc",
    ".soft": "fill:#9198a1",
    ".line": "stroke:#6e7681",
    ".tip": "fill:#6e7681",
    ".halo": "stroke:#161b22",
}
_SHAPES = (
    "text{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}"
    ".title{font-size:19px;font-weight:650}.name{font-size:13.5px;font-weight:600}"
    ".soft{font-size:11px}.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:10.5px}"
    ".frame{stroke-width:1.2}.map{stroke-dasharray:5 4}.line{fill:none;stroke-width:1.5}.dashed{stroke-dasharray:4 4}"
    ".halo{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}.faded{opacity:.55}"
)


def svg(graph: Graph, states: Mapping[str, str] | None = None, notes: Mapping[str, str] | None = None) -> str:
    """The picture as SVG text. `states`: step name -> state; `notes`: step name -> a few words, such as a duration."""
    return _Picture(outline(graph), dict(states or {}), dict(notes or {})).text()


class _Picture:
    def __init__(self, shown: Outline, states: dict[str, str], notes: dict[str, str]) -> None:
        self._outline = shown
        self._states = states
        self._notes = notes
        sizes = {name: self._size(vertex) for name, vertex in shown.vertices.items()}
        self._layout: Layout = layout(shown.root, sizes, shown.edges)

    def text(self) -> str:
        title = self._outline.title
        count = sum(vertex.kind == "step" for vertex in self._outline.vertices.values())
        about = f"{count} step{'' if count == 1 else 's'}"
        legend = list(dict.fromkeys(state for state in _COLOURS if state in self._states.values()))
        room = max(_wide(title, 11.0), _wide(about, 6.0), sum(_wide(state, 6.0) + 34 for state in legend))
        width = max(self._layout.width, room) + 2 * _MARGIN
        height = _HEAD + self._layout.height + (_FOOT if legend else 0) + _MARGIN
        across = (width - self._layout.width) / 2
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
            f'width="{_n(width)}" height="{_n(height)}" role="img" aria-label="pipeline {escape(title)}">',
            f"<title>pipeline {escape(title)}</title>",
            f"<style>{_style()}</style>",
            f'<rect class="page" x=".5" y=".5" width="{_n(width - 1)}" height="{_n(height - 1)}" rx="14"/>',
            f'<text class="name title" x="{_n(_MARGIN)}" y="32">{escape(title)}</text>',
            f'<text class="soft" x="{_n(_MARGIN)}" y="49">{about}</text>',
            f'<g transform="translate({_n(across)} {_n(_HEAD)})">',
            *(self._frame(group, box) for group, box in self._layout.frames),
            *(self._line(edge) for edge in self._outline.edges),
            *(self._vertex(vertex) for vertex in self._outline.vertices.values()),
            *(_frame_label(group, box) for group, box in self._layout.frames),
            "</g>",
            *_legend(legend, height - _MARGIN),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _size(self, vertex: Vertex) -> tuple[float, float]:
        match vertex.kind:
            case "parameter":
                return (_wide(vertex.label, 7.2) + 26, 26.0)
            case "condition":
                return (_wide(vertex.label, 7.2) + 56, 44.0)
            case _:
                below = _wide(self._below(vertex), 6.6) + 30
                width, height = max(108.0, _wide(vertex.label, 8.0) + 48, below), 48.0 if self._below(vertex) else 36.0
                return (width + _STACK, height + _STACK) if vertex.each else (width, height)

    def _below(self, vertex: Vertex) -> str:
        """The second line of a card."""
        each = f"× {vertex.each}" if vertex.each else ""
        returns = f"→ {_shortened(vertex.detail, 26)}" if vertex.detail not in ("", "None") else ""
        return "   ".join(filter(None, (each, returns, self._notes.get(vertex.id, ""))))

    def _frame(self, group: Group, box: Box) -> str:
        return _rect(f"frame {group.kind}", box, 12)

    def _vertex(self, vertex: Vertex) -> str:
        box = self._layout.boxes[vertex.id]
        middle = box.x + box.width / 2
        match vertex.kind:
            case "parameter":
                hover = f"parameter {vertex.label}" + (f": {vertex.detail}" if vertex.detail else "")
                inside = _rect("pill", box, box.height / 2) + _text("soft", middle, box.y + 17, vertex.label, "middle")
            case "condition":
                hover = f"runs only if {vertex.label.removesuffix('?')}"
                left, right, top, under = box.x, box.x + box.width, box.y, box.y + box.height
                half = box.y + box.height / 2
                points = f"{_n(middle)},{_n(top)} {_n(right)},{_n(half)} {_n(middle)},{_n(under)} {_n(left)},{_n(half)}"
                inside = f'<polygon class="gem" points="{points}"/>' + _text(
                    "soft", middle, half + 4, vertex.label, "middle"
                )
            case _:
                hover = vertex.id + (f" → {vertex.detail}" if vertex.detail else "")
                inside = self._card(vertex, box)
        return f"<g><title>{escape(hover)}</title>{inside}</g>"

    def _card(self, vertex: Vertex, box: Box) -> str:
        state = self._states.get(vertex.id, "")
        below = self._below(vertex)
        faded = state == "skipped"
        parts = []
        if vertex.each:
            box = Box(box.x, box.y, box.width - _STACK, box.height - _STACK)
            for step in (_STACK, _STACK / 2):
                parts.append(_rect("under", Box(box.x + step, box.y + step, box.width, box.height), 9))
        parts.append(_rect(f"card s-{state}" if state else "card", box, 9))
        text = box.x + 16
        if state:
            dot = f'<circle class="d-{state}" cx="{_n(box.x + 17)}" cy="{_n(box.y + 18)}" r="4.5"/>'
            parts.append(dot)
            text += 13
        parts.append(_text("name", text, box.y + 22.5, vertex.label))
        if below:
            parts.append(_text("soft mono", box.x + 16, box.y + 38, below))
        return f'<g class="faded">{"".join(parts)}</g>' if faded else "".join(parts)

    def _line(self, edge: Edge) -> str:
        points = self._layout.routes[edge.source, edge.target]
        kind = "line dashed" if edge.dashed else "line"
        x, y = points[-1]
        hover = (
            f"<title>{escape(f'{edge.source} → {edge.target}' + (f' ({edge.label})' if edge.label else ''))}</title>"
        )
        tip = f'<path class="tip" d="M{_n(x)} {_n(y)}l-4.5 -8h9z"/>'
        return f'<g>{hover}<path class="{kind}" d="{_curve([*points[:-1], (x, y - 6)])}"/>{tip}</g>'


def _frame_label(group: Group, box: Box) -> str:
    return _text("soft halo", box.x + 14, box.y + 20, group.label)


def _legend(states: list[str], y: float) -> list[str]:
    parts, x = [], _MARGIN
    for state in states:
        shown = state.replace("_", " ")
        parts.append(f'<circle class="d-{state}" cx="{_n(x + 5)}" cy="{_n(y - 4)}" r="4.5"/>')
        parts.append(_text("soft", x + 15, y, shown))
        x += _wide(shown, 6.0) + 34
    return parts


def _style() -> str:
    light, dark = dict(_LIGHT), dict(_DARK)
    for state, (on_light, on_dark) in _COLOURS.items():
        light |= {f".s-{state}": f"stroke:{on_light};stroke-width:1.6", f".d-{state}": f"fill:{on_light}"}
        dark |= {f".s-{state}": f"stroke:{on_dark}", f".d-{state}": f"fill:{on_dark}"}
    rules = ["".join(f"{name}{{{rule}}}" for name, rule in each.items()) for each in (light, dark)]
    return f"{_SHAPES}{rules[0]}@media (prefers-color-scheme:dark){{{rules[1]}}}"


def _curve(points: list[Point]) -> str:
    """A line that leaves and arrives vertically."""
    path = f"M{_n(points[0][0])} {_n(points[0][1])}"
    for (x, y), (to_x, to_y) in pairwise(points):
        if abs(x - to_x) < 0.5:
            path += f"L{_n(to_x)} {_n(to_y)}"
        else:
            half = (y + to_y) / 2
            path += f"C{_n(x)} {_n(half)} {_n(to_x)} {_n(half)} {_n(to_x)} {_n(to_y)}"
    return path


def _rect(kind: str, box: Box, radius: float) -> str:
    return (
        f'<rect class="{kind}" x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}" '
        f'rx="{_n(radius)}"/>'
    )


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    middle = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}"{middle} xml:space="preserve">{escape(text)}</text>'


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _wide(text: str, per_character: float) -> float:
    return len(text) * per_character


def _n(number: float) -> str:
    """A number without noise.

    >>> _n(12.0), _n(1.25)
    ('12', '1.2')
    """
    text = f"{number:.1f}"
    return text.removesuffix(".0")
