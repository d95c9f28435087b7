"""`verify`: run a pipeline under conditions that must not matter, and find the steps to which they do."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping

import msgspec

from ..core.errors import RunFailedError
from ..core.ids import slug
from ..engine.causes import self_disagreement
from ..engine.replay import done_before, effects, never, reversed_order
from ..engine.reproduction import Runs
from ..engine.verification import Condition, Finding, Passes, findings, unjudged, variables
from ..graph import Graph
from ..ports.agreement import EXACT, Agreement
from ..ports.events import Event
from ..ports.records import RunState
from .copying import DEFAULT, Layout, Terms, add_present, emptied
from .laboratory import Laboratory, fresh_home, own_settings
from .project import Project
from .trials import Interpreter, Tried

_HASH = "PYTHONHASHSEED"
_ROUNDS = 4  # each judges what follows the faulty steps of the one before it


class Verification(msgspec.Struct, frozen=True):
    """What came of it."""

    pipeline: str
    steps: int
    instances: int
    findings: tuple[Finding, ...]
    not_run: tuple[str, ...]  # effects, and what needs them
    unjudged: tuple[str, ...]  # they follow so many faulty steps that they were never given the same twice
    notes: tuple[str, ...] = ()


def verify(
    project: Project,
    graph: Graph,
    parameters: dict[str, str],
    *,
    tell: Callable[[str], None],
    search: bool = True,
    terms: Terms = DEFAULT,
) -> Verification:
    """Six runs and more in a store and a copy of the project of their own, nothing from the cache and no effect made.
    Raises RunFailedError where the pipeline itself fails, NotReproducibleError where it cannot be run."""
    laboratory, notes = _laboratory(project, graph, parameters, terms)
    settings = laboratory.project.settings
    left_out = _left_out(graph)
    run = _Passes(laboratory, never(graph, effects(graph)), tell)
    first = run.first()
    found: list[Finding] = []
    open_steps: list[str] = []
    for at in range(_ROUNDS):
        tried = run.others(first, {each.step for each in found}, set(open_steps) if at else None)
        if not at:
            _check({Condition.FIRST: first, **tried})
        passes = Passes({Condition.FIRST: first.steps, **{name: each.steps for name, each in tried.items()}})
        agreements: dict[Condition, Mapping[tuple[str, str, str], Agreement]] = {}
        for condition, places in passes.differing().items():
            agreements[condition] = laboratory.agreements(places, first.steps, passes.runs[condition], settings, EXACT)
        new = findings(graph, passes, agreements, left_out)
        found += new
        open_steps = unjudged(passes, left_out)
        if not new or not open_steps:
            break
        tell(f"{len(open_steps)} steps follow what was found: they are judged on its first result")
    if search:
        found = [_searched(each, laboratory, first, tell) for each in found]
    return Verification(
        pipeline=graph.pipeline,
        steps=len(graph.nodes),
        instances=len(first.steps),
        findings=tuple(_with_variables(each, laboratory, first.steps) for each in found),
        not_run=tuple(name for name in graph.order() if name in left_out),
        unjudged=tuple(open_steps),
        notes=notes,
    )


def _laboratory(
    project: Project, graph: Graph, parameters: dict[str, str], terms: Terms
) -> tuple[Laboratory, tuple[str, ...]]:
    """One copy for all runs: what steps leave behind in files is one of the things that are looked for."""
    place = project.home / "verifications" / slug(graph.pipeline)
    code = place.with_name(f"code-{place.name}")
    layout = Layout.of(project.settings.root, os.getcwd(), emptied(code))
    notes = (*layout.notes(), *add_present(project, layout, terms, all_code=True))
    settings = own_settings(project, fresh_home(place), layout.root, project.settings.seed)
    laboratory = Laboratory(
        graph,
        parameters,
        settings,
        Interpreter(),
        folder=layout.folder,
        path=tuple(os.path.normpath(os.path.join(layout.root, each)) for each in project.fingerprints.search_path()),
        tags={"verifies": graph.pipeline},
    )
    return laboratory, notes


def _left_out(graph: Graph) -> frozenset[str]:
    """Effects, and what needs their results: without a recorded one these cannot run."""
    found = effects(graph)
    return graph.downstream(*found) if found else found


class _Passes:
    """One round: the conditions that must not matter. Steps that are known to be faulty keep their first result, so
    that what follows them is given the same."""

    def __init__(self, laboratory: Laboratory, graph: Graph, tell: Callable[[str], None]) -> None:
        self._laboratory = laboratory
        self._graph = graph
        self._tell = tell

    def first(self) -> Tried:
        return self._fresh(self._graph, "0", "every step in a fresh process", [])

    def others(self, first: Tried, faulty: Collection[str], only: Collection[str] | None) -> dict[Condition, Tried]:
        """`only`: the steps that are not judged yet (None: all). In fresh processes nothing else need run again; in
        one process, what ran before a step may be what is wrong with it."""
        now = self._laboratory.project.clock.now_us()
        judged = [run for run in first.steps.values() if only is not None and run.step not in only]
        known = done_before(first.record.id, judged, now)
        held = done_before(first.record.id, [run for run in first.steps.values() if run.step in faulty], now)
        graph, opposite = self._graph, reversed_order(self._graph)
        found = {
            Condition.AGAIN: self._fresh(graph, "0", "once more", known),
            Condition.HASHED: self._fresh(graph, "1", "with another PYTHONHASHSEED", known),
            Condition.REORDERED: self._fresh(opposite, "0", "in another order", known),
        }
        self._tell("all steps in one process, twice")
        together = self._laboratory.run(graph, opposite, variables={_HASH: "0"}, known=held)
        return found | dict(zip((Condition.TOGETHER, Condition.TOGETHER_AGAIN), together, strict=True))

    def _fresh(self, graph: Graph, hash_seed: str, what: str, known: list[Event]) -> Tried:
        self._tell(what)
        (tried,) = self._laboratory.run(graph, one_process_per_step=True, variables={_HASH: hash_seed}, known=known)
        return tried


def _check(tried: Mapping[Condition, Tried]) -> None:
    """A pipeline that fails in every pass is broken, not unreliable."""
    if any(each.state is RunState.SUCCEEDED for each in tried.values()):
        return
    failed = [run for run in tried[Condition.FIRST].steps.values() if run.failure is not None]
    why = f": '{failed[0].step}': {failed[0].failure.message}" if failed and failed[0].failure else ""
    raise RunFailedError(f"the pipeline fails{why}", hint="repair it first: penstock run FILE")


def _searched(finding: Finding, laboratory: Laboratory, first: Tried, tell: Callable[[str], None]) -> Finding:
    """Of a step that differs from itself: tried alone, what makes it agree?"""
    if finding.kind != "nondeterminism":
        return finding
    tell(f"looking for the cause: '{finding.step}' is tried alone, a few times")
    subject = laboratory.alone(
        first.record.id, first.steps, first.sizes, (finding.step, finding.index), laboratory.project.artifacts
    )
    if subject is None:
        return finding
    cause = self_disagreement(subject.steadied(), "it gives something else each time")
    return msgspec.structs.replace(finding, cause=cause)


def _with_variables(finding: Finding, laboratory: Laboratory, first: Runs) -> Finding:
    """Names the variables of modules that a step with hidden state reaches."""
    code = laboratory.project.store.get_code(first[finding.step, finding.index].parts.get("code", ""))
    if finding.kind != "hidden state" or finding.condition is Condition.REORDERED or code is None:
        return finding
    names = variables(code[0])
    if not names:
        return finding
    cause = finding.cause
    text = f"{cause.text}; its code reaches {', '.join(names[:4])}"
    return msgspec.structs.replace(finding, cause=msgspec.structs.replace(cause, text=text))
