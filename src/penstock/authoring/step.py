"""`@step`: outside a pipeline a step is just its function, with its own signature; inside one, a call is recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from ..core.errors import DefinitionError
from ..core.location import caller_location
from ..core.units import Duration
from ..graph import Quarantine, StepOptions
from ..ports.records import HiddenKind
from .options import Limits, Resources, Retry, step_options
from .recorder import ACTIVE, StepCall, checked_name, nothing_to_map, unequal
from .signature import Signature, unwrapped

P = ParamSpec("P")
R = TypeVar("R")
_PLAIN = StepOptions()
_COROUTINE = 0x80


class Step(Generic[P, R]):
    """A function that can be a step. Calling it outside a pipeline calls the function.

    `target` says where it is found again when that is not where its function is defined.
    """

    fn: Callable[P, R]

    def __init__(
        self, fn: Callable[P, R], options: StepOptions = _PLAIN, name: str | None = None, target: str | None = None
    ) -> None:
        self.fn = fn
        self.options = options
        self._name: str = name or fn.__name__
        self._explicit = False
        self._after: tuple[Any, ...] = ()
        self._target = target
        self._signature: Signature | None = None
        functools.update_wrapper(self, fn)

    @property
    def signature(self) -> Signature:
        if self._signature is None:
            self._signature = Signature(self.fn)
        return self._signature

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if (recorder := ACTIVE.get()) is None:
            return self.fn(*args, **kwargs)
        return cast(R, recorder.record(self._call(), args, kwargs))  # the one lie: a handle stands for R

    def partial(self, *args: Any, **kwargs: Any) -> Partial[R]:
        """Fix the arguments that do not vary, then `.map()` over the others."""
        return Partial(self, args, kwargs)

    def map(self, *, max_size: int | None = None, **over: Any) -> list[R]:
        """One element of the step per element of the given list(s), side by side; results keep their order."""
        return Partial(self, (), {}).map(max_size=max_size, **over)

    def named(self, name: str) -> Step[P, R]:
        """The same step under another name in the pipeline."""
        return self._copy(_name=checked_name(name), _explicit=True)

    def after(self, *handles: Any) -> Step[P, R]:
        """The same step, waiting for others without taking data from them."""
        return self._copy(_after=(*self._after, *handles))

    def with_options(self, **changes: Any) -> Step[P, R]:
        """The same step with other options, named as in `@step(...)`."""
        return self._copy(options=step_options(self.options, **changes))

    def _copy(self, **changes: Any) -> Step[P, R]:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    def _call(self) -> StepCall:
        return StepCall(self.fn, self.signature, self.options, self._name, self._explicit, self._after, self._target)

    def __repr__(self) -> str:
        return f"<step {self._name} ({self.signature.where})>"


class AsyncStep(Step[P, R]):
    """A step whose function is a coroutine function: `await step.fn()` outside a pipeline."""

    fn: Callable[P, Coroutine[Any, Any, R]]  # type: ignore[assignment]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if ACTIVE.get() is None:
            raise DefinitionError(
                f"'{self._name}' is an async step; outside a pipeline it cannot be called directly",
                hint=f"await {self._name}.fn(…)",
                where=caller_location(),
            )
        return super().__call__(*args, **kwargs)


class Partial(Generic[R]):
    """A step with some arguments fixed."""

    def __init__(self, step: Step[..., R], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._step = step
        self._args = args
        self._kwargs = kwargs

    def map(self, *, max_size: int | None = None, **over: Any) -> list[R]:
        """Fan out over list(s); `max_size` is declared where an engine has a cap."""
        where = caller_location()
        signature = self._step.signature
        fixed, problems = signature.bind(self._args, self._kwargs, where=where, partial=True)
        varying, more = signature.bind((), over, where=where, partial=True)
        problems += more
        problems += [
            DefinitionError(f"'{signature.name}' got '{name}' from both .partial() and .map()", where=where)
            for name in varying
            if name in fixed
        ]
        problems += signature.missing(fixed | varying, where)
        if (recorder := ACTIVE.get()) is not None:
            recorder.problems += problems
            return cast("list[R]", recorder.record_map(self._step._call(), fixed, varying, max_size=max_size))
        if problems:
            raise problems[0]
        return self._elements_here(fixed, varying)

    def _elements_here(self, fixed: dict[str, Any], over: dict[str, Any]) -> list[R]:
        """Outside a pipeline: one call of the function after another."""
        where = caller_location()
        name = self._step.signature.name
        if isinstance(self._step, AsyncStep):
            raise DefinitionError(
                f"'{name}' is an async step; outside a pipeline it cannot be mapped",
                hint=f"await asyncio.gather(*({name}.fn(…) for … in …))",
                where=where,
            )
        lengths = {key: len(values) for key, values in over.items()}
        if len(set(lengths.values())) != 1:
            raise DefinitionError(unequal(name, lengths) if lengths else nothing_to_map(name), where=where)
        rows = zip(*over.values(), strict=True)
        return [self._step.fn(**fixed, **dict(zip(over, row, strict=True))) for row in rows]


class StepDecorator(Protocol):
    """`@step(...)` with options."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncStep[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncStep[P, R]: ...
@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | int | None = None,
    timeout: Duration | None = None,
    isolation: Literal["auto", "process", "thread"] = "auto",
    resources: Resources | None = None,
    limits: Limits | None = None,
    cache: bool = True,
    env: Sequence[str] = (),
    effect: Literal["exactly-once", "at-least-once", "at-most-once"] | None = None,
    on_invalid: Quarantine | None = None,
    reads: str | Sequence[str] = (),
    cache_despite: HiddenKind | Sequence[HiddenKind] = (),
    max_parallel: int | None = None,
    pool: str | None = None,
    updates: str | Sequence[str] = (),
) -> StepDecorator: ...
def step(fn: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Make a function a step.

    retry: how often and when to try again (a number is that many attempts in all, one second apart and doubling).
    timeout: per attempt; the work and its children are really stopped.
    isolation: "process" for a process of its own, "thread" for I/O-bound work; "auto" decides.
    cache: False runs it every time.  env: environment variables whose values belong to the cache key.
    effect: it changes the outside world; how often that may happen.  on_invalid: what to do with bad rows.
    reads: files and folders that it opens by itself; a hit is allowed only while they are as they were.
    cache_despite: kinds of hidden input that do not keep its result out of the cache ("network", "clock", …).
    max_parallel: how many instances of it run at the same time in one run, at most.
    pool: it runs only while it has one of the places of this name, which steps of all runs share.
    updates: URLs of data that it writes; pipelines with `schedule=OnData(…)` may wait for them.
    """
    parsed = step_options(StepOptions(), **options)
    checked_name(name)

    def decorate(target: Any) -> Any:
        if isinstance(target, Step):
            raise DefinitionError(f"'{target._name}' is a step already", where=caller_location())
        code = getattr(unwrapped(target), "__code__", None)
        if code is None or not callable(target):
            raise DefinitionError(
                f"@step decorates a function written in Python, not {target!r}",
                hint="write a small function that calls it",
                where=caller_location(),
            )
        kind = AsyncStep if code.co_flags & _COROUTINE else Step
        return kind(target, parsed, name)

    return decorate if fn is None else decorate(fn)
