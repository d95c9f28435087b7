"""What is true of every run, whatever has happened to it, checked against its events. Says what is not.

Written from the documented meaning of retries, resumes and states, and not from the engine that is tested by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.canonical import digest_bytes
from ..graph import Graph, Output, RetryPolicy
from ..ports.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunCancelRequested,
    RunFinished,
    RunResumed,
    StepBlocked,
    StepCached,
    StepCancelled,
    StepSkipped,
    StepSucceeded,
    fold,
)
from ..ports.records import Failure, RunState, StepState
from ..ports.runlog import Store

Key = tuple[str, str]  # step, index

_ENDS = {
    StepCached: "taken an earlier result",
    StepSkipped: "been skipped",
    StepBlocked: "been blocked",
    StepCancelled: "been cancelled",
}
_BAD = frozenset({"failed for good", "been blocked", "been cancelled"})
_HOPELESS = ("cancelled", "input_lost", "encoding")  # classes of failure that another attempt cannot mend


def broken_rules(graph: Graph, run_id: str, store: Store) -> Iterator[str]:
    """Every rule that the stored run breaks, in words."""
    events = [event for _, event in store.events(run_id)]
    yield from _History(graph, run_id).broken(events)
    yield from _tables(run_id, store, events)
    yield from _lineage(graph, events)


class _History:
    """Walks through the events of a run in order."""

    def __init__(self, graph: Graph, run_id: str) -> None:
        self._options = {node.name: node.options for node in graph.nodes}
        self._fail_fast = graph.fail_fast
        self._run_id = run_id
        self._epoch = 1
        self._stopping = False
        self._finished = False
        self._running: dict[Key, int] = {}  # the attempt that is under way
        self._attempts: dict[Key, int] = {}  # the last number taken
        self._before: dict[Key, int] = {}  # attempts before this owner
        self._met: dict[Key, str] = {}  # the sameness of the newest failure; "" where it need not come again
        self._ended: dict[Key, str] = {}  # instances of which nothing more may come before a resume
        self._kept: set[Key] = set()  # instances that have outputs

    def broken(self, events: Sequence[Event]) -> Iterator[str]:
        for event in events:
            if self._finished and not isinstance(event, RunResumed | RunCancelRequested):
                yield f"{_told(event)} after the run had finished"
            match event:
                case RunResumed():
                    yield from self._resumed(event)
                case RunCancelRequested():
                    self._stopping = True
                case RunFinished():
                    self._finished = True
                    yield from self._end(event)
                case AttemptStarted():
                    yield from self._started(event)
                case AttemptFailed() | StepSucceeded():
                    yield from self._attempt_ended(event)
                case StepCached() | StepSkipped() | StepBlocked() | StepCancelled():
                    yield from self._closed(event)

    def _resumed(self, event: RunResumed) -> Iterator[str]:
        if event.epoch != self._epoch + 1:
            yield f"epoch {event.epoch} follows epoch {self._epoch}"
        self._epoch, self._finished, self._stopping = event.epoch, False, False
        self._before = dict(self._attempts)
        self._running.clear()
        self._met.clear()
        self._ended = {key: how for key, how in self._ended.items() if key in self._kept}

    def _started(self, event: AttemptStarted) -> Iterator[str]:
        key = (event.step, event.index)
        if key in self._ended:
            yield f"{_told(event)} although it had {self._ended[key]}"
        if key in self._running:
            yield f"{_told(event)} while attempt {self._running[key]} was under way"
        if event.attempt != self._attempts.get(key, 0) + 1:
            yield f"{_told(event)}: attempt {event.attempt} follows {self._attempts.get(key, 0)}"
        policy = self._options[event.step].retry
        allowed = policy.attempts if policy is not None else 1
        if event.attempt - self._before.get(key, 0) > allowed:
            yield f"{_told(event)} is more than the {allowed} that its policy allows"
        self._running[key] = self._attempts[key] = event.attempt

    def _attempt_ended(self, event: AttemptFailed | StepSucceeded) -> Iterator[str]:
        key = (event.step, event.index)
        if self._running.pop(key, None) != event.attempt:
            yield f"{_told(event)}, which was not under way"
        if isinstance(event, StepSucceeded):
            self._ended[key] = "succeeded"
            self._kept.add(key)
            return
        options = self._options[event.step]
        policy = options.retry if options.effect != "at-most-once" else None
        spent = self._before.get(key, 0)
        seed = f"{self._run_id}:{event.step}:{event.index}:{event.attempt}"
        wanted = delay_after(policy, event.failure, event.attempt - spent, seed)
        met, self._met[key] = self._met.get(key, ""), event.failure.sameness
        if met and met == event.failure.sameness and policy is not None and not (policy.on or policy.even_if_same):
            wanted = None
        if event.retry_at is None:
            self._ended[key] = "failed for good"
            if wanted is not None and not self._stopping:
                yield f"{_told(event)} ({event.failure.name}) and is not retried, although its policy says so"
        elif wanted is None:
            yield f"{_told(event)} ({event.failure.name}) and is retried, although its policy does not say so"
        elif event.retry_at != event.at + int(wanted * 1_000_000):
            yield f"{_told(event)} and is retried after {(event.retry_at - event.at) / 1e6} s instead of {wanted} s"

    def _closed(self, event: StepCached | StepSkipped | StepBlocked | StepCancelled) -> Iterator[str]:
        key = (event.step, event.index)
        if key in self._ended:
            yield f"{_told(event)} although it had {self._ended[key]}"
        if self._running.pop(key, None) is not None and not isinstance(event, StepCancelled):
            yield f"{_told(event)} while an attempt was under way"
        if isinstance(event, StepCancelled) and not (self._stopping or self._fail_fast):
            yield f"{_told(event)}, but nobody asked for that"
        self._ended[key] = _ENDS[type(event)]
        if isinstance(event, StepCached):
            self._kept.add(key)

    def _end(self, event: RunFinished) -> Iterator[str]:
        if event.state is RunState.RUNNING:
            yield "the run finished as 'running'"
        if event.state is RunState.SUCCEEDED and (bad := {*self._ended.values()} & _BAD):
            yield f"the run succeeded, and of its steps some {', '.join(sorted(bad))}"
        if self._running:
            yield f"the run finished while {sorted(self._running)} were under way"


def delay_after(policy: RetryPolicy | None, failure: Failure, nth: int, seed: str) -> float | None:
    """Seconds until the attempt after the nth one of an owner; None where there is none. As docs/authoring.md says."""
    if policy is None or nth >= policy.attempts or failure.kind.value in _HOPELESS:
        return None
    names = {failure.kind.value, *failure.types}
    if (policy.on and not names & set(policy.on)) or names & set(policy.not_on):
        return None
    delay = min(policy.cap_s, policy.base_s * policy.factor ** (nth - 1))
    drawn = int(digest_bytes(seed.encode())[:13], 16) / 16**13
    return {"none": delay, "full": delay * drawn, "equal": delay / 2 + delay / 2 * drawn}[policy.jitter]


def _tables(run_id: str, store: Store, events: Sequence[Event]) -> Iterator[str]:
    view = fold(events)
    summary = store.find_run(run_id)
    if summary is None:
        yield f"run {run_id} is lost"
        return
    if {(run.step, run.index): run for run in store.step_runs(run_id)} != dict(view.steps.items()):
        yield "the tables are not what the events add up to"
    if sum(summary.counts.values()) != len(view.steps) or summary.record.epoch != view.epoch:
        yield "the run's own row is not what the events add up to"
    under_way = {(each.step, each.index, each.number) for each in store.attempts(run_id) if each.finished_at is None}
    running = {(run.step, run.index, run.attempts) for run in view.steps.values() if run.state is StepState.RUNNING}
    if under_way != running:
        yield f"attempts under way are {sorted(under_way)} in the table, and {sorted(running)} by the events"
    if view.finished is not None and running:
        yield f"the run has {view.finished.value}, and {sorted(running)} are stuck in running"


def _lineage(graph: Graph, events: Sequence[Event]) -> Iterator[str]:
    """What a step got from another one is what that one made. Where a map lies between them, a user cannot see it."""
    nodes = {node.name: node for node in graph.nodes}
    view = fold(events)
    for (step, index), run in view.steps.items():
        if not run.state.has_output:
            continue
        for name, argument in nodes[step].inputs.items():
            if not isinstance(argument, Output):
                continue
            source = nodes[argument.node]
            if source.scope is not None and source.scope != nodes[step].scope:
                continue
            made = view.step(source.name, index if source.scope is not None else "")
            wanted = [argument.field] if argument.field is not None else list(source.outputs)
            if made.state.has_output and run.inputs.get(name) != [made.outputs[each].digest for each in wanted]:
                yield f"'{name}' of {step}[{index}] is not what {source.name} made"


def _told(event: Event) -> str:
    index = f"[{index}]" if (index := getattr(event, "index", "")) else ""
    attempt = f" attempt {number}" if (number := getattr(event, "attempt", None)) else ""
    return f"{type(event).__name__} {getattr(event, 'step', '')}{index}{attempt}".replace("  ", " ")
