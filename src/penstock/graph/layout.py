"""Where the boxes and lines of a drawing go: layers from top to bottom, few crossings, frames around groups.

Every group is laid out by itself and then is one box of its parent. A line that crosses a frame passes through a *port*
on it, which is a vertex of the inner layout and a fixed place on the box of the outer one. Pure and deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import msgspec

from .outline import Edge, Group

Point = tuple[float, float]

_GAP_X = 26.0
_GAP_Y = 44.0
_PAD = 16.0
_TOP = 34.0  # room for a frame's label
_SWEEPS = 12


class Box(msgspec.Struct, frozen=True):
    """A rectangle: its left upper corner, and its size."""

    x: float
    y: float
    width: float
    height: float

    def moved(self, by: Point) -> Box:
        return Box(self.x + by[0], self.y + by[1], self.width, self.height)


class Layout(msgspec.Struct):
    """Places, relative to the upper left corner. A route is a line's points from top to bottom."""

    width: float
    height: float
    boxes: dict[str, Box] = {}
    frames: list[tuple[Group, Box]] = []
    routes: dict[tuple[str, str], list[Point]] = {}
    entries: dict[str, float] = {}  # source outside -> x of its port on the upper border
    exits: dict[str, float] = {}  # source inside -> x of its port on the lower border


def layout(root: Group, sizes: Mapping[str, tuple[float, float]], edges: Sequence[Edge]) -> Layout:
    """Lay out everything in `root`. `sizes` gives width and height of each vertex."""
    pairs = list(dict.fromkeys((edge.source, edge.target) for edge in edges))
    return _Level(root, sizes, pairs, outermost=True).layout()


class _Unit(msgspec.Struct):
    """One box of a level: a vertex, a group, a port, or a bend of a long line."""

    name: str
    width: float
    height: float
    layer: int = 0
    x: float = 0.0  # of its centre
    inner: Layout | None = None


_Line = tuple[str, str, str, str]  # unit above, unit below, and the edge: its source and its target (or "" for a port)


