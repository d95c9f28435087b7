"""What two runs differ in: code, parameters, data, environment, metrics, and how they went; and why they differ.

Reads the run log, and statistics of tables where it is given somebody who makes them; every entry is (what, in the
first run, in the second run).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.errors import CodecError
from ..core.jsonvalue import loads
from ..graph import Graph
from ..ports.artifacts import ArtifactRef
from ..ports.records import RunRecord, RunSummary, StepRun
from .comparison import (
    Change,
    History,
    Reader,
    code_changes,
    instance,
    observation_changes,
    only_different,
    package_changes,
)
from .reasons import Reason, Runs, Statistics, TablePair, reasons, table_pairs


class Side(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the two runs."""

    run: str
    pipeline: str
    state: str
    started_at: int
    seconds: float | None = None


class Pair(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that differs. None: not there."""

    name: str
    before: str | None = None
    after: str | None = None


class DataVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stored value as an input: its version, and how much of it there is."""

    digest: str
    kind: str = ""
    rows: int | None = None
    columns: tuple[str, ...] = ()
    size_bytes: int | None = None


class DataPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """An argument of a step that was given other data; of a list, the values that differ."""

    step: str
    argument: str
    before: DataVersion | None = None
    after: DataVersion | None = None
    columns_added: tuple[str, ...] = ()
    columns_removed: tuple[str, ...] = ()


class MetricPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A metric, side by side. `delta` is after - before."""

    step: str
    index: str
    name: str
    before: float | None = None
    after: float | None = None
    delta: float | None = None


class StepPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a step went in both."""

    step: str
    index: str
    before: str | None = None  # state
    after: str | None = None
    seconds_before: float | None = None
    seconds_after: float | None = None


class SourcePair(msgspec.Struct, frozen=True):
    """Something outside that a step looked at, and that was another version."""

    step: str
    change: Change


class StepCode(msgspec.Struct, frozen=True):
    """The definitions behind one step that differ."""

    step: str
    changes: tuple[Change, ...]


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that two runs differ in; `metrics` and `steps` hold what is equal too."""

    first: Side
    second: Side
    git: tuple[Pair, ...] = ()
    code: tuple[StepCode, ...] = ()
    graph: tuple[Pair, ...] = ()  # steps that only one of them has
    parameters: tuple[Pair, ...] = ()
    data: tuple[DataPair, ...] = ()
    sources: tuple[SourcePair, ...] = ()
    tables: tuple[TablePair, ...] = ()
    environment: tuple[Pair, ...] = ()
    packages: tuple[Pair, ...] = ()
    metrics: tuple[MetricPair, ...] = ()
    steps: tuple[StepPair, ...] = ()
    reasons: tuple[Reason, ...] = ()  # why the results differ; empty where none does
    models: bool = False  # whether a model is among what differs

    @property
    def same(self) -> bool:
        """Whether code, parameters, data, environment, metrics and results are the same."""
        differing = (self.git, self.code, self.graph, self.parameters, self.data, self.environment, self.packages)
        return not any((*differing, self.sources, self.reasons)) and not any(
            pair.before != pair.after for pair in self.metrics
        )


def diff(store: Reader, first: RunSummary, second: RunSummary, statistics: Statistics | None = None) -> Difference:
    """Compare two runs, of one pipeline or of two. `statistics` looks into stored tables; without it, nobody does."""
    history = History(store, first.record.pipeline)
    before, after = first.record, second.record
    graphs = history.graph(before.manifest), history.graph(after.manifest)
    runs = history.steps(before.id), history.steps(after.id)
    tables = table_pairs(*runs, statistics)
    return Difference(
        first=_side(first),
        second=_side(second),
        git=_pairs(_git(before), _git(after)),
        code=_code(store, (before, after), graphs, runs),
        graph=_pairs(*({node.name: node.target for node in graph.nodes} for graph in graphs), missing_only=True),
        parameters=_pairs(_parameters(before), _parameters(after)),
        data=_data(*runs),
        sources=_sources(*runs),
        tables=tables,
        environment=_pairs(_environment(before), _environment(after)),
        packages=tuple(
            Pair(change.name, change.before, change.after)
            for change in package_changes(_packages(before), _packages(after))
        ),
        metrics=_metrics(*runs),
        steps=tuple(_step_pair(key, *runs) for key in dict.fromkeys([*runs[0], *runs[1]])),
        reasons=reasons(store, (before, after), graphs, runs, tables),
        models=_models(*runs),
    )


def _side(summary: RunSummary) -> Side:
    ended = summary.finished_at
    seconds = None if ended is None else (ended - summary.started_at) / 1_000_000
    return Side(summary.record.id, summary.record.pipeline, summary.state.value, summary.started_at, seconds)


def _pairs(before: dict[str, str], after: dict[str, str], *, missing_only: bool = False) -> tuple[Pair, ...]:
    return tuple(
        Pair(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) and not (missing_only and name in before and name in after)
    )


def _git(record: RunRecord) -> dict[str, str]:
    git: dict[str, Any] = record.code.get("git") or {}
    shown = {name: str(git[name]) for name in ("commit", "branch") if git.get(name)}
    if git.get("digest"):
        shown["uncommitted changes"] = str(git["digest"])[:12]
    return shown


def _code(
    store: Reader,
    records: tuple[RunRecord, RunRecord],
    graphs: tuple[Graph, Graph],
    runs: tuple[Runs, Runs],
) -> tuple[StepCode, ...]:
    """Per step that both have; one definition that several steps reach is told under each of them."""
    old, new = (_made_by(*each) for each in zip(records, graphs, runs, strict=True))
    found = []
    for node in graphs[1].nodes:
        left, right = old.get(node.name), new.get(node.name)
        if left is not None and right is not None and left != right:
            changed = code_changes(store.get_code(left), store.get_code(right))
            found.append(StepCode(node.name, tuple(changed)))
    return tuple(found)


def _made_by(record: RunRecord, graph: Graph, runs: Runs) -> dict[str, str]:
    """Step -> digest of its code: what its newest run was made by, which a resume may have kept from older code."""
    steps: dict[str, str] = record.code.get("steps", {})
    found = {node.name: steps[node.target] for node in graph.nodes if node.target in steps}
    return found | {run.step: run.parts["code"] for run in runs.values() if "code" in run.parts}


def _parameters(record: RunRecord) -> dict[str, str]:
    shown = {}
    for name, text in record.parameters.items():
        try:
            value = loads(text)
        except CodecError:
            value = None
        secret = isinstance(value, str) and value.startswith("secret:")
        shown[name] = f"secret {value.removeprefix('secret:')}" if secret and isinstance(value, str) else text
    return shown


def _environment(record: RunRecord) -> dict[str, str]:
    apart = ("packages", "origins", "settings")
    shown = {name: str(value) for name, value in record.environment.items() if name not in apart}
    shown |= record.environment.get("settings", {})
    return shown | {"seed": str(record.seed), "host": record.host}


def _packages(record: RunRecord) -> dict[str, str]:
    found: dict[str, str] = record.environment.get("packages", {})
    return found


def _data(before: Runs, after: Runs) -> tuple[DataPair, ...]:
    known = _known(before) | _known(after)
    found = []
    for key in dict.fromkeys([*before, *after]):
        left, right = before.get(key), after.get(key)
        if left is None or right is None:
            continue
        for argument in dict.fromkeys([*left.inputs, *right.inputs]):
            olds, news = left.inputs.get(argument, []), right.inputs.get(argument, [])
            if olds == news or not any(digest in known for digest in (*olds, *news)):
                continue  # the same, or no stored value but a parameter
            found.append(_data_pair(left, argument, *only_different(olds, news), known))
    return tuple(found)


def _sources(before: Runs, after: Runs) -> tuple[SourcePair, ...]:
    return tuple(
        SourcePair(instance(*place), change)
        for place, run in after.items()
        if place in before
        for change in observation_changes(before[place].observations, run.observations)
    )


def _models(before: Runs, after: Runs) -> bool:
    """Whether a model is another one: an estimator, or an object of a class that no other codec knows."""
    return any(
        ref.codec in ("skops", "cloudpickle") and old.digest != ref.digest
        for place, run in after.items()
        if place in before
        for name, ref in run.outputs.items()
        if (old := before[place].outputs.get(name)) is not None
    )


def _known(runs: Runs) -> dict[str, ArtifactRef]:
    return {ref.digest: ref for run in runs.values() for ref in run.outputs.values()}


def _data_pair(
    run: StepRun, argument: str, olds: list[str], news: list[str], known: dict[str, ArtifactRef]
) -> DataPair:
    left, right = _version(olds, known), _version(news, known)
    old_columns, new_columns = (left.columns if left else ()), (right.columns if right else ())
    return DataPair(
        instance(run.step, run.index),
        argument,
        left,
        right,
        columns_added=tuple(each for each in new_columns if each not in old_columns) if old_columns else (),
        columns_removed=tuple(each for each in old_columns if each not in new_columns) if new_columns else (),
    )


def _version(digests: list[str], known: dict[str, ArtifactRef]) -> DataVersion | None:
    if not digests:
        return None
    refs = [known[digest] for digest in digests if digest in known]
    if len(digests) > 1:
        rows = [ref.meta.get("rows") for ref in refs]
        total = sum(each for each in rows if isinstance(each, int)) if rows and None not in rows else None
        return DataVersion(",".join(digests), f"{len(digests)} values", total)
    if not refs:
        return DataVersion(digests[0])
    ref = refs[0]
    columns = tuple(str(name) for name, *_ in ref.meta.get("columns", ()))
    return DataVersion(ref.digest, str(ref.meta.get("type", ref.codec)), ref.meta.get("rows"), columns, ref.size_bytes)


def _metrics(before: Runs, after: Runs) -> tuple[MetricPair, ...]:
    found = []
    for key in dict.fromkeys([*before, *after]):
        old = before[key].metrics if key in before else {}
        new = after[key].metrics if key in after else {}
        for name in dict.fromkeys([*old, *new]):
            left, right = old.get(name), new.get(name)
            delta = right - left if left is not None and right is not None else None
            found.append(MetricPair(*key, name, left, right, delta))
    return tuple(found)


def _step_pair(key: tuple[str, str], before: Runs, after: Runs) -> StepPair:
    left, right = before.get(key), after.get(key)
    return StepPair(
        *key,
        before=left.state.value if left else None,
        after=right.state.value if right else None,
        seconds_before=left.seconds if left else None,
        seconds_after=right.seconds if right else None,
    )
