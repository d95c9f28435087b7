"""Records of the run log as plain facts: what `--json` prints, and the text forms read from too."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.clock import instant
from ..core.errors import NotFoundError, did_you_mean
from ..ports.artifacts import ArtifactRef
from ..ports.records import Attempt, Failure, FailureClass, HiddenInput, RunState, RunSummary, StepRun
from .summary import failure_words, name_of, place_of


def state_shown(state: str, run: RunState) -> str:
    """The state of a step run or an attempt as it is told: nothing runs in a run that does not run.

    >>> state_shown("running", RunState.INTERRUPTED), state_shown("running", RunState.RUNNING)
    ('interrupted', 'running')
    """
    return "interrupted" if state == "running" and run is not RunState.RUNNING else str(state)


def counts_shown(run: RunSummary) -> dict[str, int]:
    """Step runs by the state that is told."""
    counts: dict[str, int] = {}
    for state, number in run.counts.items():
        shown = state_shown(state, run.state)
        counts[shown] = counts.get(shown, 0) + number
    return counts


def failure_shown(failure: Failure) -> str:
    """A failure on one line."""
    if failure.kind is FailureClass.CANCELLED:
        return "stopped"
    return failure_words(failure.kind, failure.name, failure.message)


def run_facts(run: RunSummary) -> dict[str, Any]:
    """A run and where it stands."""
    record = run.record
    took = None if run.finished_at is None else (run.finished_at - run.started_at) / 1e6
    return {
        "run": record.id,
        "pipeline": record.pipeline,
        "name": record.name,
        "state": run.state.value,
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "seconds": took,
        "counts": counts_shown(run),
        "error": run.error,
        "parameters": {name: msgspec.Raw(text.encode()) for name, text in record.parameters.items()},
        "tags": record.tags,
        "user": record.user,
        "host": record.host,
        "backend": record.backend,
        "waived": list(record.options.get("waived", ())),
        "trigger": record.trigger,
    }


def step_facts(run: StepRun, state: RunState) -> dict[str, Any]:
    """A step run, of a run in this state."""
    return {
        "step": run.step,
        "index": run.index,
        "state": state_shown(run.state, state),
        "attempts": run.attempts,
        "seconds": run.seconds,
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "origin": dict(zip(("run", "step", "index"), run.origin, strict=True)) if run.origin else None,
        "note": run.note,
        "metrics": run.metrics,
        "memory_limit": run.memory_limit,
        "waived": list(run.waived),
        "inputs": run.inputs,
        "outputs": {name: artifact_facts(ref) for name, ref in run.outputs.items()},
        "observations": [{"kind": each.kind, "name": each.name, "version": each.version} for each in run.observations],
        "hidden": [hidden_facts(each) for each in run.hidden],
        "failure": failure_facts(run.failure),
        "key": run.key,
    }


def hidden_facts(found: HiddenInput) -> dict[str, Any]:
    """Something that the result may depend on and that the step does not declare."""
    return {"kind": found.kind, "name": found.name, "where": found.where or None}


def hidden_shown(run: StepRun) -> str:
    """What was found in a step run, and what came of it: "read data.csv undeclared: not cached"."""
    from ..engine.hidden.declared import told  # most runs have none

    return f"{told(run.hidden)}: {'cached all the same' if run.key else 'not cached'}"


def artifact_facts(ref: ArtifactRef) -> dict[str, Any]:
    """A stored value, without its preview."""
    return {"digest": ref.digest, "codec": ref.codec, "size_bytes": ref.size_bytes, "type": ref.meta.get("type")}


def attempt_facts(
    attempt: Attempt, state: RunState = RunState.RUNNING, memory_limit: int | None = None
) -> dict[str, Any]:
    """An attempt, of a run in this state."""
    return {
        "number": attempt.number,
        "state": state_shown(attempt.state, state),
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "seconds": attempt.seconds,
        "cpu_seconds": attempt.cpu_seconds,
        "host": attempt.host,
        "pid": attempt.pid,
        "memory_limit": memory_limit,
        "failure": failure_facts(attempt.failure),
    }


def failure_facts(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "kind": failure.kind.value,
        "exception": failure.name,
        "message": failure.message,
        "where": place_of(failure),
        "hint": failure.hint,
        "traceback": failure.traceback,
    }


def iso(us: int | None) -> str | None:
    """An instant as programs read it."""
    return None if us is None else instant(us).isoformat()


def steps_named(steps: list[StepRun], wanted: str, run_id: str) -> list[StepRun]:
    """The step runs of a step ("fit"), or the one of an element ("fit[2]"). Raises NotFoundError with near names."""
    step, _, index = wanted.removesuffix("]").partition("[")
    found = [run for run in steps if run.step == step and (not index or run.index == index)]
    if found:
        return found
    names = list(dict.fromkeys([name_of(run.step, run.index) for run in steps] + [run.step for run in steps]))
    raise NotFoundError(f"run {run_id} has no step '{wanted}'", hint=did_you_mean(wanted, names))
