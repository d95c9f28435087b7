"""Which steps of a pipeline can be relied on: the same inputs must give the same bytes, wherever and whenever.

Pure. A pipeline is run under conditions that must not matter; a step is blamed only where it was given the very same
inputs and gave something else, so that what follows a faulty step is not blamed for it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Literal

import msgspec

from ..graph import Graph
from ..ports.agreement import Agreement, Verdict
from ..ports.records import CodePart, StepRun
from .causes import Cause, Signature
from .reproduction import Place, Runs


class Condition(StrEnum):
    """How a pass is run. All but the last two start every step in a fresh process."""

    FIRST = "first"  # what the others are compared with
    AGAIN = "again"  # nothing is otherwise
    HASHED = "hashed"  # another PYTHONHASHSEED
    REORDERED = "reordered"  # the opposite order of steps that may start at the same time
    TOGETHER = "together"  # all steps in one process
    TOGETHER_AGAIN = "together again"  # once more in that process, in the opposite order


FindingKind = Literal["nondeterminism", "hash order", "hidden state", "unstable encoding"]


class Finding(msgspec.Struct, frozen=True):
    """A step that cannot be relied on."""

    step: str
    kind: FindingKind
    cause: Cause
    where: str  # "flow.py:noise", the step's code
    index: str = ""  # the first element of a map that has it
    elements: int = 1  # how many have it
    condition: Condition = Condition.AGAIN  # under which it was seen
    shown: str = ""  # the first place that differs


class Passes(msgspec.Struct, frozen=True):
    """What every pass came to."""

    runs: Mapping[Condition, Runs]

    def seen(self, step: str, index: str) -> dict[Condition, bool]:
        """Condition -> whether it came to something else than the first pass made of the same inputs."""
        first = self.runs[Condition.FIRST].get((step, index))
        if first is None:
            return {}
        found: dict[Condition, bool] = {}
        for condition, runs in self.runs.items():
            run = runs.get((step, index))
            if condition is not Condition.FIRST and run is not None and _comparable(first, run):
                found[condition] = Signature.of(run) != Signature.of(first)
        return found

    def places(self) -> list[tuple[str, str]]:
        return list(self.runs[Condition.FIRST])

    def differing(self) -> dict[Condition, list[Place]]:
        """Outputs whose bytes differ from those of the first pass, though the step had the same inputs."""
        first = self.runs[Condition.FIRST]
        found: dict[Condition, list[Place]] = {}
        for step, index in self.places():
            for condition, differs in self.seen(step, index).items():
                if differs:
                    others = self.runs[condition][step, index].outputs
                    mine = first[step, index].outputs
                    names = [name for name in mine if name in others and mine[name].digest != others[name].digest]
                    found.setdefault(condition, []).extend((step, index, name) for name in names)
        return found


def _comparable(first: StepRun, other: StepRun) -> bool:
    """Whether both were given the same inputs, or neither got to that."""
    return first.inputs == other.inputs


def findings(
    graph: Graph,
    passes: Passes,
    agreements: Mapping[Condition, Mapping[Place, Agreement]],
    not_run: Collection[str],
) -> list[Finding]:
    """Every step that gave something else from the same inputs, in the order of the graph, with its first element.

    Of one that differs from itself under the same conditions, the cause is still to be looked for.
    """
    order = {name: at for at, name in enumerate(graph.order())}
    found: dict[str, Finding] = {}
    for step, index in sorted(passes.places(), key=lambda place: order[place[0]]):
        seen = passes.seen(step, index)
        if step in not_run or not any(seen.values()):
            continue
        if step in found:
            found[step] = msgspec.structs.replace(found[step], elements=found[step].elements + 1)
            continue
        found[step] = _finding(graph, step, index, seen, agreements)
    return list(found.values())


def unjudged(passes: Passes, not_run: Collection[str]) -> list[str]:
    """Steps that had other inputs in every other pass: what they make of the same ones was not seen."""
    names: dict[str, bool] = {}
    for step, index in passes.places():
        names[step] = names.get(step, False) or bool(passes.seen(step, index))
    return [name for name, judged in names.items() if not judged and name not in not_run]


_ORDER = (Condition.AGAIN, Condition.HASHED, Condition.REORDERED, Condition.TOGETHER, Condition.TOGETHER_AGAIN)


def _finding(
    graph: Graph,
    step: str,
    index: str,
    seen: Mapping[Condition, bool],
    agreements: Mapping[Condition, Mapping[Place, Agreement]],
) -> Finding:
    condition = next(each for each in _ORDER if seen.get(each))
    compared = [
        agreement
        for each in _ORDER
        if seen.get(each)
        for (name, at, _), agreement in agreements.get(each, {}).items()
        if (name, at) == (step, index)
    ]
    told = next((each for each in compared if each.verdict is Verdict.DIFFERENT), None)
    kind, cause = _judged(condition)
    if compared and all(each.verdict is Verdict.EQUAL for each in compared):
        kind, cause = "unstable encoding", _UNSTABLE
    shown = "" if told is None else f"{told.where}: {told.text}" if told.where else told.text
    return Finding(step, kind, cause, graph.node(step).target, index, condition=condition, shown=shown)


_UNSTABLE = Cause(
    "unknown",
    "proven",
    "the same value is stored as other bytes each time, so that what follows it is never taken from the cache",
    "return plain values, tables, arrays or a scikit-learn model, which are stored the same way every time",
)


def _judged(condition: Condition) -> tuple[FindingKind, Cause]:
    match condition:
        case Condition.AGAIN:
            return "nondeterminism", Cause("seed", "likely", "it gives something else each time, on the same inputs")
        case Condition.HASHED:
            return "hash order", Cause(
                "hash order",
                "proven",
                "with another PYTHONHASHSEED it gives something else: the order of a set of texts decides",
                "sort before iterating over a set: for name in sorted(names)",
            )
        case Condition.REORDERED:
            return "hidden state", Cause(
                "hidden state",
                "proven",
                "in another order of steps it gives something else, each step in a fresh process: "
                "steps share something outside, such as a file",
                "pass it as an input from step to step, or say .after()",
            )
        case _:
            return "hidden state", Cause(
                "hidden state",
                "proven",
                "in a fresh process it always gives the same, and something else after other steps in one process",
                "pass what it needs as an input; let no step change a name of its module",
            )


_VARIABLE = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=(?!=)")


def variables(parts: Sequence[CodePart]) -> list[str]:
    """Names of modules that a step's code reaches and that hold a value: where hidden state would be.

    >>> variables([CodePart("flow.py:SEEN", "", "SEEN: dict = {}"), CodePart("flow.py:f", "", "def f(): ...")])
    ['SEEN (flow.py)']
    """
    found = []
    for part in parts:
        match = _VARIABLE.match(part.text)
        if match is not None:
            found.append(f"{match[1]} ({part.name.rpartition(':')[0]})")
    return found
