"""`@pipeline`: a function whose calls of steps are traced into a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from ..core.errors import DefinitionError, ParameterError
from ..core.jsonvalue import dumps, loads
from ..core.location import caller_location
from ..graph import Argument, Cron, Fields, Graph, Param, Parameter
from ..ports.runner import Runner, RunResult
from .handles import Handle
from .identity import adopt_main, module_file, project_root, target_of
from .options import SecretName, is_static
from .recorder import ACTIVE, Recorder
from .signature import Signature, shown_type
from .typecheck import value_fits

P = ParamSpec("P")
R = TypeVar("R")
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
        schedule: Cron | None = None,
        tags: Mapping[str, str] | None = None,
        fail_fast: bool = False,
    ) -> None:
        self.fn = fn
        self.name = name or fn.__name__
        self.schedule = schedule
        self.tags = dict(tags or {})
        self.fail_fast = fail_fast
        self.run_options: dict[str, Any] = {}
        self._signature: Signature | None = None
        functools.update_wrapper(self, fn)

    @property
    def signature(self) -> Signature:
        if self._signature is None:
            self._signature = Signature(self.fn)
        return self._signature

    @property
    def root(self) -> str:
        """The project this pipeline lives in: the nearest folder with penstock.toml, pyproject.toml or .git."""
        import os

        file = module_file(self.fn)
        return project_root(file) if file else os.path.realpath(os.getcwd())

    def run(self, *args: P.args, **kwargs: P.kwargs) -> RunResult:
        """Run it here and wait. A step's exception comes through unchanged, with a note that names step and run."""
        bound, problems = self.signature.bind(args, kwargs, where=caller_location())
        if problems:
            raise ParameterError(problems[0].problem, hint=problems[0].hint, where=problems[0].where)
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
        wrong = [
            f"'{name}' takes {shown_type(annotation)}, but {value!r} was given"
            for name, annotation in self.signature.annotations.items()
            if name in values
            and not isinstance(value := values[name], SecretName)
            and not value_fits(value, annotation)
        ]
        if wrong:
            raise ParameterError(f"parameters of '{self.name}': " + "; ".join(wrong), where=self.signature.where)
        every = {**self.signature.defaults, **values}
        return {
            name: dumps(f"secret:{every[name].name}")
            if isinstance(every[name], SecretName)
            else dumps(every[name], self.signature.annotations[name])
            for name in self.signature.names
            if name in every
        }

    def trace(self, parameters: Mapping[str, str] | None = None) -> Traced:
        """The graph. `parameters` (JSON text) matter only for Static ones. Raises DefinitionError with every problem."""
        adopt_main()
        recorder = Recorder(self.root)
        recorder.problems += self.signature.unresolved
        handles = {name: self._parameter(recorder, name, parameters or {}) for name in self.signature.names}
        token = ACTIVE.set(recorder)
        result: Argument | None = None
        try:
            # A problem already found is not repeated by the body, which might trip over it.
            value = cast(Any, self.fn)(**handles)
            result = _result(recorder, value, self.signature)
        except DefinitionError as error:
            recorder.problems.extend(error.problems or [error])
        finally:
            ACTIVE.reset(token)
        target = target_of(self.fn, recorder.root)
        if "<locals>" in target:
            recorder.problems.append(
                DefinitionError(
                    f"pipeline '{self.name}' is defined inside another function, so another process could not find it",
                    where=self.signature.where,
                    hint="move it to module level",
                )
            )
        if recorder.problems:
            raise DefinitionError(_count(self.name, len(recorder.problems)), problems=recorder.problems)
        graph = Graph.checked(
            pipeline=self.name,
            target=target,
            nodes=tuple(recorder.nodes.values()),
            scopes=tuple(recorder.scopes.values()),
            parameters=tuple(recorder.parameters),
            result=result,
            tags=self.tags,
            schedule=self.schedule,
            fail_fast=self.fail_fast,
        )
        return Traced(graph, recorder.root, recorder.functions)

    @overload
    def map(self, /, **over: Any) -> list[R]: ...
    @overload
    def map(self, fixed: Mapping[str, Any], /, **over: Any) -> list[R]: ...
    def map(self, fixed: Mapping[str, Any] | None = None, /, **over: Any) -> list[R]:
        """Inside another pipeline: the whole pipeline once per element; maps inside it nest."""
        recorder = ACTIVE.get()
        if recorder is None:
            raise DefinitionError(f"'{self.name}.map()' belongs inside a pipeline", where=caller_location())
        bound, problems = self.signature.bind((), {**(fixed or {}), **over}, where=caller_location())
        recorder.problems += problems
        with recorder.mapped(self.name, {name: bound[name] for name in over if name in bound}) as elements:
            return cast("list[R]", self._body(recorder, {**bound, **elements}))

    def partial(self, **fixed: Any) -> PartialPipeline[R]:
        """Fix the arguments that do not vary, then `.map()`."""
        return PartialPipeline(self, fixed)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        where = caller_location()
        recorder = ACTIVE.get()
        if recorder is None:
            raise DefinitionError(
                f"'{self.name}' is a pipeline; a call only nests it inside another one",
                where=where,
                hint=f"run it with {self.name}.run(…), or `penstock run`",
            )
        bound, problems = self.signature.bind(args, kwargs, where=where)
        recorder.problems += problems
        with recorder.nested(self.name):
            return cast(R, self._body(recorder, bound))

    def _body(self, recorder: Recorder, bound: Mapping[str, Any]) -> Any:
        values = {}
        for name in self.signature.names:
            value = bound.get(name, self.signature.defaults.get(name))
            annotation = self.signature.annotations[name]
            plain = isinstance(value, (Handle, SecretName)) or is_static(annotation)
            argument = value if plain else recorder.argument(value, self.signature.where)
            values[name] = value if plain else Handle(recorder, argument, annotation, f"parameter '{name}'")
        return cast(Any, self.fn)(**values)

    def _parameter(self, recorder: Recorder, name: str, given: Mapping[str, str]) -> Any:
        annotation = self.signature.annotations[name]
        default = self.signature.defaults.get(name)
        has_default = name in self.signature.defaults
        if isinstance(default, SecretName):
            recorder.parameters.append(Parameter(name, shown_type(annotation), secret=True))
            return default
        text = dumps(default, annotation) if has_default else None
        if is_static(annotation):
            text = given.get(name, text)
            if text is None:
                raise ParameterError(f"'{self.name}' needs a value for its Static parameter '{name}' to be built")
            recorder.parameters.append(Parameter(name, shown_type(annotation), default=text, static=True))
            return loads(text, annotation)
        recorder.parameters.append(Parameter(name, shown_type(annotation), default=text))
        return Handle(recorder, Param(name), annotation, f"parameter '{name}'")

    def __repr__(self) -> str:
        return f"<pipeline {self.name} ({self.signature.where})>"


