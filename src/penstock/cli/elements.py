"""Ten thousand elements of a map are one line to read: how many are in which state, how long they took, which failed.

A map of a few elements keeps a line for each; so does every element that failed, up to as many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..graph import Graph
from ..ports.records import RunState, StepRun, StepState
from .records import failure_shown, state_shown
from .render import counted, shown_seconds, symbol
from .summary import name_of

_LEAST_S = 0.0001  # a bound that is shown is never 0.0 ms
FEW = 10  # elements that are shown one by one
# A map is marked by the first of these that one of its elements is in.
_WORST_FIRST = (
    "running",
    "failed",
    "timed_out",
    "interrupted",
    "cancelled",
    "upstream_failed",
    "pending",
    "succeeded",
    "cached",
    "skipped",
)
_FAILED = (StepState.FAILED, StepState.TIMED_OUT)


def pending(graph: Graph, runs: Sequence[StepRun], sizes: Mapping[tuple[str, str], int]) -> list[StepRun]:
    """What a run will have and nothing has happened to yet: steps, and elements of maps whose size is known.

    sizes:  (scope, enclosing index) -> elements, as the run log tells them.
    """
    known = {(run.step, run.index) for run in runs}

    def instances(step: str, chain: tuple[str, ...], index: str) -> Iterator[StepRun]:
        if (step, index) in known:
            return
        size = sizes.get((chain[0], index)) if chain else None
        if size is None:
            yield StepRun(step, index, StepState.PENDING)
        for at in range(size or 0):
            yield from instances(step, chain[1:], f"{index}.{at}" if index else str(at))

    return [run for node in graph.nodes for run in instances(node.name, graph.scopes_of(node.scope), "")]


def grouped(runs: Sequence[StepRun]) -> list[list[StepRun]]:
    """Step runs in their order, the elements of a map together (where the first stands) if they are more than a few."""
    sizes = Counter(run.step for run in runs if run.index)
    groups: dict[tuple[str, str], list[StepRun]] = {}
    for run in runs:
        many = bool(run.index) and sizes[run.step] > FEW
        groups.setdefault((run.step, "" if many else run.index), []).append(run)
    return list(groups.values())


def counts(runs: Sequence[StepRun], state: RunState) -> str:
    """The elements by state, under the mark of the worst: `✓ 9998 succeeded, 2 cached`."""
    found = Counter(state_shown(run.state, state) for run in runs)
    ordered = sorted(found, key=_WORST_FIRST.index)
    return f"{symbol(ordered[0])} " + ", ".join(f"{found[each]} {each.replace('_', ' ')}" for each in ordered)


def times(runs: Sequence[StepRun]) -> str:
    """How long the elements took that were computed here: half of them, all but a twentieth, and each."""
    seconds = sorted(run.seconds for run in runs if run.state is StepState.SUCCEEDED)
    if not seconds:
        return ""
    shown = [shown_seconds(max(at_most(seconds, share), _LEAST_S)) for share in (0.5, 0.95, 1.0)]
    return f"half within {shown[0]}, 95% within {shown[1]}, all within {shown[2]}"


def at_most(ordered: Sequence[float], share: float) -> float:
    """The least of the values that this share of them does not exceed.

    >>> [at_most([1, 2, 3, 4], share) for share in (0.5, 0.95, 1.0)]
    [2, 4, 4]
    """
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def origins(runs: Sequence[StepRun]) -> list[str]:
    """The runs that hits were taken from, most first."""
    found = Counter(run.origin[0] for run in runs if run.origin is not None)
    told = [f"{number} from {run}" for run, number in found.most_common(2)]
    return told + ([f"others from {counted(len(found) - 2, 'more run')}"] if len(found) > 2 else [])


def failed(runs: Sequence[StepRun]) -> list[StepRun]:
    """The elements that failed for good."""
    return [run for run in runs if run.state in _FAILED]


def failures(runs: Sequence[StepRun]) -> list[str]:
    """Failed elements by what they said, most frequent first: `12 x ValueError: too cold: fit[3], fit[17] …`."""
    same: dict[str, list[StepRun]] = {}
    for run in failed(runs):
        if run.failure is not None:
            same.setdefault(failure_shown(run.failure), []).append(run)
    lines = []
    for text, those in sorted(same.items(), key=lambda each: -len(each[1]))[:FEW]:
        names = ", ".join(name_of(run.step, run.index) for run in those[:3]) + (" …" if len(those) > 3 else "")
        lines.append(f"{len(those)} x {text}: {names}")
    return lines + ([f"and {counted(len(same) - FEW, 'other failure')}"] if len(same) > FEW else [])
