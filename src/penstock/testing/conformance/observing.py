"""What happened in a run, read from the run log and nothing else: the same for every engine.

What may differ between two runs of one pipeline is left out or made alike: ids, hosts, times, and which of several
instances that compute the same did it for the others. Times are looked at here, against what the policy asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from ...core.errors import PenstockError
from ...core.jsonvalue import dumps
from ...engine.arguments import Refusal, Resolver
from ...engine.tasks import Collected, Json, Keyed, SecretValue, Stored, TaskArgument, Whole
from ...graph import Graph
from ...ports.events import RunView, attempts_of, fold
from ...ports.records import Attempt, Failure, RunSummary, StepRun, StepState
from ...wiring.config import load_settings
from ...wiring.project import Project
from ..rules import broken_rules
from .laws import broken_laws

ELSEWHERE = -1  # the origin of a hit that no run of the case computed
_WORDED = frozenset({"timeout", "out_of_memory", "killed", "preempted"})  # kinds whose messages name what was measured


class Tried(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt."""

    state: str
    failure: tuple[str, ...] = ()  # kind, exception class, and the message where the step itself wrote it
    printed: str = ""


class Instance(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step run."""

    state: str
    attempts: tuple[Tried, ...] = ()
    outputs: dict[str, str] = {}  # name -> codec and digest
    inputs: dict[str, tuple[str, ...]] = {}  # argument -> digests: the edges of the lineage
    taken_from: int | None = None  # the act of the case whose run computed what a hit took
    key_parts: tuple[str, ...] = ()  # what the cache key is made of, besides inputs; () where there is none
    note: str | None = None
    metrics: dict[str, float] = {}
    observed: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


class Observed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run."""

    state: str
    pipeline: str
    parameters: dict[str, str]
    tags: dict[str, str] = {}
    schedule: str = ""
    result: str | None = None  # what the pipeline returned, as JSON text; None where it has no value
    instances: dict[str, Instance] = {}  # "step" or "step[index]"
    broken: tuple[str, ...] = ()  # laws that no run may break, in words


def open_project(folder: str, settings: Mapping[str, str]) -> Project:
    """The stores of a place, by its PENSTOCK_HOME, _RUNS and _ARTIFACTS."""
    named = {name.removeprefix("PENSTOCK_").lower(): value for name, value in settings.items()}
    return Project(load_settings(folder, **named))


def observe(project: Project, run_id: str, acts: Sequence[str] = ()) -> Observed:
    """What the run log says of a run. `acts`: ids of the runs of this case, in order, this one included."""
    store = project.store
    summary = store.find_run(run_id)
    if summary is None:
        raise LookupError(f"the run log has no run {run_id}")
    graph = Graph.from_json(store.manifest(summary.record.manifest))
    events = [event for _, event in store.events(run_id)]
    view = fold(events)
    printed: dict[tuple[str, str, int], str] = {}
    for _, step, index, number, text in store.read_text(run_id):
        printed[step, index, number] = printed.get((step, index, number), "") + text
    tried: dict[tuple[str, str], list[Tried]] = {}
    for attempt in attempts_of(events):
        one = _tried(attempt, printed.get((attempt.step, attempt.index, attempt.number), ""))
        tried.setdefault((attempt.step, attempt.index), []).append(one)
    instances = {
        shown(run.step, run.index): _instance(run, tried, run_id, acts) for run in sorted(view.steps.values(), key=_key)
    }
    return Observed(
        state=summary.state.value,
        pipeline=graph.pipeline,
        parameters=summary.record.parameters,
        tags=summary.record.tags,
        schedule=" ".join(_schedule(graph)),
        result=_result(project, graph, view, summary),
        instances=instances,
        broken=(
            *broken_rules(graph, run_id, store),
            *broken_laws(graph, events, project.settings.pools),
            *_unreadable(project, view),
        ),
    )


def shown(step: str, index: str) -> str:
    return f"{step}[{index}]" if index else step


# -- inside ------------------------------------------------------------------------------------------------------------


def _key(run: StepRun) -> tuple[str, list[int]]:
    return run.step, [int(part) for part in run.index.split(".")] if run.index else []


def _schedule(graph: Graph) -> tuple[str, ...]:
    return (*graph.on_data, *((graph.schedule.expression, graph.schedule.tz) if graph.schedule is not None else ()))


def _tried(attempt: Attempt, printed: str) -> Tried:
    return Tried(attempt.state, _failure(attempt.failure) if attempt.failure is not None else (), printed)


def _failure(failure: Failure) -> tuple[str, ...]:
    said = () if failure.kind.value in _WORDED else (failure.message,)
    return (failure.kind.value, failure.name, *said)


def _instance(run: StepRun, tried: Mapping[tuple[str, str], list[Tried]], run_id: str, acts: Sequence[str]) -> Instance:
    own = (run.step, run.index)
    state, taken_from = run.state.value, None
    if run.origin is not None:
        from_run, *place = run.origin
        if from_run == run_id:  # a twin computed it: which one of them is nobody's business
            state, own = StepState.SUCCEEDED.value, (place[0], place[1])
        else:
            taken_from = acts.index(from_run) if from_run in acts else ELSEWHERE
    has_output = run.state.has_output
    return Instance(
        state=state,
        attempts=tuple(tried.get(own, ())),
        outputs={name: f"{ref.codec} {ref.digest}" for name, ref in run.outputs.items()},
        inputs={name: tuple(digests) for name, digests in run.inputs.items()},
        taken_from=taken_from,
        key_parts=tuple(sorted(run.parts)),
        note=run.note if has_output else None,
        metrics=run.metrics,
        observed=tuple(sorted(f"{seen.kind} {seen.version}" for seen in run.observations)),
        hidden=tuple(sorted({f"{found.kind} {found.name}" for found in run.hidden})),
    )


# A driver that compiles the same file of two projects in one process gives the second one's classes such a module.
_OF_ANOTHER = re.compile(r'"_penstock_[0-9a-f]{8}_')


def _result(project: Project, graph: Graph, view: RunView, summary: RunSummary) -> str | None:
    if graph.result is None:
        return None
    resolver = Resolver(graph, view, summary.record.parameters, project.artifacts)
    try:
        return _OF_ANOTHER.sub('"', _text(resolver.result(graph.result)))
    except Refusal:
        return None


def _text(value: TaskArgument) -> str:
    """A value as exact JSON, read from what is stored: no code of the user's is imported here for it."""
    match value:
        case Json(text):
            return text
        case Stored(ref):
            return ref.inline if ref.inline is not None else dumps(f"{ref.codec} {ref.digest}")
        case Collected(items, as_tuple):
            texts = f"[{','.join(map(_text, items))}]"
            return f'{{"$":"tuple","v":{texts}}}' if as_tuple else texts
        case Keyed(keys, items):
            return _fields(keys, items)
        case Whole(target, keys, items):
            return f"[{dumps(target)},{_fields(keys, items)}]"
        case SecretValue(name):
            return dumps(f"<secret {name}>")


def _fields(keys: Sequence[str], items: Sequence[TaskArgument]) -> str:
    return f"{{{','.join(f'{dumps(key)}:{_text(item)}' for key, item in zip(keys, items, strict=True))}}}"


def _unreadable(project: Project, view: RunView) -> list[str]:
    found = []
    for run in view.steps.values():
        for name, ref in run.outputs.items() if run.state.has_output else ():
            try:
                intact = project.artifacts.intact(ref)
            except PenstockError:
                intact = False
            if not intact:
                found.append(f"output '{name}' of {shown(run.step, run.index)} cannot be read from the artifact store")
    return found
