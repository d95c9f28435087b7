"""`@pipeline`: a function whose calls of steps are traced into a graph."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from ..core.errors import CodecError, DefinitionError, ParameterError, did_you_mean
from ..core.jsonvalue import dumps, loads
from ..core.location import Location, caller_location, shown_path
from ..graph import Argument, Cron, Fields, Graph, Param, Parameter
from ..ports.runner import Runner, RunResult
from .bytecode import edited_since_import, loaded_from_stale, look_closer
from .handles import Handle, broken_handle
from .identity import adopt_main, module_file, project_root, target_of
from .options import OnData, SecretName, count_from_one, is_static
from .recorder import ACTIVE, Recorder, checked_name, has_handle
from .signature import Signature, shown_type, unwrapped
from .typecheck import value_fits

P = ParamSpec("P")
R = TypeVar("R")
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_runner: Callable[[], Runner] | None = None


def bind_runner(factory: Callable[[], Runner]) -> None:
    """Say who runs pipelines; done once, by the root package."""
    global _runner
    _runner = factory


class Traced:
    """A pipeline's graph, with what cannot be JSON: functions of a notebook, which travel by value."""

    def __init__(self, graph: Graph, root: str, functions: dict[str, Callable[..., Any]]) -> None:
        self.graph = graph
        self.root = root
        self.functions = functions


