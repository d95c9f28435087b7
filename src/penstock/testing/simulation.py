"""A pipeline through bad days, drawn from a seed: processes die, stores go away, owners are replaced; nothing is lost.

A *life* is what one process does for a run. Some lives, with mishaps, come to no good end; the last one is calm, and
then everything must be as if nothing had happened.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

import msgspec

from ..authoring.pipeline import Pipeline
from ..core.errors import FencedError, PenstockError, StoreUnavailableError, UsageError
from ..engine.ownership import Ownership
from ..graph import Graph
from ..ports.context import Context
from ..ports.events import AttemptStarted, RunCancelRequested, RunView, fold
from ..ports.records import FailureClass, RunState, StepRun, StepState
from ..ports.runlog import Store
from ..stores.artifacts import ArtifactStore
from .bench import Bench, BenchRun
from .clock import TurnedClock
from .faults import Crash, Faults, Fuse
from .mishaps import Kind, Mishap, Story, Weather
from .rules import broken_rules, delay_after

Behaviour = Callable[[str, str, int], BaseException | None]  # step, index, attempt -> what it raises
Judge = Callable[[RunView, BenchRun], Iterator[str]]  # the run as a calm life found it, and left it -> what is wrong

_LEASE = "31s"
_ROUNDING_S = 0.005
_ERRORS = (OSError, ConnectionError, TimeoutError, ValueError, MemoryError)


class SimulationError(AssertionError):
    """Something was lost, repeated, stuck or untrue. The message says what, and how to see it again."""


class Simulated(NamedTuple):
    """How it went: the run at its end, the processes that it took, and what happened to them."""

    run: BenchRun
    lives: int
    story: str


def caching_bench() -> Bench:
    return Bench(cache=True)


def simulate(
    pipeline: Pipeline[..., Any], seed: int, /, *, make: Callable[[], Bench] = caching_bench, **parameters: Any
) -> Simulated:
    """Run a pipeline with mishaps that the seed decides; it must end as a calm run does.

    Processes die at any write, again and again; the stores go away; somebody cancels; a process hangs for longer than
    its lease, another one takes the run over, and the first comes back; a second run starts meanwhile; the clock
    steps; attempts fail. Each time the run is resumed. In the end its states and artifacts are those of a calm run,
    no finished step was entered again, retries came when their policies say, and the tables are what the events add
    up to. Waits pass at once.

    make:    gives a fresh bench, where one that caches is not enough: with services, secrets or replaced steps.
    Raises:  SimulationError, with the shortest story found that breaks something, and the call that shows it again.

    >>> from penstock import pipeline, step
    >>> @step(retry=3)
    ... def extract() -> list[int]:
    ...     return [1, 2, 3]
    >>> @step
    ... def train(rows: list[int]) -> int:
    ...     return sum(rows)
    >>> @pipeline
    ... def sums() -> int:
    ...     return train(extract())
    >>> {simulate(sums, seed).run.output for seed in range(10)}
    {6}
    """
    calm_bench = make()
    counted = calm_bench.faults.fuse = Fuse()
    calm = calm_bench.run(pipeline, **parameters)
    if calm.state is not RunState.SUCCEEDED:
        problem = f"simulate() wants a pipeline that succeeds when all is calm; '{pipeline.name}' {calm.state.value}"
        raise UsageError(problem) from calm._error
    shown = "".join(f", {name}={value!r}" for name, value in parameters.items())
    return played(
        Story.drawn(Random(seed), len(counted.writes)),
        lambda story: Play(pipeline, parameters, make, seed, story, lambda before, run: _as_calm(calm, run)),
        f"simulate({pipeline.name}, {seed}{shown})",
    )


def played(story: Story, make: Callable[[Story], Play], call: str) -> Simulated:
    """Play a story; where it breaks something, look for a shorter one that does too."""
    try:
        return make(story).play()
    except SimulationError as found:
        first = found
    shortest, last = story, first
    shrinking = True
    while shrinking:
        shrinking = False
        for shorter in shortest.shorter():
            try:
                make(shorter).play()
            except SimulationError as error:
                shortest, last, shrinking = shorter, error, True
                break
    what = f"{last}\n\nwhat happened:\n{shortest}\n\nto see it again: {call}"
    raise SimulationError(what) from last.__cause__


class _Seen:
    """A run as far as its stored events have been read."""

    def __init__(self) -> None:
        self.view = RunView()
        self.starts: set[tuple[str, str, int]] = set()
        self._last = 0

    def look(self, store: Store, run: str) -> None:
        for number, event in store.events(run, after=self._last):
            self._last = number
            self.view.apply(event)
            if isinstance(event, AttemptStarted):
                self.starts.add((event.step, event.index, event.attempt))


class Entry(msgspec.Struct, frozen=True):
    """A step's function was entered."""

    place: tuple[str, str, str]  # run, step, index
    attempt: int
    passed_s: float  # on the clock that never goes back
    life: int