class _Level:
    """The layout of one group."""

    def __init__(
        self,
        group: Group,
        sizes: Mapping[str, tuple[float, float]],
        edges: list[tuple[str, str]],
        *,
        outermost: bool = False,
    ) -> None:
        self._group = group
        self._sizes = sizes
        self._edges = edges
        self._outermost = outermost
        self._units: dict[str, _Unit] = {}
        self._unit_of: dict[str, str] = {}
        self._lines: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (unit, unit) -> edges it stands for
        self._layers: list[list[str]] = []

    def layout(self) -> Layout:
        self._make_units()
        self._connect()
        self._layer()
        chains = self._bend()
        self._order()
        self._place()
        return self._placed(chains)

    # -- units and lines ---------------------------------------------------------------------------------------------

    def _make_units(self) -> None:
        groups = self._group.groups
        if not self._acyclic(groups):  # somebody ordered steps across the frames: draw these without frames
            everything = self._group.everything()
            self._group = Group(self._group.id, self._group.label, self._group.kind, everything)
            groups = []
        for name in self._group.vertices:
            self._units[name] = _Unit(name, *self._sizes[name])
            self._unit_of[name] = name
        for group in groups:
            inside = set(group.everything())
            touching = [edge for edge in self._edges if edge[0] in inside or edge[1] in inside]
            inner = _Level(group, self._sizes, touching).layout()
            self._units[group.id] = _Unit(group.id, inner.width, inner.height, inner=inner)
            self._unit_of |= dict.fromkeys(inside, group.id)

    def _acyclic(self, groups: list[Group]) -> bool:
        owner = {name: group.id for group in groups for name in group.everything()}
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for source, target in self._edges:
            above, below = owner.get(source, source), owner.get(target, target)
            if above != below:
                sorter.add(below, above)
        try:
            sorter.prepare()
        except CycleError:
            return False
        return True

    def _connect(self) -> None:
        for source, target in self._edges:
            above, below = self._unit_of.get(source), self._unit_of.get(target)
            if above is not None and above == below:
                continue
            if above is None:
                above = self._port(f"in {source}")
            if below is None:
                below = self._port(f"out {source}")
            self._lines.setdefault((above, below), []).append((source, target))

    def _port(self, name: str) -> str:
        if name not in self._units:
            self._units[name] = _Unit(name, 8.0, 0.0)
        return name

    # -- layers ------------------------------------------------------------------------------------------------------

    def _layer(self) -> None:
        below: dict[str, list[str]] = {name: [] for name in self._units}
        sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(self._units, ()))
        for above, under in self._lines:
            below[above].append(under)
            sorter.add(under, above)
        order = list(sorter.static_order())
        sources = set(order) - {under for _, under in self._lines}
        has_entry = any(name.startswith("in ") for name in order)
        for name in order:
            unit = self._units[name]
            unit.layer = max(unit.layer, 1 if has_entry and not name.startswith("in ") else 0)
            for under in below[name]:
                self._units[under].layer = max(self._units[under].layer, unit.layer + 1)
        for name in reversed(order):  # what nothing leads to goes down to where it is used
            if name in sources and below[name] and not name.startswith("in "):
                self._units[name].layer = min(self._units[under].layer for under in below[name]) - 1
        inside = [unit.layer for name, unit in self._units.items() if not name.startswith("out ")]
        for name, unit in self._units.items():
            if name.startswith("out "):
                unit.layer = max(inside, default=0) + 1
        count = max((unit.layer for unit in self._units.values()), default=-1) + 1
        self._layers = [[] for _ in range(count)]
        for name, unit in self._units.items():
            self._layers[unit.layer].append(name)

    def _bend(self) -> dict[tuple[str, str], list[str]]:
        """Give every line one unit per layer that it passes; lines from one place share theirs."""
        chains: dict[tuple[str, str], list[str]] = {}
        for above, under in self._lines:
            chain = [above]
            for layer in range(self._units[above].layer + 1, self._units[under].layer):
                name = f"bend {above} > {under} @ {layer}"
                self._units[name] = _Unit(name, 14.0, 0.0, layer)
                self._layers[layer].append(name)
                chain.append(name)
            chains[above, under] = [*chain, under]
        self._links = [link for chain in chains.values() for link in pairwise(chain)]
        self._above: dict[str, list[str]] = {}
        self._below: dict[str, list[str]] = {}
        for upper, lower in self._links:
            self._above.setdefault(lower, []).append(upper)
            self._below.setdefault(upper, []).append(lower)
        return chains

    # -- order within layers -----------------------------------------------------------------------------------------

    def _order(self) -> None:
        best, fewest = [list(layer) for layer in self._layers], self._crossings()
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            layers = self._layers if down else list(reversed(self._layers))
            for fixed, free in pairwise(layers):
                position = {name: at for at, name in enumerate(fixed)}
                neighbours = self._above if down else self._below
                here = {name: at for at, name in enumerate(free)}

                def centre(
                    name: str,
                    position: dict[str, int] = position,
                    neighbours: dict[str, list[str]] = neighbours,
                    here: dict[str, int] = here,
                ) -> tuple[float, int]:
                    found = [position[each] + self._lean(each, name) for each in neighbours.get(name, ())]
                    return (sum(found) / len(found) if found else float(here[name]), here[name])

                free.sort(key=centre)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self._layers], crossings
        self._layers = best

    def _crossings(self) -> int:
        count = 0
        for layer in self._layers[:-1]:
            place = {name: at for at, name in enumerate(self._layers[self._units[layer[0]].layer + 1])} if layer else {}
            ends = [
                (at + self._lean(name, under), place[under] + self._lean(under, name))
                for at, name in enumerate(layer)
                for under in self._below.get(name, ())
            ]
            count += sum(1 for a, b in ends for c, d in ends if a < c and b > d)
        return count

    def _lean(self, name: str, other: str) -> float:
        """Where on a group its line to `other` ends, as a part of one place: -0.4 is its left end."""
        unit = self._units[name]
        if unit.inner is None:
            return 0.0
        down = other in self._below.get(name, ())
        return 0.8 * self._port_shift(unit, other, down=down) / max(unit.width, 1.0)

    # -- coordinates -------------------------------------------------------------------------------------------------

    def _place(self) -> None:
        for layer in self._layers:
            self._settle(layer, [0.0] * len(layer))
        for sweep in range(2 * _SWEEPS):
            down = sweep % 2 == 0
            for layer in self._layers if down else reversed(self._layers):
                self._settle(layer, [self._wish(name, down=down) for name in layer])
        left = min((unit.x - unit.width / 2 for unit in self._units.values()), default=0.0)
        for unit in self._units.values():
            unit.x -= left

    def _wish(self, name: str, *, down: bool) -> float:
        """Where a unit would like its centre: straight under (or above) what it is connected to."""
        unit = self._units[name]
        first, second = (self._above, self._below) if down else (self._below, self._above)
        near = first.get(name) or second.get(name) or []
        if not near:
            return unit.x
        wishes = []
        for other in near:
            upper, lower = (other, name) if other in self._above.get(name, ()) else (name, other)
            shift = self._port_shift(self._units[upper], lower, down=True)
            shift -= self._port_shift(self._units[lower], upper, down=False)
            wishes.append(self._units[other].x + (shift if other == upper else -shift))
        return sum(wishes) / len(wishes)

    def _port_shift(self, unit: _Unit, other: str, *, down: bool) -> float:
        """How far from a group's centre the line to `other` leaves it."""
        if unit.inner is None:
            return 0.0
        ports = unit.inner.exits if down else unit.inner.entries
        found = [
            ports[source]
            for (above, under), edges in self._lines.items()
            if unit.name == (above if down else under) and self._leads(above, under, other)
            for source, _ in edges
            if source in ports
        ]
        return sum(found) / len(found) - unit.width / 2 if found else 0.0

    def _leads(self, above: str, under: str, other: str) -> bool:
        return other in (above, under) or other.startswith(f"bend {above} > {under} @ ")

    def _settle(self, layer: list[str], wishes: list[float]) -> None:
        """The places nearest to the wishes that keep order and distance: pooling of neighbours that collide."""
        offsets, at = [], 0.0
        for position, name in enumerate(layer):
            unit = self._units[name]
            if position:
                before = self._units[layer[position - 1]]
                at += before.width / 2 + _GAP_X + unit.width / 2
            offsets.append(at)
        pools: list[list[float]] = []  # [sum, weight, members]
        for name, wish, offset in zip(layer, wishes, offsets, strict=True):
            weight = 4.0 if name.startswith("bend ") else 1.0
            pools.append([(wish - offset) * weight, weight, 1])
            while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
                last = pools.pop()
                pools[-1] = [mine + theirs for mine, theirs in zip(pools[-1], last, strict=True)]
        places = [total / weight for total, weight, members in pools for _ in range(int(members))]
        for name, place, offset in zip(layer, places, offsets, strict=True):
            self._units[name].x = place + offset

    # -- the result --------------------------------------------------------------------------------------------------

    def _placed(self, chains: dict[tuple[str, str], list[str]]) -> Layout:
        pad = 0.0 if self._outermost else _PAD
        tops, heights = self._rows()
        label = 0.0 if self._outermost else len(self._group.label) * 7.0 + 2 * _PAD
        wide = max((unit.x + unit.width / 2 for unit in self._units.values()), default=0.0)
        shift = pad + max(0.0, (label - wide - 2 * pad) / 2)
        bottom = tops[-1] + heights[-1] if tops else 0.0
        has_exit = any(name.startswith("out ") for name in self._units)
        result = Layout(max(wide + 2 * pad, label), bottom if has_exit else bottom + pad)
        result.boxes, result.frames, result.routes, result.entries, result.exits = {}, [], {}, {}, {}
        for name, unit in self._units.items():
            corner = (unit.x - unit.width / 2 + shift, tops[unit.layer] + (heights[unit.layer] - unit.height) / 2)
            if unit.inner is not None:
                self._take_over(result, unit, corner)
            elif name.startswith("in "):
                result.entries[name.removeprefix("in ")] = unit.x + shift
            elif name.startswith("out "):
                result.exits[name.removeprefix("out ")] = unit.x + shift
            elif not name.startswith("bend "):
                result.boxes[name] = Box(*corner, unit.width, unit.height)
        self._route(result, chains, tops, heights, shift)
        return result

    def _rows(self) -> tuple[list[float], list[float]]:
        heights = [max((self._units[name].height for name in layer), default=0.0) for layer in self._layers]
        tops: list[float] = []
        at = 0.0 if self._outermost or self._has_entry() else _TOP
        for position, height in enumerate(heights):
            tops.append(at)
            port = (position == 0 and self._has_entry()) or (
                position == len(heights) - 2 and any(name.startswith("out ") for name in self._units)
            )
            gap = (_TOP if position == 0 and self._has_entry() else _PAD) if port else _GAP_Y
            at += height + gap
        return tops, heights

    def _has_entry(self) -> bool:
        return any(name.startswith("in ") for name in self._units)

    def _take_over(self, result: Layout, unit: _Unit, corner: Point) -> None:
        inner = unit.inner
        assert inner is not None
        group = next(each for each in self._group.groups if each.id == unit.name)
        result.frames.append((group, Box(*corner, inner.width, inner.height)))
        result.frames += [(each, box.moved(corner)) for each, box in inner.frames]
        result.boxes |= {name: box.moved(corner) for name, box in inner.boxes.items()}
        inside = set(group.everything())
        for edge, points in inner.routes.items():
            if edge[0] in inside and edge[1] in inside:
                result.routes[edge] = [(x + corner[0], y + corner[1]) for x, y in points]

    def _route(
        self,
        result: Layout,
        chains: dict[tuple[str, str], list[str]],
        tops: list[float],
        heights: list[float],
        shift: float,
    ) -> None:
        """Join what groups have routed inside with the lines of this level."""
        for (above, under), chain in chains.items():
            bends: list[Point] = []
            for name in chain[1:-1]:
                unit = self._units[name]
                x, top = unit.x + shift, tops[unit.layer]
                bends += [(x, top), (x, top + heights[unit.layer])]
            for edge in self._lines[above, under]:
                start = self._attached(self._units[above], edge, tops, heights, shift, down=True)
                end = self._attached(self._units[under], edge, tops, heights, shift, down=False)
                upper = self._inner_route(above, edge, tops, heights, shift)
                lower = self._inner_route(under, edge, tops, heights, shift)
                result.routes[edge] = _joined([*upper, start, *bends, end, *lower])

    def _inner_route(
        self, name: str, edge: tuple[str, str], tops: list[float], heights: list[float], shift: float
    ) -> list[Point]:
        unit = self._units[name]
        if unit.inner is None:
            return []
        top = tops[unit.layer] + (heights[unit.layer] - unit.height) / 2
        left = unit.x - unit.width / 2 + shift
        return [(x + left, y + top) for x, y in unit.inner.routes.get(edge, [])]

    def _attached(
        self,
        unit: _Unit,
        edge: tuple[str, str],
        tops: list[float],
        heights: list[float],
        shift: float,
        *,
        down: bool,
    ) -> Point:
        top = tops[unit.layer] + (heights[unit.layer] - unit.height) / 2
        y = top + unit.height if down else top
        x = unit.x + shift
        if unit.inner is not None:
            ports = unit.inner.exits if down else unit.inner.entries
            x += ports[edge[0]] - unit.width / 2 if edge[0] in ports else 0.0
        return (x, y)


def _joined(points: list[Point]) -> list[Point]:
    return [point for at, point in enumerate(points) if at == 0 or point != points[at - 1]]
