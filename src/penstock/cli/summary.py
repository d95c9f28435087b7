"""What a run comes down to, once: the record behind the summary that people read and the one that programs read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from ..core.jsonvalue import loads
from ..core.location import shown_path
from ..engine.hidden.declared import told
from ..graph import Argument, Graph, Many, Output
from ..ports.artifacts import ArtifactRef
from ..ports.records import Failure, FailureClass, RunState, StepRun, StepState

_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)', re.MULTILINE)
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_FOREIGN = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}", f"{os.sep}lib{os.sep}python")


class Told(msgspec.Struct, frozen=True):
    """A step that failed, in the words of its exception."""

    step: str
    state: str
    attempts: int
    exception: str
    message: str
    where: str | None
    hint: str | None
    traceback: str
    kind: str = FailureClass.ERROR.value


class Gate(msgspec.Struct, frozen=True):
    """A gate's verdict."""

    step: str
    passed: bool
    reasons: list[str]


class Note(msgspec.Struct, frozen=True):
    """What an effect did, or that it was done already."""

    step: str
    note: str


class Summary(msgspec.Struct, frozen=True, tag="summary"):
    """The last line of `run --json`."""

    run: str
    state: str
    seconds: float
    counts: dict[str, int]
    saved_seconds: float
    output: str | None  # JSON text, where it is small
    failures: list[Told]
    gates: list[Gate]
    notes: list[Note]
    next: list[str]
    hidden: list[Note] = []  # steps of which nothing was kept, and what they asked for undeclared
    kept: list[str] = []  # finished steps that older code made, kept by a resume with the current code
    changed: list[str] = []  # functions of steps whose code was another one before this resume
    before: dict[str, int] = {}  # of `counts`, those that were finished before this resume

    @property
    def refused(self) -> bool:
        """Whether a gate said no."""
        return any(not gate.passed for gate in self.gates)


def summary(
    run_id: str,
    graph: Graph,
    state: RunState,
    steps: Iterable[StepRun],
    *,
    seconds: float,
    saved_seconds: float,
    kept: Iterable[str] = (),
    before: Mapping[str, int] = {},
    changed: Iterable[str] = (),
) -> Summary:
    """What to tell about a run that is over. The step runs are looked at one after the other, once."""
    counts: Counter[str] = Counter()
    telling = []  # few of very many
    for run in steps:
        counts[run.state.value] += 1
        if not run.index or run.failure is not None or run.note or run.hidden or "passed" in run.outputs:
            telling.append(run)
    failures = [failed(run) for run in telling if run.failure and run.state in (StepState.FAILED, StepState.TIMED_OUT)]
    return Summary(
        run=run_id,
        state=state.value,
        seconds=seconds,
        counts=dict(sorted(counts.items())),
        saved_seconds=saved_seconds,
        output=_output(graph, telling),
        failures=failures,
        gates=list(verdicts(telling)),
        notes=effects(graph, telling),
        next=_next(run_id, state, failures),
        hidden=_unkept(telling),
        kept=list(kept),
        changed=list(changed),
        before={state: number for state, number in sorted(before.items()) if number},
    )


def _unkept(steps: Iterable[StepRun]) -> list[Note]:
    """One for each step, whatever number of its elements is concerned."""
    found = {run.step: told(run.hidden) for run in steps if run.hidden and run.key is None}
    return [Note(step, text) for step, text in found.items()]


def name_of(step: str, index: str) -> str:
    """
    >>> name_of("fit", "2"), name_of("fit", "")
    ('fit[2]', 'fit')
    """
    return f"{step}[{index}]" if index else step


def failed(run: StepRun) -> Told:
    """A failed step run, with the user's file and line."""
    assert run.failure is not None
    return Told(
        step=name_of(run.step, run.index),
        state=run.state.value,
        attempts=run.attempts,
        exception=run.failure.name,
        message=run.failure.message,
        where=place_of(run.failure),
        hint=run.failure.hint,
        traceback=run.failure.traceback,
        kind=run.failure.kind.value,
    )


