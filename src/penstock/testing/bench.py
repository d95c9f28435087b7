"""A pipeline as the engine runs it, on stores that live as long as the test."""

from __future__ import annotations

import asyncio
import inspect
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..authoring.loader import FileLoader
from ..authoring.pipeline import Pipeline
from ..core.errors import ParameterError
from ..core.ids import run_id
from ..engine.comparison import instance
from ..engine.fencing import StoreFence
from ..engine.scheduler import RunOptions, Scheduler
from ..engine.services import Services
from ..graph import Graph
from ..ports.artifacts import BlobStore
from ..ports.context import context
from ..ports.events import Event, RunResumed, RunStarted, RunView, fold
from ..ports.records import RunRecord, RunState, StepState
from ..ports.runlog import Store
from ..ports.steps import LoadedStep, StepLoader
from ..stores.artifacts import ArtifactStore
from ..stores.memory import memory_store, next_process
from ..wiring.runs import Run
from .clock import TurnedClock
from .faults import Faults, Fuse, check_names, crashing_blobs, crashing_store
from .memory import MemoryBlobs, Scratch
from .steps import NamedCode, bound_services

Executed = tuple[str, str, int]  # step, index, attempt


class BenchRun(Run):
    """A finished run. A failure is not raised before `output` is asked for."""

    def __init__(
        self,
        graph: Graph,
        record: RunRecord,
        view: RunView,
        state: RunState,
        services: Services,
        error: BaseException | None,
        bench: Bench,
    ) -> None:
        super().__init__(graph, record, view, state, services, error)
        self.bench = bench

    @property
    def output(self) -> Any:
        """What the pipeline returned; raises what its step raised."""
        self.raise_for_state()
        return super().output

    @property
    def states(self) -> dict[str, StepState]:
        """By step, "fit[2]" for an element of a map."""
        return {instance(run.step, run.index): run.state for run in self.steps}

    @property
    def attempts(self) -> dict[str, int]:
        return {instance(run.step, run.index): run.attempts for run in self.steps}

    @property
    def digests(self) -> dict[str, dict[str, str]]:
        """What every step made, by content: two runs with equal digests made the same things."""
        return {
            instance(run.step, run.index): {name: ref.digest for name, ref in run.outputs.items()} for run in self.steps
        }

    @property
    def events(self) -> list[Event]:
        return [event for _, event in self.bench.store.events(self.id)]

    def printed(self, step: str, index: str = "") -> str:
        """What a step printed and logged, over all its attempts."""
        return "".join(chunk for *_, chunk in self.bench.store.read_text(self.id, step, index))


