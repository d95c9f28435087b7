"""Run one attempt here: decode its inputs, check them at the boundary, call the function, encode what it returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from time import perf_counter, process_time
from typing import Any

from msgspec.structs import replace

from ..core.clock import instant
from ..core.errors import CodecError, InvalidDataError, PenstockError, UsageError
from ..core.jsonvalue import loads
from ..core.location import shown_path
from ..core.promises import keeps, shown
from ..ports.artifacts import ArtifactRef
from ..ports.context import CURRENT, Context
from ..ports.effects import Acting, Fence, Unfenced
from ..ports.records import FailureClass, HiddenInput, Observation
from ..ports.steps import LoadedStep
from .capture import Sink, into, keep_logging
from .failure import failure_of, sameness
from .hidden import CHANGED, Watch, leave_out
from .redaction import Redactor, storable
from .services import Services
from .tasks import (
    Collected,
    Json,
    Keyed,
    SecretValue,
    StepOutcome,
    StepTask,
    Stored,
    TaskArgument,
    Whole,
    artifact_digests,
    effect_key,
)

TextWriter = Callable[[str], None]
Progress = Callable[[float, float | None, str], None]


class Execution:
    """One attempt, from its task to its outcome. `error` keeps the exception itself for a caller in this process."""

    def __init__(
        self,
        task: StepTask,
        services: Services,
        *,
        text: TextWriter,
        progress: Progress | None = None,
        portable: bool = True,
        relax: Callable[[], None] | None = None,
    ) -> None:
        self._task = task
        self._services = services
        self._portable = portable
        self._secrets = Redactor()
        self._relax = relax  # lifts the memory limit: describing a MemoryError needs memory
        self.stopped = False  # somebody told it to stop
        self._extra: dict[str, ArtifactRef] = {}
        self._phase = "loading"
        self._write = text
        self._tell_progress = progress
        self.error: BaseException | None = None
        self._sink = Sink(self._kept, self._secrets)
        self._context = Context(
            run_id=task.run_id,
            pipeline=task.pipeline,
            step=task.step,
            index=task.index,
            attempt=task.attempt,
            seed=task.seed,
            logical_time=instant(task.logical_time) if task.logical_time is not None else None,
            parameters=task.parameters,
            checkpoint_dir=task.checkpoint_dir,
            limits=task.limits,
            effect_key=lambda: effect_key(task),
            fence=self._fence,
            services=services.service,
            on_progress=progress and self._progress,
            on_logging=lambda: keep_logging(self._sink),
            on_reads=self._observe,
        )
        self._fresh = False
        self._watch: Watch | None = None
        self._seen: dict[str, tuple[str, str]] = {}  # declared file or folder -> kind and version, before it was read

    def run(self) -> StepOutcome:
        """The attempt on this thread."""
        started, cpu = perf_counter(), process_time()
        with into(self._sink):
            token = CURRENT.set(self._context)
            try:
                loaded, arguments = self._begin()
                with self._watching():
                    result = loaded.fn(**arguments)
                    if loaded.is_async:
                        import asyncio

                        result = asyncio.run(result)
                outcome = StepOutcome(outputs=self._end(loaded, result))
            except BaseException as error:  # noqa: BLE001 - the step boundary: everything a step raises is recorded
                outcome = self._failed(error)
            finally:
                CURRENT.reset(token)
                self._drop_odd_metrics()
        self._flush_held()
        return self._finish(outcome, perf_counter() - started, process_time() - cpu)

    async def run_async(self) -> StepOutcome:
        """The attempt as a task of the loop that async steps share."""
        started = perf_counter()
        with into(self._sink):
            token = CURRENT.set(self._context)
            try:
                loaded, arguments = self._begin()
                with self._watching(shared=True):
                    result = await loaded.fn(**arguments)
                outcome = StepOutcome(outputs=self._end(loaded, result))
            except BaseException as error:  # noqa: BLE001 - the step boundary: everything a step raises is recorded
                outcome = self._failed(error)
            finally:
                CURRENT.reset(token)
                self._drop_odd_metrics()
        self._flush_held()
        return self._finish(outcome, perf_counter() - started, 0.0)

    # -- inside --------------------------------------------------------------------------------------------------

    def _begin(self) -> tuple[LoadedStep, dict[str, Any]]:
        task = self._task
        loaded = self._services.loader.load(task.target, task.payload)
        self._fresh, loaded.has_run = not loaded.has_run, True
        self._context.input_digests = {name: artifact_digests(each) for name, each in task.arguments.items()}
        arguments = {}
        for name, argument in task.arguments.items():
            annotation = loaded.parameters.get(name, Any)
            arguments[name] = self._checked(self._decode(argument, annotation), annotation, name)
        self._phase = "running"
        for name in task.reads:
            self._observe(name)
        return loaded, arguments

    def _watching(self, *, shared: bool = False) -> AbstractContextManager[Any]:
        """Around the step's own function."""
        task = self._task
        if not task.watch:
            return nullcontext()
        own = (*self._services.own, task.checkpoint_dir) if task.checkpoint_dir else self._services.own
        self._watch = Watch(own, shared=shared)
        for name in self._seen:
            self._watch.declare(name)
        return self._watch

    def _observe(self, name: str) -> None:
        """A file or folder that the step says it reads: its version now, before the step reads it."""
        if name in self._seen:
            return
        kind = "folder" if os.path.isdir(os.path.expanduser(name)) else "file"
        version = self._version(kind, name)
        self._seen[name] = kind, version
        self._context.observe(kind, name, version)
        if self._watch is not None:
            self._watch.declare(name)

    def _version(self, kind: str, name: str) -> str:
        """ "" of what is not there."""
        observer = self._services.observer(kind)
        return (observer.version(name) if observer is not None else None) or ""

    def _hidden(self) -> list[HiddenInput]:
        """What was seen besides, and what was declared but is another one than before the step read it."""
        found = [*self._watch.found] if self._watch is not None else []
        for name, (kind, version) in self._seen.items():
            try:
                now = self._version(kind, name)
            except PenstockError:
                now = None  # it cannot be read any more
            if now != version:
                found.append(HiddenInput("file", name + CHANGED))
        return found

    def _end(self, loaded: LoadedStep, result: Any) -> dict[str, ArtifactRef]:
        self._phase = "encoding"
        outputs = {}
        for name, value, annotation in self._parts(loaded, result):
            if (classes := loaded.promised.get(name)) and not keeps(value, classes):
                raise self._broken_promise(loaded, name, value, annotation)
            checked = self._checked(value, annotation, name)
            outputs[name] = self._services.artifacts.save(checked, annotation)
        return outputs | self._extra

    def _parts(self, loaded: LoadedStep, result: Any) -> list[tuple[str, Any, Any]]:
        if loaded.result_type is None:
            return [("output", result, loaded.returns)]
        if not isinstance(result, loaded.result_type):
            raise CodecError(
                f"step '{self._task.step}' promises {loaded.result_type.__name__}, but returned a "
                f"{type(result).__name__}",
                hint=f"return {loaded.result_type.__name__}({', '.join(loaded.outputs)})",
            )
        return [(name, getattr(result, name), annotation) for name, annotation in loaded.outputs.items()]

    def _broken_promise(self, loaded: LoadedStep, name: str, value: Any, annotation: Any) -> InvalidDataError:
        code = getattr(loaded.fn, "__code__", None)
        says = f"{shown_path(code.co_filename)}:{code.co_firstlineno}" if code is not None else "it"
        what = "None" if value is None else f"a {type(value).__name__}"
        return InvalidDataError(
            f"'{name}' of step '{self._task.step}' is {what}, but {says} promises {shown(annotation)}",
            hint="return what the annotation says, or change the annotation (Any promises nothing)",
        )

    def _checked(self, value: Any, annotation: Any, name: str) -> Any:
        """The value as the checks of its annotation let it pass; bad rows become an artifact of their own."""
        if value is None:
            return value
        where = f"'{name}' of step '{self._task.step}'"
        for at, check in enumerate(self._services.boundary(annotation)):
            checked = check.check(value, annotation, where=where, policy=self._task.quarantine)
            value = checked.value
            if checked.quarantined is not None and checked.bad_rows:
                suffix = f".{at + 1}" if at else ""
                self._extra[f"{name}.quarantine{suffix}"] = self._services.artifacts.save(checked.quarantined)
                self._context.metric(f"{name}.bad_rows{suffix}", checked.bad_rows)
                self._context.note = checked.summary or self._context.note
        return value

    def _decode(self, argument: TaskArgument, annotation: Any) -> Any:
        match argument:
            case Json(text):
                return loads(text, annotation)
            case Stored(ref):
                return self._services.artifacts.load(ref, annotation)
            case Collected(items, as_tuple):
                values = [self._decode(item, Any) for item in items]
                return tuple(values) if as_tuple else values
            case Keyed(keys, items):
                return {key: self._decode(item, Any) for key, item in zip(keys, items, strict=True)}
            case Whole(target, keys, items, payload):
                made_by = self._services.loader.load(target, payload)
                fields = {
                    key: self._decode(item, made_by.outputs.get(key, Any))
                    for key, item in zip(keys, items, strict=True)
                }
                return made_by.result_type(**fields) if made_by.result_type else fields
            case SecretValue(name):
                value = self._services.secret(name)
                self._secrets.learn(value)
                return value

    def _fence(self) -> Fence:
        """What stands between this attempt and the outside."""
        task = self._task
        if task.effect is None:
            raise UsageError(
                f"step '{task.step}' acts outside, and does not say how often that may happen",
                hint='declare it: @step(effect="exactly-once"), "at-least-once" or "at-most-once"',
            )
        if self._services.fence is None:
            return Unfenced()
        return self._services.fence(Acting(task.run_id, task.epoch, task.step, task.index, task.attempt))

    def _kept(self, text: str) -> None:
        if shown := self._secrets.feed(storable(text)):
            self._write(shown)

    def _progress(self, done: float, total: float | None, note: str) -> None:
        if self._tell_progress is not None:
            self._tell_progress(done, total, self._clean(note))

    def _flush_held(self) -> None:
        if held := self._secrets.rest():
            self._write(held)

    def _drop_odd_metrics(self) -> None:
        """NaN and infinity have no form in the run log; the log of the attempt says that they were there."""
        metrics = self._context.metrics
        for name in [name for name, value in metrics.items() if not isfinite(value)]:
            self._sink.add(f"[penstock: metric '{name}' is {metrics.pop(name)} and was not recorded]\n")

    def _failed(self, error: BaseException) -> StepOutcome:
        if self._relax is not None:
            self._relax()
        if self._watch is not None:
            leave_out(error.__traceback__)
        self.error = error
        encoding = self._phase == "encoding" and not isinstance(error, InvalidDataError)
        failure = failure_of(
            error,
            loading=self._phase == "loading",
            encoding=encoding,
            stopped=self.stopped,
            secrets=self._secrets,
            portable=self._portable,
        )
        looked_outside = self._context.varies or self._context.observations or (self._watch and self._watch.found)
        if failure.kind is FailureClass.ERROR and not looked_outside:
            failure = replace(failure, sameness=sameness(error))
        return StepOutcome(failure=failure)

    def _finish(self, outcome: StepOutcome, seconds: float, cpu_seconds: float) -> StepOutcome:
        outcome.seconds, outcome.cpu_seconds = round(seconds, 6), round(cpu_seconds, 6)
        clean = self._clean
        outcome.observations = tuple(
            Observation(clean(seen.kind), clean(seen.name), clean(seen.version)) for seen in self._context.observations
        )
        outcome.metrics = {clean(name): value for name, value in self._context.metrics.items()}
        outcome.note = None if self._context.note is None else clean(self._context.note)
        outcome.checkpointed = self._context.checkpointed
        outcome.fresh = self._fresh
        if outcome.failure is None and (self._seen or (self._watch is not None and self._watch.found)):
            outcome.hidden = tuple(
                HiddenInput(each.kind, clean(each.name), clean(each.where)) for each in self._hidden()
            )
        return outcome

    def _clean(self, text: str) -> str:
        return storable(self._secrets.text(text))
