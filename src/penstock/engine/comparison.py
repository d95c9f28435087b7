"""What differs between two computations of a step: code line by line, packages, parameters, inputs, surroundings.

`plan`, `why` and `diff` say it with the same words. Pure but for `History`, which reads earlier runs when asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from ..core.errors import CodecError
from ..core.jsonvalue import dumps, loads
from ..graph import Argument, Graph, Item, Node, Output, Param, Value, outputs_in
from ..ports.records import CodePart, Observation, RunRecord, StepRun
from ..ports.runlog import CodeText, RunLog, RunQuery

LOOK_BACK = 50  # runs; an older one is as good as none

ChangeKind = Literal["code", "package", "parameter", "input", "environment", "seed", "observation", "cache"]
Code = tuple[Sequence[CodePart], dict[str, str]]  # definitions, and versions of packages


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference, as a line for people and as data."""

    kind: ChangeKind
    name: str
    text: str
    before: str | None = None
    after: str | None = None
    diff: tuple[str, ...] = ()  # lines of source, as in a unified diff
    because: str | None = None  # which step made the new input, and why


class Reader(RunLog, CodeText, Protocol):
    """The parts of a store that comparing reads."""


class Computation(msgspec.Struct, frozen=True):
    """One instance of a step with everything its key is made of."""

    node: Node
    index: str
    graph: Graph
    parameters: dict[str, str]
    parts: dict[str, str]
    inputs: dict[str, list[str]]
    code: Code | None = None


class Earlier(msgspec.Struct, frozen=True):
    """A step run of an earlier run, with that run."""

    record: RunRecord
    run: StepRun
    graph: Graph

    def computation(self, store: CodeText) -> Computation | None:
        """What it was made of; None where that run's graph has no such step."""
        node = next((node for node in self.graph.nodes if node.name == self.run.step), None)
        if node is None:
            return None
        code = store.get_code(self.run.parts["code"]) if "code" in self.run.parts else None
        return Computation(
            node, self.run.index, self.graph, self.record.parameters, self.run.parts, self.run.inputs, code
        )


class History:
    """Earlier runs of a pipeline, newest first, read only as far as somebody asks."""

    def __init__(self, store: Reader, pipeline: str, before: str | None = None) -> None:
        self._store = store
        self._query = RunQuery(pipeline=pipeline, limit=LOOK_BACK, before=before)
        self._records: list[RunRecord] | None = None
        self._steps: dict[str, dict[tuple[str, str], StepRun]] = {}
        self._graphs: dict[str, Graph] = {}

    @property
    def records(self) -> list[RunRecord]:
        if self._records is None:
            self._records = [summary.record for summary in self._store.list_runs(self._query)]
        return self._records

    def latest(self, step: str, index: str) -> Earlier | None:
        """The newest time that this instance was computed or taken from the cache, whatever came of it."""
        for record in self.records:
            run = self.steps(record.id).get((step, index))
            if run is not None and (run.inputs or run.parts or run.attempts or run.state.has_output):
                return Earlier(record, run, self.graph(record.manifest))
        return None

    def knows(self, step: str) -> bool:
        """Whether any instance of the step was ever decided."""
        return any(name == step for record in self.records for name, _ in self.steps(record.id))

    def steps(self, run_id: str) -> dict[tuple[str, str], StepRun]:
        if run_id not in self._steps:
            self._steps[run_id] = {(run.step, run.index): run for run in self._store.step_runs(run_id)}
        return self._steps[run_id]

    def graph(self, manifest: str) -> Graph:
        if manifest not in self._graphs:
            self._graphs[manifest] = Graph.from_json(self._store.manifest(manifest))
        return self._graphs[manifest]


def changes(
    before: Computation, after: Computation, because: Callable[[Output], str | None] = lambda output: None
) -> list[Change]:
    """Every difference between two computations; empty where both have the same key as far as can be told."""
    found: list[Change] = []
    if before.parts.get("code") != after.parts.get("code"):
        found += code_changes(before.code, after.code, after.node.target)
    found += _surrounding_changes(before.parts, after.parts)
    for name in dict.fromkeys([*after.node.inputs, *after.inputs, *before.inputs]):
        if before.inputs.get(name) != after.inputs.get(name):
            found.append(_input_change(name, before, after, because))
    return _merged(found)