# The words that the exception's own name, or the state beside it, already says.
_SAID = (
    FailureClass.ERROR,
    FailureClass.TIMEOUT,
    FailureClass.KILLED,
    FailureClass.INVALID_DATA,
    FailureClass.CANCELLED,
)
# Our own exceptions, whose messages are whole sentences.
_OWN = ("StepKilledError", "StepPreemptedError", "StepOutOfMemoryError", "StepTimeoutError")


def class_shown(kind: str) -> str:
    """A failure's class before its exception.

    >>> class_shown("out_of_memory"), class_shown("error")
    ('out of memory: ', '')
    """
    return "" if kind in _SAID else f"{kind.replace('_', ' ')}: "


def failure_words(kind: str, exception: str, message: str) -> str:
    """A failure as people read it, nothing said twice.

    >>> failure_words("error", "ValueError", "too cold"), failure_words("error", "ValueError", "ValueError")
    ('ValueError: too cold', 'ValueError')
    >>> failure_words("killed", "StepKilledError", "the process of 'fit' was killed by SIGKILL")
    "the process of 'fit' was killed by SIGKILL"
    """
    names = exception not in _OWN and exception not in (kind, message)
    return f"{class_shown(kind)}{exception if names else ''}{': ' if names else ''}{message}"


def place_of(failure: Failure) -> str | None:
    """`file:line` of the innermost frame of the user's own code; None where the traceback has none."""
    frames = _FRAME.findall(failure.traceback)
    own = [(file, line) for file, line in frames if not file.startswith(("<", _OURS)) and _is_own(file)]
    return f"{shown_path(own[-1][0])}:{own[-1][1]}" if own else None


def _is_own(file: str) -> bool:
    return not any(part in file for part in _FOREIGN)


def verdicts(steps: Iterable[StepRun]) -> Iterable[Gate]:
    """The verdict of every gate: a step whose outputs are `passed` and `reasons`."""
    for run in steps:
        passed, reasons = run.outputs.get("passed"), run.outputs.get("reasons")
        if passed is None or reasons is None or passed.inline not in ("true", "false") or reasons.inline is None:
            continue
        texts = loads(reasons.inline)
        if isinstance(texts, list):
            yield Gate(name_of(run.step, run.index), passed.inline == "true", [str(each) for each in texts])


def effects(graph: Graph, steps: Iterable[StepRun]) -> list[Note]:
    """The notes of steps that change the outside world."""
    changing = {node.name for node in graph.nodes if node.options.effect is not None}
    return [
        Note(name_of(run.step, run.index), run.note)
        for run in steps
        if run.step in changing and run.note and run.state.has_output
    ]


def _output(graph: Graph, steps: list[StepRun]) -> str | None:
    """JSON text of what the pipeline returned, where all of it is small values; None of a map, a table, a model."""
    runs = {run.step: run for run in steps if not run.index}
    text = _text_of(graph.result, graph, runs)
    return text if text != "null" else None


def _text_of(result: Argument | None, graph: Graph, runs: dict[str, StepRun]) -> str | None:
    match result:
        case Output(name, field) if name in runs:
            outputs = runs[name].outputs
            if field is None and graph.node(name).several:
                return _joined({part: _inline(outputs, part) for part in graph.node(name).outputs})
            return _inline(outputs, field or "output")
        case Many(items):
            parts = [_text_of(item, graph, runs) for item in items]
            return None if None in parts else f"[{','.join(map(str, parts))}]"
        case _:
            return None


def _inline(outputs: dict[str, ArtifactRef], name: str) -> str | None:
    return outputs[name].inline if name in outputs else None


def _joined(parts: dict[str, str | None]) -> str | None:
    return None if None in parts.values() else "{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}"


def _next(run_id: str, state: RunState, failures: list[Told]) -> list[str]:
    match state:
        case RunState.SUCCEEDED:
            return [f"penstock show {run_id}"]
        case RunState.FAILED:
            step = failures[0].step.partition("[")[0] if failures else ""
            return [f"penstock show {run_id} {step}".rstrip(), f"penstock resume {run_id}"]
        case _:
            return [f"penstock resume {run_id}"]
