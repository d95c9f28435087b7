"""Why two runs came to different results: which steps gave something else first, and what was otherwise in them.

Reads the run log, and statistics of stored tables where somebody can give them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ..graph import Graph
from ..ports.artifacts import ArtifactRef
from ..ports.records import RunRecord, StepRun
from ..ports.statistics import ColumnStatistics, TableStatistics
from .comparison import Change, Earlier, Reader, changes, instance, observation_changes

Runs = Mapping[tuple[str, str], StepRun]
Statistics = Callable[[ArtifactRef], TableStatistics | None]

_MOST_TABLES = 12  # pairs that statistics are made of; each reads both tables once
_NOTABLE = 0.005  # a mean, or a spread, that moved by less than this share of the spread is no news


class ColumnPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column that is not what it was; None: not there. `moved` ranks: how far, in units of its own spread."""

    name: str
    before: ColumnStatistics | None = None
    after: ColumnStatistics | None = None
    text: str = ""
    moved: float = 0.0


class TablePair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table that a step gave in both runs, under other bytes. The columns that moved farthest first."""

    step: str
    output: str
    rows_before: int
    rows_after: int
    columns: tuple[ColumnPair, ...] = ()
    same_columns: int = 0  # how many have the same statistics
    sampled: int | None = None

    @property
    def text(self) -> str:
        """What happened to it, in one line.

        >>> TablePair("load", "output", 10, 12).text
        '2 more rows'
        """
        apart = self.rows_after - self.rows_before
        words = [f"{abs(apart)} {'more' if apart > 0 else 'fewer'} row{'s' if abs(apart) > 1 else ''}"] if apart else []
        words += [pair.text for pair in self.columns[:2] if pair.text]
        if not words and self.columns:
            words = [f"other values, with nearly the same statistics of {self.columns[0].name}"]
        return ", ".join(words) or "other values, with the same statistics"


class Reason(msgspec.Struct, frozen=True):
    """One step where the runs part, and what was otherwise in it. `reaches`: steps after it that differ too."""

    step: str
    text: str
    kinds: tuple[str, ...] = ()
    reaches: int = 0


def table_pairs(before: Runs, after: Runs, statistics: Statistics | None) -> tuple[TablePair, ...]:
    """Every table that differs, by the step that gave it; the first dozen, in the order of the steps."""
    found: list[TablePair] = []
    seen: set[tuple[str, str]] = set()
    for place, right in after.items() if statistics is not None else ():
        left = before.get(place)
        for name in right.outputs if left is not None else ():
            old, new = (left.outputs.get(name) if left else None), right.outputs[name]
            if old is None or old.digest == new.digest or (old.digest, new.digest) in seen:
                continue
            seen.add((old.digest, new.digest))
            if len(found) < _MOST_TABLES and statistics is not None:
                tables = statistics(old), statistics(new)
                if tables[0] is not None and tables[1] is not None:
                    found.append(_table_pair(instance(*place), name, tables[0], tables[1]))
    return tuple(found)


def reasons(
    store: Reader,
    records: tuple[RunRecord, RunRecord],
    graphs: tuple[Graph, Graph],
    runs: tuple[Runs, Runs],
    tables: tuple[TablePair, ...],
) -> tuple[Reason, ...]:
    """Where the runs part: those that the most differing steps follow come first. Empty where no step differs."""
    graph = graphs[1]
    differing = _differing(*runs)
    both = {node.name for node in graphs[0].nodes} & {node.name for node in graph.nodes}
    found = []
    for step in graph.order():
        reaches = len((graph.downstream(step) - {step}) & set(differing))
        if step not in both:
            if any(name == step for name, _ in runs[1]):
                found.append(Reason(step, "only the second run has this step", ("graph",), reaches))
        elif step in differing:
            own = _own_changes(store, records, graphs, runs, differing[step])
            words = [_told(each) for each in own]
            if not words and _same_inputs(runs, differing[step]):
                words = ["the same code, inputs and parameters gave something else (see penstock verify)"]
            if words:
                told = next((table.text for table in tables if table.step.partition("[")[0] == step), None)
                text = "; ".join(dict.fromkeys(words)) + (f" ({told})" if told else "")
                found.append(Reason(step, text, tuple(dict.fromkeys(each.kind for each in own)), reaches))
    return tuple(sorted(found, key=lambda each: -each.reaches))


def _differing(before: Runs, after: Runs) -> dict[str, tuple[str, str]]:
    """Step -> its first instance that ended otherwise or gave other bytes."""
    found: dict[str, tuple[str, str]] = {}
    for place, right in after.items():
        left = before.get(place)
        if left is not None and place[0] not in found and _outcome(left) != _outcome(right):
            found[place[0]] = place
    return found


def _outcome(run: StepRun) -> tuple[str, dict[str, str]]:
    return (
        "done" if run.state.has_output else run.state.value,
        {name: ref.digest for name, ref in run.outputs.items()},
    )


def _same_inputs(runs: tuple[Runs, Runs], place: tuple[str, str]) -> bool:
    return runs[0][place].inputs == runs[1][place].inputs


def _own_changes(
    store: Reader,
    records: tuple[RunRecord, RunRecord],
    graphs: tuple[Graph, Graph],
    runs: tuple[Runs, Runs],
    place: tuple[str, str],
) -> list[Change]:
    """What was otherwise in the step itself; an input that another step gave is that step's affair."""
    sides = [Earlier(*each) for each in zip(records, (runs[0][place], runs[1][place]), graphs, strict=True)]
    before, after = (side.computation(store) for side in sides)
    found = changes(before, after) if before is not None and after is not None else []
    found += observation_changes(runs[0][place].observations, runs[1][place].observations)
    return [each for each in found if each.kind != "input"]