def code_changes(before: Code | None, after: Code | None, target: str = "") -> list[Change]:
    """Definitions and packages that differ. Without the stored text of one side, only that they differ."""
    if before is None or after is None:
        return [Change("code", target, "its code changed (the earlier text is not kept)")]
    found = definition_changes(before[0], after[0], target)
    found += package_changes(before[1], after[1])
    return found or [Change("code", target, "its code changed in a way that no kept definition shows")]


def definition_changes(before: Sequence[CodePart], after: Sequence[CodePart], target: str = "") -> list[Change]:
    """Definition by definition, each with its lines."""
    old, new = {part.name: part for part in before}, {part.name: part for part in after}
    found = []
    for name in dict.fromkeys([*new, *old]):
        left, right = old.get(name), new.get(name)
        if left is not None and right is not None and left.digest == right.digest:
            continue
        found.append(
            Change(
                "code",
                name,
                _code_text(name, target, left, right),
                diff=_lines(name, left.text if left else "", right.text if right else ""),
            )
        )
    return found


def package_changes(before: dict[str, str], after: dict[str, str]) -> list[Change]:
    return [
        Change("package", name, f"package {name}: {_arrow(before.get(name), after.get(name))}",
               before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]  # fmt: skip


def observation_changes(before: Sequence[Observation], after: Sequence[Observation]) -> list[Change]:
    """What the outside was, then and now."""
    old = {(seen.kind, seen.name): seen.version for seen in before}
    new = {(seen.kind, seen.name): seen.version for seen in after}
    return [
        observed(kind, name, old[kind, name], version)
        for (kind, name), version in new.items()
        if (kind, name) in old and old[kind, name] != version
    ]


def observed(kind: str, name: str, before: str, after: str | None) -> Change:
    """A change outside, in the words of its kind.

    >>> observed("model", "churn@champion", "2", "3").text
    'champion of churn moved from version 2 to 3'
    """
    match kind:
        case "folder":
            text = f"what lies in folder {name} changed" if after is not None else f"folder {name} is gone"
        case "file" | "url":
            what = "file" if kind == "file" else "object"
            text = f"source {what} {name} changed" if after is not None else f"source {what} {name} is gone"
        case "sql":
            text = f"what the query {shortened(name)} gives changed"
        case "model":
            model, _, alias = name.rpartition("@")
            text = f"{alias} of {model} moved from {_version(before)} to {_version(after).removeprefix('version ')}"
        case "model-version":
            text = f"model version {name} is gone" if after is None else f"model version {name} is another one"
        case _:
            text = f"{kind} {name} changed"
    return Change("observation", name, text, before, after)


def unseen_by(node: Node, unseen: Sequence[str], observations: Sequence[Observation] = ()) -> tuple[str, ...]:
    """What the code of a cached step may depend on and its key cannot see; variables that it declares are seen.

    So are files, where it says which ones it reads: one that it opens besides is found while it runs.
    """
    if not node.options.cache:
        return ()
    declared = tuple(f"environment variable {name}, " for name in node.options.env)
    if node.options.reads or any(each.kind in ("file", "folder") for each in observations):
        declared += (": open opens a file ",)
    return tuple(text for text in unseen if not any(each in text for each in declared))


def only_different(before: Sequence[str], after: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of two lists of digests, what differs: place by place, or what only one of them has where lengths differ.

    >>> only_different(["a", "b", "c"], ["a", "x", "c"])
    (['b'], ['x'])
    >>> only_different(["a", "b"], ["a", "b", "c"])
    ([], ['c'])
    """
    if len(before) == len(after):
        pairs = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        return [old for old, _ in pairs], [new for _, new in pairs]
    return list((Counter(before) - Counter(after)).elements()), list((Counter(after) - Counter(before)).elements())


def shortened(text: str, width: int = 60) -> str:
    """One line of at most `width` characters.

    >>> shortened("a" * 8, 5)
    'aaaa…'
    """
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def instance(step: str, index: str) -> str:
    """`fit`, or `fit[2.0]` for one element of a map."""
    return f"{step}[{index}]" if index else step


def place(index: str) -> tuple[int, ...]:
    """Where an element stands among those of its map.

    >>> sorted(["10", "9", "2.0"], key=place)
    ['2.0', '9', '10']
    """
    return tuple(int(part) for part in index.split(".")) if index else ()


# -- inside ----------------------------------------------------------------------------------------------------------


def _surrounding_changes(before: dict[str, str], after: dict[str, str]) -> list[Change]:
    found: list[Change] = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if name == "code" or old == new:
            continue
        if name.startswith("env:"):
            shown = name.removeprefix("env:")
            found.append(Change("environment", shown, f"environment variable {shown} changed"))
        elif name == "seed":
            found.append(Change("seed", name, f"seed: {_arrow(old, new)}", old, new))
        elif name == "quarantine":
            found.append(Change("parameter", name, "the quarantine rule changed", old, new))
        else:
            found.append(Change("environment", name, f"{name}: {_arrow(old, new)}", old, new))
    return found


def _input_change(
    name: str, before: Computation, after: Computation, because: Callable[[Output], str | None]
) -> Change:
    if name not in before.inputs:
        given = _literal(after.node.inputs.get(name), after)
        return Change("input", name, f"input '{name}' is new" + (f": {shortened(given, 40)}" if given else ""))
    if name not in after.inputs:
        return Change("input", name, f"input '{name}' is no longer given")
    argument, earlier = after.node.inputs.get(name), before.node.inputs.get(name)
    old, new = _literal(earlier, before), _literal(argument, after)
    if old is not None and new is not None:
        what = f"parameter {argument.name}" if isinstance(argument, Param) else f"argument {name}"
        shown = argument.name if isinstance(argument, Param) else name
        text = f"{what}: {shortened(old, 40)} → {shortened(new, 40)}"
        return Change("parameter", shown, text, old, new)
    sources = list(outputs_in(argument))
    if isinstance(argument, Item):
        sources = list(outputs_in(after.graph.scope(argument.scope).over[argument.name]))
    made_by = ", ".join(dict.fromkeys(output.node for output in sources))
    reason = next((found for output in sources if (found := because(output)) is not None), None)
    olds, news = only_different(before.inputs[name], after.inputs[name])
    digests = _short(olds), _short(news)
    text = f"input '{name}'" + (f" (from '{made_by}')" if made_by else "") + " changed"
    return Change("input", name, text, *digests, because=reason)


def _literal(argument: Argument | None, of: Computation) -> str | None:
    """The argument as JSON text where it is written in the pipeline or given as a parameter."""
    match argument:
        case Value(text):
            return text
        case Param(name):
            return of.parameters.get(name)
        case Item(scope, name):
            chain = of.graph.scopes_of(scope)
            listed = _literal(of.graph.scope(scope).over[name], of)
            if listed is None or not of.index:
                return None
            try:
                return dumps(loads(listed)[int(of.index.split(".")[len(chain) - 1])])
            except (CodecError, TypeError, LookupError, ValueError):
                return None
        case _:
            return None


def _code_text(name: str, target: str, left: CodePart | None, right: CodePart | None) -> str:
    place, _, qualname = name.rpartition(":")
    what = "the step's own code" if name == target else f"code of {qualname} in {place}" if place else f"code of {name}"
    if left is None:
        return f"{what} is reached now"
    if right is None:
        return f"{what} is no longer reached"
    return f"{what} changed"


def _lines(name: str, before: str, after: str) -> tuple[str, ...]:
    import difflib  # 3 ms, and only ever needed where something changed

    found = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="", n=2)
    return tuple(line for line in found if not line.startswith(("--- ", "+++ ")))


def _merged(found: list[Change]) -> list[Change]:
    """One parameter that feeds two arguments is one change."""
    return list({(change.kind, change.name, change.text): change for change in found}.values())


def _arrow(before: str | None, after: str | None) -> str:
    return f"{before if before is not None else 'none'} → {after if after is not None else 'none'}"


def _version(version: str | None) -> str:
    return "nothing" if version in (None, "none") else f"version {version}"


def _short(digests: list[str]) -> str:
    shown = ", ".join(digest if digest.startswith("secret:") else digest[:8] for digest in digests[:3])
    return shown + (f", … ({len(digests)})" if len(digests) > 3 else "")
