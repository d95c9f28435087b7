"""The step runs of one run, in little room: what is done of a mapped step lies packed until somebody asks for it.

A map of a million elements has a million step runs, and the engine needs each of them twice: when it ends, and when
what follows the map is given all outputs. In between eight bytes of memory stand for it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, MutableMapping
from functools import cache
from typing import Any, get_type_hints

import msgspec

from ..core.scratch import Scratch
from .records import StepRun, StepState

StepKey = tuple[str, str]  # step, index
_KEPT = 2  # fields at the front that the place says already: step and index
_PARTS = StepRun.__struct_fields__.index("parts")
_encode = msgspec.msgpack.Encoder().encode


@cache  # made where the first map is: others start without it
def _decoder() -> msgspec.msgpack.Decoder[tuple[Any, ...]]:
    types = get_type_hints(StepRun)
    types["parts"] = int  # the same for all elements: kept once
    in_order = [types[name] for name in StepRun.__struct_fields__[_KEPT:]]
    return msgspec.msgpack.Decoder(tuple.__class_getitem__(tuple(in_order)))


class StepRuns(MutableMapping[StepKey, StepRun]):
    """(step, index) -> step run. In the order in which steps first appeared; of a map, what is done comes last."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[str, StepRun]] = {}  # what is not packed
        self._packed: dict[str, dict[str, array[int]]] = {}  # step -> enclosing index -> places by position, from 1
        self._packed_of: Counter[str] = Counter()  # step -> how many of these are there
        self._scratch = Scratch()
        self._parts: list[dict[str, str]] = [{}]
        self._numbers: dict[tuple[tuple[str, str], ...], int] = {(): 0}  # its items -> its place
        self.states: Counter[StepState] = Counter()

    def get(self, key: StepKey, default: Any = None) -> Any:
        step = self._steps.get(key[0])
        found = None if step is None else step.get(key[1])
        if found is None and key[1] and (place := self._place(key)):
            return self._unpacked(key, place)
        return default if found is None else found

    def __getitem__(self, key: StepKey) -> StepRun:
        found: StepRun | None = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: StepKey, run: StepRun) -> None:
        name, index = key
        step = self._steps.get(name)
        if step is None:
            step = self._steps[name] = {}
        before: StepRun | None = step.get(index) or self.get(key)
        states = self.states
        if before is not None:
            states[before.state] -= 1
        states[run.state] += 1
        if not index:
            step[index] = run
        elif run.state.done:
            self._pack(key, run)
            step.pop(index, None)
        else:
            self._forget(key)
            step[index] = run

    def __delitem__(self, key: StepKey) -> None:
        self.states[self[key].state] -= 1
        self._steps[key[0]].pop(key[1], None)
        if key[1]:
            self._forget(key)
        if not self._steps[key[0]] and not self._packed_of[key[0]]:
            del self._steps[key[0]]  # it is as if it had never appeared

    def __iter__(self) -> Iterator[StepKey]:
        for name, step in self._steps.items():
            for index in step:
                yield name, index
            for above, places in self._packed.get(name, {}).items():
                for position, place in enumerate(places):
                    if place:
                        yield name, f"{above}.{position}" if above else str(position)

    def __len__(self) -> int:
        return self.states.total()

    # -- packed ------------------------------------------------------------------------------------------------------

    def _place(self, key: StepKey) -> int:
        """0: it is not there."""
        above, _, position = key[1].rpartition(".")
        places = self._packed.get(key[0], {}).get(above)
        at = int(position)
        return places[at] if places is not None and at < len(places) else 0

    def _forget(self, key: StepKey) -> None:
        if self._place(key):
            above, _, position = key[1].rpartition(".")
            self._packed[key[0]][above][int(position)] = 0
            self._packed_of[key[0]] -= 1

    def _pack(self, key: StepKey, run: StepRun) -> None:
        fields = list(msgspec.structs.astuple(run))
        fields[_PARTS] = self._number_of(run.parts)
        above, _, position = key[1].rpartition(".")
        at = int(position)
        places = self._packed.setdefault(key[0], {}).setdefault(above, array("q"))
        if at >= len(places):
            places.extend([0] * (at + 1 - len(places)))
        self._packed_of[key[0]] += not places[at]
        places[at] = self._scratch.put(_encode(fields[_KEPT:])) + 1

    def _unpacked(self, key: StepKey, place: int) -> StepRun:
        fields = list(_decoder().decode(self._scratch.get(place - 1)))
        fields[_PARTS - _KEPT] = self._parts[fields[_PARTS - _KEPT]]
        return StepRun(*key, *fields)

    def _number_of(self, parts: dict[str, str]) -> int:
        items = tuple(parts.items())
        number = self._numbers.setdefault(items, len(self._parts))
        if number == len(self._parts):
            self._parts.append(parts)
        return number
