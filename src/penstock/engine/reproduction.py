"""Two runs of one graph, step by step: identical, equal within a tolerance, or different; and which came first.

Pure: what the outputs compare to is given, so that values are looked at where the classes they need can be imported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from ..graph import Graph
from ..ports.agreement import Agreement, Tolerance, Verdict
from ..ports.records import StepRun, StepState
from .comparison import place

Runs = Mapping[tuple[str, str], StepRun]
Place = tuple[str, str, str]  # step, index, output

_WORST = (Verdict.DIFFERENT, Verdict.UNKNOWN, Verdict.EQUAL, Verdict.IDENTICAL)


class StepVerdict(msgspec.Struct, frozen=True):
    """How one instance of a step compares. `same_inputs`: it was given the very same bytes in both runs."""

    step: str
    index: str
    verdict: Verdict
    text: str = ""
    output: str = ""  # the one that `agreement` speaks of
    agreement: Agreement | None = None
    same_inputs: bool = True
    because: tuple[str, ...] = ()  # steps that differ before it and that it needs


class Comparison(msgspec.Struct, frozen=True):
    """Every instance of both runs, each after what it needs."""

    steps: tuple[StepVerdict, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all; what could not be compared does not count where something differs."""
        found = {each.verdict for each in self.steps if each.verdict is not Verdict.UNKNOWN or each.agreement}
        return next((verdict for verdict in _WORST if verdict in found), Verdict.IDENTICAL)

    @property
    def first(self) -> StepVerdict | None:
        """The first step that differs."""
        return next((each for each in self.steps if each.verdict is Verdict.DIFFERENT), None)

    @property
    def origin(self) -> StepVerdict | None:
        """The step that the first difference comes from: the first at all that is not identical, where what differs
        needs it, for a small difference may grow."""
        first = self.first
        if first is None:
            return None
        return next(
            (each for each in self.steps if each.verdict is Verdict.EQUAL and each.step in first.because), first
        )


def unlike(graph: Graph, before: Runs, after: Runs) -> list[Place]:
    """Outputs that both runs have, under other bytes: what somebody must look at."""
    found = []
    for step, index in _ordered(graph, before, after):
        left, right = before.get((step, index)), after.get((step, index))
        if left is not None and right is not None:
            for name, ref in left.outputs.items():
                other = right.outputs.get(name)
                if other is not None and (ref.digest, ref.codec) != (other.digest, other.codec):
                    found.append((step, index, name))
    return found


def judge(
    graph: Graph,
    before: Runs,
    after: Runs,
    agreements: Mapping[Place, Agreement],
    tolerance: Tolerance,
    not_run: Collection[str] = (),
) -> Comparison:
    """Compare every instance. `not_run`: steps that were not to run again (effects)."""
    worse: dict[str, frozenset[str]] = {}  # steps that are not identical, in order, and all that follow each
    verdicts = []
    for step, index in _ordered(graph, before, after):
        left, right = before.get((step, index)), after.get((step, index))
        found = _step(step, index, left, right, agreements, tolerance, step in not_run)
        because = tuple(name for name, below in worse.items() if step in below and step != name)
        same = left is not None and right is not None and left.inputs == right.inputs
        found = msgspec.structs.replace(found, because=because, same_inputs=same)
        if found.verdict in (Verdict.DIFFERENT, Verdict.EQUAL) and step not in worse:
            worse[step] = graph.downstream(step)
        verdicts.append(found)
    return Comparison(tuple(verdicts))


def _step(
    step: str,
    index: str,
    left: StepRun | None,
    right: StepRun | None,
    agreements: Mapping[Place, Agreement],
    tolerance: Tolerance,
    not_run: bool,
) -> StepVerdict:
    if not_run:
        return StepVerdict(step, index, Verdict.UNKNOWN, "not run again: it changes something outside")
    if left is None or right is None:
        text = "only the first run had it" if right is None else "the first run did not have it"
        return StepVerdict(step, index, Verdict.DIFFERENT, text)
    if _state(left) != _state(right):
        return StepVerdict(step, index, Verdict.DIFFERENT, f"{_told(left)} → {_told(right)}")
    worst = StepVerdict(step, index, Verdict.IDENTICAL)
    for name in dict.fromkeys([*left.outputs, *right.outputs]):
        one, other = left.outputs.get(name), right.outputs.get(name)
        if one is None or other is None:
            found = StepVerdict(step, index, Verdict.DIFFERENT, f"only one run has the output '{name}'")
        elif (one.digest, one.codec) == (other.digest, other.codec):
            continue
        else:
            agreement = agreements.get((step, index, name)) or Agreement(Verdict.UNKNOWN, text="not compared")
            found = StepVerdict(step, index, agreement.verdict, shown(agreement), name, agreement)
        if _WORST.index(found.verdict) < _WORST.index(worst.verdict):
            worst = found
    if worst.verdict is not Verdict.DIFFERENT:
        for name in dict.fromkeys([*left.metrics, *right.metrics]):
            apart = _metric(name, left.metrics.get(name), right.metrics.get(name), tolerance)
            if apart is not None:
                return StepVerdict(step, index, Verdict.DIFFERENT, apart)
    return worst


def shown(agreement: Agreement) -> str:
    """The agreement in words.

    >>> shown(Agreement(Verdict.EQUAL, "[0]", "1.0 → 1.5", max_abs=0.5, max_rel=0.25))
    'at most 0.5 apart (relative 0.25), first at [0]'
    """
    place = f" at {agreement.where}" if agreement.where else ""
    if agreement.verdict is Verdict.EQUAL:
        if agreement.max_abs is None:
            return "the same value, stored as other bytes"
        return f"at most {agreement.max_abs:.2g} apart (relative {agreement.max_rel or 0:.2g}), first{place}"
    if agreement.verdict is Verdict.UNKNOWN:
        return agreement.text
    more = f"; {agreement.count} places differ" if agreement.count > 1 else ""
    apart = f", at most {agreement.max_abs:.2g} apart" if agreement.max_abs and agreement.count > 1 else ""
    where = f"{agreement.where}: " if agreement.where else ""
    return f"{where}{agreement.text}{more}{apart}"


def _metric(name: str, left: float | None, right: float | None, tolerance: Tolerance) -> str | None:
    if left is None or right is None:
        return f"only one run has the metric '{name}'"
    if abs(left - right) <= tolerance.atol + tolerance.relative(64) * abs(right):
        return None
    return f"metric {name}: {left:.6g} → {right:.6g}"


def _state(run: StepRun) -> str:
    return "done" if run.state.has_output else run.state.value


def _told(run: StepRun) -> str:
    word = "succeeded" if run.state is StepState.CACHED else run.state.value.replace("_", " ")
    if run.failure is None or run.state.has_output:
        return word
    return f"{word} ({run.failure.name}: {run.failure.message.partition(chr(10))[0][:120]})"


def _ordered(graph: Graph, before: Runs, after: Runs) -> list[tuple[str, str]]:
    """Every instance, after what it needs."""
    position = {name: at for at, name in enumerate(graph.order())}
    places = {each for each in (*before, *after) if each[0] in position}
    return sorted(places, key=lambda each: (position[each[0]], place(each[1])))