class Bench:
    """In-memory stores, a turned clock and faults; runs on one bench share them.

    clock:    a TurnedClock; waits between attempts pass at once on it.
    faults:   what goes wrong.
    cache:    runs take each other's results, as in production. The code of a step is taken to be what its name says:
              within one process it does not change.
    secrets:  values for `Secret("NAME")`.  services: stand-ins for "registry", "scorer" and the like.
    replace:  step name -> a function that runs in its place, in every run.

    >>> from penstock import pipeline, step
    >>> @step
    ... def extract() -> list[int]:
    ...     return [1, 2, 3]
    >>> @step(retry=5)
    ... def train(data: list[int]) -> int:
    ...     return sum(data)
    >>> @pipeline
    ... def sums() -> int:
    ...     return train(extract())
    >>> bench = Bench(faults=Faults().fail("train", OSError("busy"), attempt=1), replace={"extract": lambda: [5]})
    >>> run = bench.run(sums)
    >>> run.output, run.attempts
    (5, {'extract': 1, 'train': 2})
    """

    def __init__(
        self,
        *,
        clock: TurnedClock | None = None,
        faults: Faults | None = None,
        cache: bool = False,
        secrets: Mapping[str, str] | None = None,
        services: Mapping[str, Any] | None = None,
        replace: Mapping[str, Callable[..., Any]] | None = None,
        store: Store | None = None,
        blobs: BlobStore | None = None,
    ) -> None:
        self.clock = clock or TurnedClock()
        self.faults = faults or Faults()
        self.store: Store = store or memory_store(self.clock)
        self.blobs: BlobStore = blobs or MemoryBlobs(self.clock)
        self.executed: list[Executed] = []  # every attempt whose function was entered
        self.cache = cache
        self._secrets = secrets
        self._services = services
        self._replace = {name: getattr(function, "fn", function) for name, function in (replace or {}).items()}
        self._functions: dict[str, Callable[..., Any]] = {}
        self._loaders: dict[tuple[str, str], FileLoader] = {}
        self._scratch = Scratch()
        if store is None:
            weakref.finalize(self, self.store.close)

    def run(self, pipeline: Pipeline[..., Any], /, **parameters: Any) -> BenchRun:
        """A new run, to its end. Raises Crash where the faults say so."""
        missing = pipeline.signature.missing(parameters, None)
        if missing:
            raise ParameterError(missing[0].problem, hint=missing[0].hint)
        values = pipeline.parameters(parameters)
        traced = pipeline.trace(values, by_value=True)
        graph = _in_process(traced.graph)
        if traced.functions.items() - self._functions.items():
            self._loaders.clear()
            self._functions.update(traced.functions)
        self._root, self._entry = traced.root, graph.target
        names = [node.name for node in graph.nodes]
        self.faults.check(names)
        check_names(self._replace, names, "replace")
        now = self.clock.now_us()
        wanted = RunRecord(
            id=run_id(graph.pipeline, now),
            pipeline=graph.pipeline,
            project=os.path.basename(traced.root),
            manifest="",
            parameters=values,
            created_at=now,
            tags=graph.tags,
            host=os.uname().nodename,
            pid=os.getpid(),
            trigger="test",
            options={"cache": self.cache},
        )
        store = crashing_store(self.store, self.faults.fuse)
        record = store.create(wanted, graph.to_json(), now)
        view = RunView()
        view.apply(RunStarted(at=now))
        return self._go(graph, record, view, store)

    def resume(self, run: str | None = None, *, fuse: Fuse | None = None) -> BenchRun:
        """Finish the newest run, or the one with this id, as a new process would; what is finished stays finished.

        fuse:  when this process dies, too. Raises Crash then.
        """
        self.faults.fuse = fuse or Fuse()
        self.store = next_process(self.store)
        known = self.store.match_runs(run or "")
        summary = self.store.find_run(known[0]) if known else None
        if summary is None:
            raise LookupError("there is no run to resume on this bench")
        record = summary.record
        graph = Graph.from_json(self.store.manifest(record.manifest))
        view = fold(event for _, event in self.store.events(record.id))
        if summary.state is RunState.SUCCEEDED:
            return BenchRun(graph, record, view, summary.state, self._bound(), None, self)
        host, pid = os.uname().nodename, os.getpid()
        resumed = RunResumed(at=self.clock.now_us(), epoch=view.epoch + 1, host=host, pid=pid)
        store = crashing_store(self.store, self.faults.fuse)
        store.append(record.id, view.epoch, [resumed])
        view.apply(resumed)
        return self._go(graph, record, view, store)

    def _go(self, graph: Graph, record: RunRecord, view: RunView, store: Store) -> BenchRun:
        services = self._bound()
        scheduler = Scheduler(graph, record, view, store, services, RunOptions(workers=1, echo=False))
        state = scheduler.run()
        return BenchRun(graph, record, view, state, services, scheduler.error, self)

    def _bound(self) -> Services:
        place = (self._root, self._entry)
        loader = self._loaders.get(place) or FileLoader(*place, functions=self._functions)
        self._loaders[place] = loader  # looking for loaded modules costs more than a step
        artifacts = ArtifactStore(crashing_blobs(self.blobs, self.faults.fuse))
        watched = _WatchedLoader(loader, self)
        store = crashing_store(self.store, self.faults.fuse)
        return bound_services(
            artifacts,
            watched,
            self.clock,
            self._secrets,
            self._services,
            str(self._scratch.path),
            NamedCode(self._replace) if self.cache else None,
            lambda acting: StoreFence(store, acting, self.clock),
        )

    def acting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Called as an attempt begins: what runs in it, if a fault lets it."""
        now = context()
        self.executed.append((now.step, now.index, now.attempt))
        self.faults.strike(now, self.clock)
        return self._replace.get(now.step, original)


class _WatchedLoader:
    """Real steps, with the bench asked before each attempt. Async ones run one by one: the order is fixed."""

    def __init__(self, loader: StepLoader, bench: Bench) -> None:
        self._loader = loader
        self._bench = bench

    def load(self, target: str, payload: str | None = None) -> LoadedStep:
        loaded = self._loader.load(target, payload)
        bench = self._bench

        def run(**arguments: Any) -> Any:
            result = bench.acting(loaded.fn)(**arguments)
            return asyncio.run(result) if inspect.iscoroutine(result) else result

        return LoadedStep(
            target=loaded.target,
            fn=run,
            parameters=loaded.parameters,
            returns=loaded.returns,
            outputs=loaded.outputs,
            result_type=loaded.result_type,
            is_async=False,
        )

    def load_result_type(self, target: str, payload: str | None = None) -> type | None:
        return self._loader.load_result_type(target, payload)


def run_pipeline(
    pipeline: Pipeline[..., Any],
    /,
    *,
    clock: TurnedClock | None = None,
    faults: Faults | None = None,
    secrets: Mapping[str, str] | None = None,
    services: Mapping[str, Any] | None = None,
    replace: Mapping[str, Callable[..., Any]] | None = None,
    **parameters: Any,
) -> BenchRun:
    """Run a pipeline on a bench of its own; see `Bench` for the options.

    >>> from penstock import pipeline, step
    >>> @step
    ... def double(number: int) -> int:
    ...     return 2 * number
    >>> @pipeline
    ... def doubled(numbers: list[int]) -> list[int]:
    ...     return double.map(number=numbers)
    >>> run = run_pipeline(doubled, numbers=[1, 2])
    >>> run.output, run.states["double[1]"].value
    ([2, 4], 'succeeded')
    """
    bench = Bench(clock=clock, faults=faults, secrets=secrets, services=services, replace=replace)
    return bench.run(pipeline, **parameters)


def _in_process(graph: Graph) -> Graph:
    """The graph without what would need another process."""
    replace = msgspec.structs.replace
    return replace(
        graph,
        nodes=tuple(
            replace(node, options=replace(node.options, timeout_s=None, limits=None, isolation="auto"))
            for node in graph.nodes
        ),
    )