def _told(change: Change) -> str:
    """A change in a few words: of code, how many lines.

    >>> _told(Change("code", "f", "the step's own code changed", diff=("@@ -1 +1 @@", "-a", "+b")))
    "the step's own code changed (1 line)"
    """
    if change.kind != "code" or not change.diff:
        return change.text
    added = sum(line.startswith("+") for line in change.diff)
    lines = max(added, sum(line.startswith("-") for line in change.diff))
    return f"{change.text} ({lines} line{'s' if lines != 1 else ''})"


# -- tables ----------------------------------------------------------------------------------------------------------


def _table_pair(step: str, output: str, before: TableStatistics, after: TableStatistics) -> TablePair:
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    pairs = [_column_pair(name, old.get(name), new.get(name), before.rows, after.rows) for name in {**new, **old}]
    moved = [pair for pair in pairs if pair is not None]
    moved.sort(key=lambda pair: -pair.moved)
    return TablePair(
        step,
        output,
        before.rows,
        after.rows,
        tuple(moved),
        same_columns=len(pairs) - len(moved),
        sampled=after.sampled or before.sampled,
    )


def _column_pair(
    name: str, old: ColumnStatistics | None, new: ColumnStatistics | None, rows_before: int, rows_after: int
) -> ColumnPair | None:
    if old == new:
        return None
    if old is None or new is None:
        return ColumnPair(name, old, new, f"column {name} is {'new' if old is None else 'gone'}", float("inf"))
    words, moved = [], 0.0
    if old.type != new.type:
        words.append(f"type of {name} {old.type} → {new.type}")
        moved = 1e9
    if old.mean is not None and new.mean is not None:
        spread = max(old.std or 0.0, new.std or 0.0)
        shift = abs(new.mean - old.mean) / spread if spread else float(new.mean != old.mean)
        moved = max(moved, shift)
        if shift >= _NOTABLE:
            words.append(f"mean of {name} {_number(old.mean)} → {_number(new.mean)}")
        wider = abs((new.std or 0.0) - (old.std or 0.0)) / spread if spread else 0.0
        moved = max(moved, wider)
        if wider >= _NOTABLE and old.std is not None and new.std is not None:
            words.append(f"std of {name} {_number(old.std)} → {_number(new.std)}")
    shares = [column.nulls / rows if rows else 0.0 for column, rows in ((old, rows_before), (new, rows_after))]
    if old.nulls != new.nulls:
        words.append(f"nulls in {name} {old.nulls} → {new.nulls}")
        moved = max(moved, 10 * abs(shares[1] - shares[0]))
    if (first := _top_change(name, old, new, rows_before, rows_after)) is not None:
        words.append(first[0])
        moved = max(moved, first[1])
    return ColumnPair(name, old, new, ", ".join(words), moved)


def _top_change(
    name: str, old: ColumnStatistics, new: ColumnStatistics, rows_before: int, rows_after: int
) -> tuple[str, float] | None:
    """The frequent value whose share moved farthest, where it moved by a percent or more."""
    before, after = dict(old.top), dict(new.top)
    best: tuple[str, float] | None = None
    for value in {**before, **after}:
        if value not in before or value not in after:
            continue  # not among the most frequent on one side, so that its share there is not known
        shares = before[value] / max(rows_before, 1), after[value] / max(rows_after, 1)
        apart = abs(shares[1] - shares[0])
        if apart >= 0.01 and (best is None or apart > best[1]):
            best = (f"{name} = {value}: {shares[0]:.0%} → {shares[1]:.0%}", apart)
    return best


def _number(value: float) -> str:
    return f"{value:.4g}"