class Pipeline(Generic[P, R]):
    """A pipeline. `run()` runs it; inside another pipeline, a call nests it."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str | None = None,
        schedule: Cron | OnData | None = None,
        tags: Mapping[str, str] | None = None,
        fail_fast: bool = False,
        max_active_runs: int | None = None,
    ) -> None:
        self.fn = fn
        self.name = name or fn.__name__
        self.schedule = schedule
        self.tags = dict(tags or {})
        self.fail_fast = fail_fast
        self.max_active_runs = max_active_runs
        self.run_options: dict[str, Any] = {}
        self._signature: Signature | None = None
        functools.update_wrapper(self, fn)
        if module_file(fn) is not None:
            look_closer(self.root)  # from here on an edit of what is imported is noticed

    @property
    def signature(self) -> Signature:
        if self._signature is None:
            self._signature = Signature(self.fn)
        return self._signature

    @property
    def root(self) -> str:
        """The project this pipeline lives in: the nearest folder with penstock.toml, pyproject.toml or .git."""
        file = module_file(self.fn)
        return project_root(file) if file else os.path.realpath(os.getcwd())

    def run(self, *args: P.args, **kwargs: P.kwargs) -> RunResult:
        """Run it here and wait. A step's exception comes through unchanged, with a note that names step and run."""
        if ACTIVE.get() is not None:
            raise DefinitionError(
                f"'{self.name}.run()' is called while a pipeline is built",
                where=caller_location(),
                hint=f"to nest it, call {self.name}(…)",
            )
        bound, problems = self.signature.bind(args, kwargs, where=caller_location())
        if problems:
            raise ParameterError(
                "; ".join(each.problem for each in problems), hint=problems[0].hint, where=problems[0].where
            )
        parameters = self.parameters(bound)
        if _runner is None:
            raise RuntimeError("no runner is bound; import penstock, not penstock.authoring")
        return _runner().run(self.trace(parameters), parameters, **self.run_options)

    def using(self, **options: Any) -> Pipeline[P, R]:
        """The same pipeline, run another way: `using(workers=4, cache=False, profile="prod")`."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, run_options={**self.run_options, **options})
        return copy

    def parameters(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Given values and defaults as JSON text, checked against the annotations; every mistake is told at once."""
        wrong = [text for name in values if (text := self._wrong_value(name, values[name])) is not None]
        if wrong:
            raise ParameterError(f"parameters of '{self.name}': " + "; ".join(wrong), where=self.signature.where)
        every = {**self.signature.defaults, **values}
        return {name: _written(every[name], self.signature, name) for name in self.signature.names if name in every}

    def trace(self, parameters: Mapping[str, str] | None = None, *, by_value: bool = False) -> Traced:
        """The graph. Raises DefinitionError with every problem.

        parameters: as JSON text; they matter for Static ones only.
        by_value: for a run in this process, as tests want it: functions that no other process could find are fine.
        """
        adopt_main()
        recorder = Recorder(self.root, self.fn, by_value=by_value)
        recorder.problems += self.signature.problems
        recorder.problems += _stale(recorder.root)
        target = target_of(self.fn, recorder.root) if by_value else self._target(recorder)
        result = self._traced_body(recorder, parameters or {})
        try:
            graph = Graph.checked(
                pipeline=self.name,
                target=target,
                nodes=tuple(recorder.nodes.values()),
                scopes=tuple(recorder.scopes.values()),
                parameters=tuple(recorder.parameters),
                result=result,
                tags=self.tags,
                schedule=None if isinstance(self.schedule, OnData) else self.schedule,
                on_data=self.schedule.urls if isinstance(self.schedule, OnData) else (),
                max_active_runs=self.max_active_runs,
                fail_fast=self.fail_fast,
            )
        except DefinitionError as error:
            recorder.problems += error.problems
        if recorder.problems:
            raise DefinitionError(_count(self.name, len(recorder.problems)), problems=recorder.problems)
        return Traced(graph, recorder.root, recorder.functions)

    def map(self, /, *, max_size: int | None = None, **over: Any) -> list[R]:
        """Inside another pipeline: the whole pipeline once per element; maps inside it nest."""
        return PartialPipeline(self, (), {}).map(max_size=max_size, **over)

    def partial(self, *args: Any, **fixed: Any) -> PartialPipeline[R]:
        """Fix the arguments that do not vary, then `.map()`."""
        return PartialPipeline(self, args, fixed)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        where = caller_location()
        recorder = self._recorder(f"'{self.name}' is a pipeline; a call only nests it inside another one", where)
        bound, problems = self.signature.bind(args, kwargs, where=where)
        recorder.problems += problems
        with recorder.nested(self.name, self.fn, where):
            return cast(R, self._body(recorder, bound, where))

    # -- inside --------------------------------------------------------------------------------------------------

    def _recorder(self, problem: str, where: Location | None) -> Recorder:
        recorder = ACTIVE.get()
        if recorder is None:
            raise DefinitionError(problem, where=where, hint=f"run it with {self.name}.run(…), or `penstock run`")
        recorder.problems += [each for each in self.signature.problems if each not in recorder.problems]
        return recorder

    def _traced_body(self, recorder: Recorder, parameters: Mapping[str, str]) -> Argument | None:
        """Run the body on handles. What it raises after a noted mistake is one more problem, no traceback."""
        values = {name: self._parameter(recorder, name, parameters) for name in self.signature.names}
        if self.signature.is_lazy:
            return None
        token = ACTIVE.set(recorder)
        try:
            return _result(recorder, cast(Any, self.fn)(**values), self.signature)
        except DefinitionError as error:
            recorder.problems += [each for each in error.problems or [error] if each not in recorder.problems]
        except Exception as error:  # the body is the user's code; the first mistake is raised as it is
            if not recorder.problems:
                raise
            recorder.problem(f"and then the body stopped: {type(error).__name__}: {error}", _raised_at(error))
        finally:
            ACTIVE.reset(token)
        return None

    def _target(self, recorder: Recorder) -> str:
        target = target_of(self.fn, recorder.root)
        if "<locals>" in target or "<lambda>" in target:
            recorder.problem(
                f"pipeline '{self.name}' is defined inside another function, so another process could not find it",
                self.signature.where,
                hint="move it to module level",
            )
        return target

    def _body(self, recorder: Recorder, bound: Mapping[str, Any], where: Location | None) -> Any:
        """The body as a part of another pipeline, on what it is given there."""
        values = {}
        for name in self.signature.names:
            value = bound.get(name, self.signature.defaults.get(name))
            told = name not in bound and name not in self.signature.defaults  # by `bind`
            if told or (name in bound and not recorder.check_argument(self.signature, name, value, where)):
                wrong = DefinitionError(f"'{self.name}' has no usable value for '{name}'", where=where)
                values[name] = broken_handle(recorder, wrong)
            else:
                values[name] = self._inner(recorder, name, value, where)
        return cast(Any, self.fn)(**values)

    def _inner(self, recorder: Recorder, name: str, value: Any, where: Location | None) -> Any:
        annotation = self.signature.annotations[name]
        if is_static(annotation):
            if has_handle([value]):
                raise DefinitionError(
                    f"'{self.name}' needs the value of its Static parameter '{name}' while it is built, but that is "
                    "not known yet",
                    where=where,
                    hint="give a plain value, or a Static parameter of this pipeline",
                )
            return value
        if isinstance(value, (Handle, SecretName)):
            return value
        return Handle(recorder, recorder.argument(value, where), annotation, f"parameter '{name}'")

    def _wrong_value(self, name: str, value: Any) -> str | None:
        if name not in self.signature.annotations:
            return f"there is no '{name}' ({did_you_mean(name, self.signature.names)})"
        annotation = self.signature.annotations[name]
        if isinstance(value, SecretName):
            return None
        if isinstance(self.signature.defaults.get(name), SecretName):  # the value is not repeated here
            return f"'{name}' is a secret and is given by name: Secret(\"NAME\")"
        return (
            None
            if value_fits(value, annotation)
            else f"'{name}' takes {shown_type(annotation)}, but {value!r} was given"
        )

    def _parameter(self, recorder: Recorder, name: str, given: Mapping[str, str]) -> Any:
        """What the body receives for one parameter: a handle, or a Static one's value."""
        annotation = self.signature.annotations[name]
        shown, label = shown_type(annotation), f"parameter '{name}'"
        default = self.signature.defaults.get(name)
        if isinstance(default, SecretName):
            recorder.parameters.append(Parameter(name, shown, default=_secret_text(default), secret=True))
            return Handle(recorder, Param(name), annotation, label)
        text = self._default_text(recorder, name)
        if not is_static(annotation):
            recorder.parameters.append(Parameter(name, shown, default=text))
            return Handle(recorder, Param(name), annotation, label)
        text = given.get(name, text)
        if text is None:
            raise ParameterError(
                f"'{self.name}' needs a value for its Static parameter '{name}' to be built",
                hint=f"give one: --{name.replace('_', '-')} …, or a default in {self.name}(…)",
                where=self.signature.where,
            )
        recorder.parameters.append(Parameter(name, shown, default=text, static=True))
        return loads(text, annotation)

    def _default_text(self, recorder: Recorder, name: str) -> str | None:
        """A default as JSON text; one that does not fit its annotation, or is no constant, is a problem."""
        if name not in self.signature.defaults:
            return None
        default, annotation = self.signature.defaults[name], self.signature.annotations[name]
        if not value_fits(default, annotation):
            recorder.problem(
                f"'{self.name}' takes '{name}: {shown_type(annotation)}', but its default is {default!r}",
                self.signature.where,
            )
        try:
            return dumps(default)
        except CodecError as error:
            recorder.problem(
                f"the default of '{name}' of '{self.name}' cannot be kept: {error.problem}",
                self.signature.where,
                hint="make it in a step",
            )
            return "null"

    def __repr__(self) -> str:
        return f"<pipeline {self.name} ({self.signature.where})>"