class PartialPipeline(Generic[R]):
    """A pipeline with some arguments fixed."""

    def __init__(self, pipeline: Pipeline[..., R], fixed: dict[str, Any]) -> None:
        self._pipeline = pipeline
        self._fixed = fixed

    def map(self, **over: Any) -> list[R]:
        return self._pipeline.map(self._fixed, **over)


@overload
def pipeline(fn: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    schedule: Cron | None = None,
    tags: Mapping[str, str] | None = None,
    fail_fast: bool = False,
) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a pipeline.

    schedule: `Cron("0 3 * * *", tz="Europe/Paris")`.  tags: kept with every run.
    fail_fast: stop everything at the first failure; by default independent branches finish.
    """
    return (lambda target: Pipeline(target, **options)) if fn is None else Pipeline(fn)


def _result(recorder: Recorder, value: Any, signature: Signature) -> Argument | None:
    if value is None:
        return None
    fields = getattr(value, "_fields", None) or list(getattr(value, "__dataclass_fields__", ()))
    if fields and not isinstance(value, Handle):
        items = tuple(recorder.argument(getattr(value, name), signature.where) for name in fields)
        return Fields(target_of(type(value), recorder.root), tuple(fields), items)
    return recorder.argument(value, signature.where)


def _count(name: str, number: int) -> str:
    return f"pipeline '{name}' cannot be built: {number} problem{'s' if number > 1 else ''}"
