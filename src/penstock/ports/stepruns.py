"""The step runs of one run, in little room: what is done of a mapped step lies packed until somebody asks for it.

A map of a million elements has a million step runs, and the engine needs each of them twice: when it ends, and when
what follows the map is given all outputs. In between a few hundred bytes stand for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, MutableMapping
from typing import Any, get_type_hints

import msgspec

from .records import StepRun, StepState

StepKey = tuple[str, str]  # step, index
_KEPT = 2  # fields at the front that the place says already: step and index
_PARTS = StepRun.__struct_fields__.index("parts")
_TYPES = [get_type_hints(StepRun)[name] for name in StepRun.__struct_fields__]
_TYPES[_PARTS] = int  # the same for all elements: kept once
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple.__class_getitem__(tuple(_TYPES[_KEPT:]))).decode


class StepRuns(MutableMapping[StepKey, StepRun]):
    """(step, index) -> step run. In the order in which steps, and of each step its instances, first appeared."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[str, StepRun | bytes]] = {}
        self._parts: list[dict[str, str]] = [{}]
        self._numbers: dict[int, int] = {}  # id of one of these -> its place
        self.states: Counter[StepState] = Counter()

    def __getitem__(self, key: StepKey) -> StepRun:
        found = self._steps[key[0]][key[1]]
        return found if type(found) is StepRun else self._unpacked(key, found)  # type: ignore[arg-type]

    def get(self, key: StepKey, default: Any = None) -> Any:
        step = self._steps.get(key[0])
        found = None if step is None else step.get(key[1])
        if type(found) is bytes:
            return self._unpacked(key, found)
        return default if found is None else found

    def __setitem__(self, key: StepKey, run: StepRun) -> None:
        name, index = key
        step = self._steps.get(name)
        if step is None:
            step = self._steps[name] = {}
        states = self.states
        if (before := step.get(index)) is not None:
            states[self._state(before)] -= 1
        states[run.state] += 1
        step[index] = self._packed(run) if index and run.state.done else run

    def __delitem__(self, key: StepKey) -> None:
        self.states[self._state(self._steps[key[0]].pop(key[1]))] -= 1

    def __iter__(self) -> Iterator[StepKey]:
        return ((name, index) for name, step in self._steps.items() for index in step)

    def __len__(self) -> int:
        return sum(map(len, self._steps.values()))

    def of(self, name: str) -> Iterator[StepRun]:
        """The instances of one step."""
        return (self[name, index] for index in self._steps.get(name, ()))

    def _packed(self, run: StepRun) -> bytes:
        fields = list(msgspec.structs.astuple(run))
        fields[_PARTS] = self._number_of(run.parts)
        return _encode(fields[_KEPT:])

    def _unpacked(self, key: StepKey, packed: bytes) -> StepRun:
        fields = list(_decode(packed))
        fields[_PARTS - _KEPT] = self._parts[fields[_PARTS - _KEPT]]
        return StepRun(*key, *fields)

    def _number_of(self, parts: dict[str, str]) -> int:
        """The launcher gives all elements the same object; events that were read back are equal to the one before."""
        number = self._numbers.get(id(parts))
        if number is not None:
            return number
        if not parts:
            return 0
        if self._parts[-1] != parts:
            self._parts.append(parts)
            self._numbers[id(parts)] = len(self._parts) - 1
        return len(self._parts) - 1

    def _state(self, found: StepRun | bytes) -> StepState:
        return found.state if isinstance(found, StepRun) else _decode(found)[0]