class PartialPipeline(Generic[R]):
    """A pipeline with some arguments fixed."""

    def __init__(self, pipeline: Pipeline[..., R], args: Sequence[Any], fixed: dict[str, Any]) -> None:
        self._pipeline = pipeline
        self._args = args
        self._fixed = fixed

    def map(self, *, max_size: int | None = None, **over: Any) -> list[R]:
        where = caller_location()
        inner = self._pipeline
        recorder = inner._recorder(f"'{inner.name}.map()' belongs inside a pipeline", where)
        fixed, problems = inner.signature.bind(self._args, {**self._fixed}, where=where, partial=True)
        over, more = inner.signature.bind((), over, where=where, partial=True)
        twice = [name for name in over if name in fixed]
        recorder.problems += [*problems, *more, *inner.signature.missing({**fixed, **over}, where)]
        recorder.problems += [
            DefinitionError(f"'{inner.name}' got '{name}' from both .partial() and .map()", where=where)
            for name in twice
        ]
        with (
            recorder.nested(inner.name, inner.fn, where),
            recorder.mapped(inner.signature, over, where, max_size) as (scope, elements),
        ):
            result = inner._body(recorder, {**fixed, **elements}, where)
        return cast("list[R]", recorder.collected(result, inner.name, scope, where))


@overload
def pipeline(fn: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    schedule: Cron | OnData | None = None,
    tags: Mapping[str, str] | None = None,
    fail_fast: bool = False,
    max_active_runs: int | None = None,
) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a pipeline.

    schedule: `Cron("0 3 * * *", tz="Europe/Paris")`, or `OnData("s3://raw/orders")`.  tags: kept with every run.
    fail_fast: stop everything at the first failure; by default independent branches finish.
    max_active_runs: how many runs of it may be active at the same time.
    """
    checked = _pipeline_options(**options)
    return (lambda target: _decorated(target, checked)) if fn is None else _decorated(fn, checked)


def _decorated(fn: Any, options: dict[str, Any]) -> Any:
    code = getattr(unwrapped(fn), "__code__", None)
    if code is None:
        hint = "write @pipeline above a plain function that calls steps"
        raise DefinitionError(f"@pipeline decorates a function, not {fn!r}", hint=hint, where=caller_location())
    made: Pipeline[..., Any] = Pipeline(fn, **options)
    if made.signature.is_async:
        made.signature.problems.append(
            DefinitionError(
                f"pipeline '{made.name}' is async, but a pipeline only says what is called",
                hint="write `def`; its steps may be async",
                where=made.signature.where,
            )
        )
    return made


def _pipeline_options(**options: Any) -> dict[str, Any]:
    known = ("name", "schedule", "tags", "fail_fast", "max_active_runs")
    for key in options:
        if key not in known:
            raise DefinitionError(
                f"@pipeline has no option '{key}'", hint=did_you_mean(key, known), where=caller_location()
            )
    schedule, tags = options.get("schedule"), options.get("tags") or {}
    if schedule is not None and not isinstance(schedule, (Cron, OnData)):
        hint = 'write schedule=Cron("0 3 * * *", tz="Europe/Paris"), or schedule=OnData("s3://raw/orders")'
        raise DefinitionError(f"schedule is {schedule!r}, not a Cron or OnData", hint=hint, where=caller_location())
    count_from_one("max_active_runs", options.get("max_active_runs"))
    if not isinstance(tags, Mapping) or not all(isinstance(text, str) for pair in tags.items() for text in pair):
        hint = 'write tags={"team": "growth"}'
        raise DefinitionError(f"tags are {tags!r}, but names and values are text", hint=hint, where=caller_location())
    checked_name(options.get("name"))
    return options


def _result(recorder: Recorder, value: Any, signature: Signature) -> Argument | None:
    if value is None:
        return None
    fields = getattr(value, "_fields", None) or list(getattr(value, "__dataclass_fields__", ()))
    if fields and not isinstance(value, Handle):
        items = tuple(recorder.argument(getattr(value, name), signature.where) for name in fields)
        return Fields(target_of(type(value), recorder.root), tuple(fields), items)
    return recorder.argument(value, signature.where)


def _written(value: Any, signature: Signature, name: str) -> str:
    if isinstance(value, SecretName):
        return _secret_text(value)
    try:
        return dumps(value)
    except CodecError as error:
        raise ParameterError(
            f"'{name}' of '{signature.name}' cannot be kept: {error.problem}",
            hint="a parameter is a plain value; give a path or a name, and read it in a step",
        ) from error


def _secret_text(secret: SecretName) -> str:
    return dumps(f"secret:{secret.name}")


def _raised_at(error: BaseException) -> Location | None:
    """The last line outside penstock that an exception came through."""
    found, step = None, error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if not file.startswith(_HERE):
            found = Location(shown_path(file), step.tb_lineno)
        step = step.tb_next
    return found


def _count(name: str, number: int) -> str:
    return f"pipeline '{name}' cannot be built: {number} problem{'s' if number > 1 else ''}"


def _stale(root: str) -> list[DefinitionError]:
    """Modules whose old code is in memory although their source says otherwise: what runs must be what is written."""
    return [
        DefinitionError(
            f"Python loaded a compiled file that is older than {shown_path(file)}",
            hint="it was edited in the second of its last compilation; run again after deleting its __pycache__",
        )
        for file in loaded_from_stale(root)
    ] + [
        DefinitionError(
            f"{shown_path(file)} was edited after this process imported it: its old code is what would run",
            hint="start again in a new process; in a notebook, importlib.reload its module or restart the kernel",
        )
        for file in edited_since_import(root)
    ]
