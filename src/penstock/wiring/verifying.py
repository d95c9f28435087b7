"""`verify`: run a pipeline under conditions that must not matter, and find the steps to which they do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec

from ..core.errors import RunFailedError
from ..core.ids import slug
from ..engine.causes import HASH_0, ONE_THREAD, SEEDED, Signature, self_disagreement
from ..engine.replay import effects, never, reversed_order
from ..engine.reproduction import Runs
from ..engine.verification import Condition, Finding, Passes, findings, unjudged, variables
from ..graph import Graph
from ..ports.agreement import EXACT, Agreement
from ..ports.records import RunState
from .laboratory import Laboratory, fresh_home, own_settings
from .project import Project
from .reproducing import PROBES
from .trials import Interpreter, Tried

_HASH = "PYTHONHASHSEED"


class Verification(msgspec.Struct, frozen=True):
    """What came of it."""

    pipeline: str
    steps: int
    instances: int
    findings: tuple[Finding, ...]
    not_run: tuple[str, ...]  # effects, and what needs them
    unjudged: tuple[str, ...]  # they had other inputs each time, because something before them differs


def verify(
    project: Project, graph: Graph, parameters: dict[str, str], *, tell: Callable[[str], None], search: bool = True
) -> Verification:
    """Six runs in stores of their own, nothing from the cache and no effect made. Raises RunFailedError where the
    pipeline itself fails, NotReproducibleError where it cannot be run."""
    home = fresh_home(project.home / "verifications" / slug(graph.pipeline))
    settings = own_settings(project, home, project.settings.root, project.settings.seed)
    laboratory = Laboratory(
        graph, parameters, settings, Interpreter(), folder=os.getcwd(), tags={"verifies": graph.pipeline}
    )
    left_out = _left_out(graph)
    tried = _passes(laboratory, never(graph, effects(graph)), tell)
    _check(tried)
    passes = Passes({condition: each.steps for condition, each in tried.items()})
    agreements: dict[Condition, Mapping[tuple[str, str, str], Agreement]] = {}
    for condition, places in passes.differing().items():
        first, other = passes.runs[Condition.FIRST], passes.runs[condition]
        agreements[condition] = laboratory.agreements(places, first, other, settings, EXACT)
    found = findings(graph, passes, agreements, left_out)
    if search:
        found = [_searched(each, laboratory, tried, tell) for each in found]
    return Verification(
        pipeline=graph.pipeline,
        steps=len(graph.nodes),
        instances=len(passes.places()),
        findings=tuple(_with_variables(each, laboratory, passes.runs[Condition.FIRST]) for each in found),
        not_run=tuple(name for name in graph.order() if name in left_out),
        unjudged=tuple(unjudged(passes, left_out)),
    )


def _left_out(graph: Graph) -> frozenset[str]:
    """Effects, and what needs their results: without a recorded one these cannot run."""
    found = effects(graph)
    return graph.downstream(*found) if found else found


def _passes(laboratory: Laboratory, graph: Graph, tell: Callable[[str], None]) -> dict[Condition, Tried]:
    def fresh(which: Graph, hash_seed: str, what: str) -> Tried:
        tell(what)
        (tried,) = laboratory.run(which, one_process_per_step=True, variables={_HASH: hash_seed})
        return tried

    found = {
        Condition.FIRST: fresh(graph, "0", "every step in a fresh process"),
        Condition.AGAIN: fresh(graph, "0", "once more"),
        Condition.HASHED: fresh(graph, "1", "with another PYTHONHASHSEED"),
        Condition.REORDERED: fresh(reversed_order(graph), "0", "in another order"),
    }
    tell("all steps in one process, twice")
    together = laboratory.run(graph, reversed_order(graph), variables={_HASH: "0"})
    return found | dict(zip((Condition.TOGETHER, Condition.TOGETHER_AGAIN), together, strict=True))


def _check(tried: Mapping[Condition, Tried]) -> None:
    """A pipeline that fails in every pass is broken, not unreliable."""
    if any(each.state is RunState.SUCCEEDED for each in tried.values()):
        return
    failed = [run for run in tried[Condition.FIRST].steps.values() if run.failure is not None]
    why = f": '{failed[0].step}': {failed[0].failure.message}" if failed and failed[0].failure else ""
    raise RunFailedError(f"the pipeline fails{why}", hint="repair it first: penstock run FILE")


def _searched(
    finding: Finding, laboratory: Laboratory, tried: Mapping[Condition, Tried], tell: Callable[[str], None]
) -> Finding:
    """Of a step that differs from itself: tried alone, what makes it agree?"""
    if finding.kind != "nondeterminism":
        return finding
    tell(f"looking for the cause: '{finding.step}' is tried alone, a few times")
    first = tried[Condition.FIRST]
    subject = laboratory.alone(
        first.record.id, first.steps, first.sizes, (finding.step, finding.index), laboratory.project.artifacts
    )
    if subject is None:
        return finding
    found: dict[str, tuple[Signature, ...]] = {}
    for name in (ONE_THREAD, HASH_0, SEEDED):
        probe = PROBES[name]
        found[name] = subject.tried(probe, 2)
        if found[name][0] == found[name][1]:
            break
    return msgspec.structs.replace(finding, cause=self_disagreement(found, "it gives something else each time"))


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