class Play:
    """One story, played."""

    def __init__(
        self,
        pipeline: Pipeline[..., Any],
        parameters: dict[str, Any],
        make: Callable[[], Bench],
        seed: int,
        story: Story,
        judge: Judge,
        behaviour: Behaviour | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._parameters = parameters
        self._bench = make()
        self._seed = seed
        self._story = story
        self._judge = judge
        self._given = self._bench.faults
        self._bench.faults = _Watching(self)
        self._exact = behaviour is not None  # then nothing else lets time pass
        self._behaviour = behaviour or (lambda step, index, attempt: None)
        self._before = frozenset(self._bench.store.match_runs(""))
        self._first: str | None = None
        self._lives = 0
        self._life = 0  # the number of the one that is under way
        self._calm = 0  # how many calm lives are under way; one may lie inside a life that hangs
        self._stepped_back = 0  # seconds
        self._replaced: int | None = None  # another process has taken the run over from this life after that event
        self._disturbed = False  # this life hung: what it holds may have been computed elsewhere
        self._views: dict[str, _Seen] = {}
        self._entries: list[Entry] = []
        self._broken: list[str] = []
        self._happened: list[str] = []

    def play(self) -> Simulated:
        for mishaps in self._story.lives:
            self._lived(Weather(mishaps, self._befall))
            if self._state() is RunState.SUCCEEDED:
                break
        run = self._last_life()
        self._check_everything(run.graph)
        self._check_that_nothing_is_left_to_do(run)
        if self._broken:
            raise SimulationError("\n".join(self._broken))
        return Simulated(run, self._lives, "\n".join(self._happened) or "nothing")

    # -- lives ---------------------------------------------------------------------------------------------------

    def _lived(self, weather: Weather) -> None:
        """One process, to whatever end it comes."""
        life = self._lives = self._life = self._lives + 1
        self._disturbed, self._replaced = False, None
        run = self._run()
        try:
            if run is None:
                self._bench.faults.fuse = weather
                self._bench.run(self._pipeline, **self._parameters)
            else:
                self._bench.resume(run, fuse=weather)
        except (Crash, FencedError, StoreUnavailableError) as error:
            self._happened.append(f"process {life} ended: {error}")
        self._bench.faults.fuse = Fuse()
        if (run := self._run()) is not None:
            self._bench.store.release(run)  # the kernel drops the locks of the dead
            self._broken += [
                f"process {life} stored {type(event).__name__} after it had been replaced"
                for _, event in self._bench.store.events(run, after=self._replaced or 10**9)
                if not isinstance(event, RunCancelRequested)
            ]
        self._bench.clock.advance(_LEASE)
        self._bench.clock.advance(
            self._stepped_back
        )  # a lease that was taken before the clock stepped back lasts longer
        self._stepped_back = 0
        if self._state() is RunState.RUNNING:
            self._broken.append(f"the run is stuck in 'running' after process {life}")

    def _last_life(self) -> BenchRun:
        run = self._run()
        if run is not None and self._state() is RunState.SUCCEEDED:
            ended = self._bench.resume(run)
            self._broken += self._judge(fold(event for _, event in self._bench.store.events(run)), ended)
            return ended
        return self._calm_life(run)

    def _calm_life(self, run: str | None) -> BenchRun:
        """A process that nothing happens to, and its judgement. `run` None: with a run of its own."""
        outer, bench = self._life, self._bench
        self._lives = self._life = self._lives + 1
        self._calm += 1
        try:
            before = RunView() if run is None else fold(event for _, event in bench.store.events(run))
            if run is None:
                bench.faults.fuse = Fuse(beats=False)
                ended = bench.run(self._pipeline, **self._parameters)
            else:
                ended = bench.resume(run, fuse=Fuse(beats=False))
            self._broken += self._judge(before, ended)
            return ended
        finally:
            self._calm -= 1
            self._life = outer

    def _run(self) -> str | None:
        """The run that this is about: the first one."""
        if self._first is None:
            mine = [run for run in self._bench.store.match_runs("") if run not in self._before]
            self._first = mine[0] if mine else None
        return self._first

    def _state(self) -> RunState | None:
        run = self._run()
        summary = self._bench.store.find_run(run) if run is not None else None
        return summary.state if summary is not None else None

    # -- mishaps -------------------------------------------------------------------------------------------------

    def _befall(self, mishap: Mishap, what: str) -> None:
        """Something happens while a process is about to write."""
        run = self._run()
        self._happened.append(f"process {self._life}, at {what}: {mishap.kind}")
        match mishap.kind:
            case Kind.CLOCK_BACK:
                self._bench.clock.step_back(mishap.amount)
                self._stepped_back += mishap.amount
            case Kind.CLOCK_ON:
                self._bench.clock.advance(mishap.amount)
            case Kind.CANCELLED if run is not None:
                now = self._bench.clock.now_us()
                self._bench.store.append(run, 0, [RunCancelRequested(at=now, by="a simulation")])
                _tell()
            case Kind.TAKEN_OVER | Kind.OTHER_RUN if run is not None:
                self._hang(run if mishap.kind is Kind.TAKEN_OVER else None, mishap.amount)

    def _hang(self, run: str | None, dies_at: int = 0) -> None:
        """While this process hangs, another one finishes its run, or dies over it; without `run`, it has its own."""
        bench = self._bench
        mine, store, life = bench.faults.fuse, bench.store, self._life
        bench.clock.advance(_LEASE)
        self._disturbed = True
        try:
            if run is None or self._state() is RunState.SUCCEEDED:
                self._calm_life(None)
            elif dies_at:
                self._lived(Weather((Mishap(dies_at, Kind.DIES_AFTER),), self._befall))
            else:
                self._calm_life(run)
        finally:
            bench.faults.fuse, bench.store, self._life = mine, store, life
            self._disturbed = True
            if run is not None:
                self._replaced = max(number for number, _ in bench.store.events(run))

    # -- watching ------------------------------------------------------------------------------------------------

    def entered(self, now: Context) -> None:
        """A step's function is about to run: was that right, and does it fail?"""
        key, passed = (now.step, now.index), self._bench.clock.monotonic()
        seen = self._views.setdefault(now.run_id, _Seen())
        seen.look(self._bench.store, now.run_id)
        found = seen.view.step(*key)
        name = f"{now.step}[{now.index}] attempt {now.attempt}"
        if self._disturbed and not self._calm:  # it hung between storing this start and here: it could not know more
            if (*key, now.attempt) not in seen.starts:
                self._broken.append(f"{name} was entered, and its start was never stored")
        elif found.state.has_output:
            self._broken.append(f"{name} was entered after the step had {found.state.value}")
        elif (found.state, found.attempts) != (StepState.RUNNING, now.attempt):
            self._broken.append(f"{name} was entered before its start was stored")
        if self._bench.cache and found.key is not None and not self._disturbed:
            self._broken += [
                f"{name} computes again what {entry.run_id} {entry.step}[{entry.index}] has"
                for entry in self._bench.store.entries(found.key)
                if not entry.observations
            ]
        self._entries.append(Entry((now.run_id, *key), now.attempt, passed, self._life))
        error = self._behaviour(now.step, now.index, now.attempt)
        if error is None and not self._calm and self._story.failing:
            chance = Random(f"{self._seed}:{now.step}:{now.index}:{now.attempt}:{self._life}")
            if chance.random() < self._story.failing:
                error = chance.choice(_ERRORS)(f"attempt {now.attempt} fails in process {self._life}")
        self._given.strike(now, self._bench.clock)
        if error is not None:
            raise error

    # -- the end -------------------------------------------------------------------------------------------------

    def _check_everything(self, graph: Graph) -> None:
        bench = self._bench
        artifacts = ArtifactStore(bench.blobs)
        for run in bench.store.match_runs(""):
            if run in self._before:
                continue
            self._broken += broken_rules(graph, run, bench.store)
            for each in bench.store.step_runs(run):
                for name, ref in each.outputs.items():
                    try:
                        artifacts.load(ref)
                    except PenstockError as error:
                        self._broken.append(f"output '{name}' of {each.step}[{each.index}] cannot be read: {error}")
        self._broken += self._early(graph)

    def _early(self, graph: Graph) -> Iterator[str]:
        """Attempts that came sooner than their policy wants, or much later although nothing else was to do."""
        policies = {node.name: node.options.retry for node in graph.nodes}
        failures = {
            ((run, each.step, each.index), each.number): each.failure
            for run in {entry.place[0] for entry in self._entries}
            for each in self._bench.store.attempts(run)
        }
        last: dict[tuple[str, str, str], tuple[int, Entry]] = {}
        first: dict[tuple[tuple[str, str, str], int], int] = {}  # the first attempt of each life
        for at, entry in enumerate(self._entries):
            began = first.setdefault((entry.place, entry.life), entry.attempt)
            seen, before = last.get(entry.place, (at, entry))
            last[entry.place] = (at, entry)
            failure = failures.get((entry.place, before.attempt))
            if failure is None or before.life != entry.life or before.attempt + 1 != entry.attempt:
                continue
            run, step, index = entry.place
            seed = f"{run}:{step}:{index}:{before.attempt}"
            wanted = delay_after(policies[step], failure, entry.attempt - began, seed)
            waited = entry.passed_s - before.passed_s
            name = f"{step}[{index}] attempt {entry.attempt}"
            if wanted is not None and waited < wanted - 1e-5:
                yield f"{name} came {waited} s after the one before, not {wanted} s"
            alone = self._exact and seen == at - 1 and not self._story.lives
            if wanted is not None and alone and waited > wanted + _ROUNDING_S:
                yield f"{name} came {waited} s after the one before instead of {wanted} s, and nothing else was to do"

    def _check_that_nothing_is_left_to_do(self, run: BenchRun) -> None:
        if run.state is not RunState.SUCCEEDED:
            return
        before, entered = len(self._bench.store.events(run.id)), len(self._entries)
        self._bench.resume(run.id)
        if (len(self._bench.store.events(run.id)), len(self._entries)) != (before, entered):
            self._broken.append("resuming the finished run did something")


class _Watching(Faults):
    """Faults that tell the play about every attempt."""

    def __init__(self, play: Play) -> None:
        super().__init__()
        self._play = play

    def strike(self, context: Context, clock: TurnedClock) -> None:
        self._play.entered(context)


def _tell() -> None:
    """What the heartbeat does when it sees the request, without waiting for its next second."""
    owner = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(owner, Ownership) and not owner.stopping:
        signal.raise_signal(signal.SIGINT)


def _as_calm(calm: BenchRun, run: BenchRun) -> Iterator[str]:
    """What differs from a calm run. An at-most-once effect whose process died is rightly left alone, and failed."""
    careful = {node.name for node in run.graph.nodes if node.options.effect == "at-most-once"}
    failed = [each for each in run.steps if each.state in (StepState.FAILED, StepState.TIMED_OUT)]
    if failed and all(
        each.step in careful and each.failure is not None and each.failure.kind is FailureClass.KILLED
        for each in failed
    ):
        return
    if run.state is not calm.state:
        yield f"the run {run.state.value}; a calm one {calm.state.value}"
    here, there = _ends(run), _ends(calm)
    for key in {**there, **here}:
        if here.get(key) != there.get(key):
            yield f"{key[0]}[{key[1]}] came to {here.get(key)}; in a calm run, to {there.get(key)}"


def _ends(run: BenchRun) -> dict[tuple[str, str], tuple[str, dict[str, str | None]]]:
    def state(each: StepRun) -> str:
        return StepState.SUCCEEDED.value if each.state.has_output else each.state.value

    return {
        (each.step, each.index): (
            state(each),
            {name: ref.digest if ref.canonical else None for name, ref in each.outputs.items()},
        )
        for each in run.steps
    }
