"""Handles: what stands for a value while a pipeline is being built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from ..core.errors import DefinitionError, did_you_mean
from ..core.location import caller_location
from ..graph import Argument, Output, Value

if TYPE_CHECKING:
    from .recorder import Recorder

T = TypeVar("T")
_NOTHING = Value("null")


class Handle:
    """A value that does not exist yet. It can be passed on; it cannot be looked at.

    Its attributes are the declared fields of a step that returns a NamedTuple or dataclass, and only those.

    A mistake that has an answer of some kind (`handle + 1`, `handle.shape`) is noted, and building goes on with a
    *broken* handle that causes no further message; so every mistake of a pipeline is told at once. Where Python wants
    a real answer (`if handle`, `for x in handle`), building ends there.
    """

    __slots__ = ("_annotation", "_argument", "_fields", "_label", "_mistake", "_recorder", "_scope")

    def __init__(
        self,
        recorder: Recorder,
        argument: Argument,
        annotation: Any,
        label: str,
        scope: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        self._recorder = recorder
        self._argument = argument
        self._annotation = annotation  # seen from inside `scope`; from outside it is a list of these
        self._label = label
        self._scope = scope
        self._fields = fields or {}
        self._mistake: DefinitionError | None = None

    def after(self, *others: Any) -> Handle:
        """Make this step wait for others without taking data from them."""
        if self._mistake is None:
            self._recorder.order(self, others)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self._fields:
            return self._field(name)
        if name.startswith("_"):  # Python and libraries ask for these; nobody writes them in a pipeline
            raise AttributeError(name)
        hint = (
            did_you_mean(name, list(self._fields))
            if self._fields
            else "only a step that returns a NamedTuple or a dataclass has named outputs; "
            "to use an attribute of the value, pass the handle to a step"
        )
        return self._broken(f"{self._label} has no output '{name}'", hint)

    def _field(self, name: str) -> Handle:
        whole = cast(Output, self._argument)
        annotation = or_none(self._fields[name]) if whole.optional else self._fields[name]
        argument = Output(whole.node, name, optional=whole.optional)
        return Handle(self._recorder, argument, annotation, f"output '{name}' of step '{whole.node}'", self._scope)

    def __iter__(self) -> Iterator[Handle]:
        if not self._fields:
            self._stop("iterated over", "fan out with step.map(item=handle), or make the parameter Static[...]")
        return iter([self._field(name) for name in self._fields])

    def __bool__(self) -> NoReturn:
        self._stop("used as a condition", "write `with when(handle):` around the steps it should guard")

    def __len__(self) -> NoReturn:
        self._stop("measured with len()", "measure it inside a step")

    def __contains__(self, item: object) -> NoReturn:
        self._stop("searched with `in`", "search it inside a step")

    def __getitem__(self, key: object) -> Any:
        return self._teach("indexed", "index it inside a step, or return a NamedTuple to get named outputs")

    def __setitem__(self, key: object, value: object) -> None:
        self._teach("changed", "change a copy inside a step, and return it")

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._teach("called", "call it inside a step")

    def __format__(self, spec: str) -> str:
        return repr(self._teach("put into a string", "build the string inside a step"))

    def __str__(self) -> str:
        return repr(self._teach("put into a string", "build the string inside a step; repr() shows the handle itself"))

    def __eq__(self, other: object) -> Any:
        return self._compare(other)

    def __ne__(self, other: object) -> Any:
        return self._compare(other)

    def _compare(self, other: object) -> Any:
        return self._teach(
            "compared", "compare inside a step that returns bool, then `with when(...)`; or when(handle, is_=…)"
        )

    def _calculate(self, *_: object) -> Any:
        return self._teach("calculated with", "calculate inside a step")

    def _convert(self) -> NoReturn:
        self._stop("made a number", "convert it inside a step")

    __hash__ = object.__hash__
    __lt__ = __le__ = __gt__ = __ge__ = _compare
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _calculate
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _calculate
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __neg__ = __pos__ = __invert__ = __abs__ = _calculate
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __divmod__ = __rdivmod__ = __round__ = _calculate
    __int__ = __float__ = __index__ = __complex__ = _convert

    def __repr__(self) -> str:
        return f"<handle: {self._label}>"

    def _teach(self, what: str, instead: str) -> Handle:
        return self._broken(_no_value_yet(self._label, what), instead)

    def _broken(self, problem: str, hint: str) -> Handle:
        if self._mistake is not None:
            return self
        return self._recorder.broken(DefinitionError(problem, hint=hint, where=caller_location()))

    def _stop(self, what: str, instead: str) -> NoReturn:
        raise self._mistake or DefinitionError(_no_value_yet(self._label, what), hint=instead, where=caller_location())


def broken_handle(recorder: Recorder, mistake: DefinitionError) -> Handle:
    """What stands for the answer to a mistake; nothing more is said about it."""
    handle = Handle(recorder, _NOTHING, Any, "a value that cannot be")
    handle._mistake = mistake
    return handle


def or_none(annotation: Any) -> Any:
    """The annotation of a value that may be missing.

    >>> or_none(int)
    int | None
    """
    return annotation if annotation is Any or annotation is type(None) else annotation | None


def optional(value: T) -> T | None:
    """In a pipeline: accept None where the step behind this handle was skipped, instead of being skipped too."""
    if not isinstance(value, Handle) or value._mistake is not None:
        return value
    if not isinstance(value._argument, Output):
        problem = f"optional() takes what a step returned, not {value._label}"
        return cast(T, value._broken(problem, "only a step can be skipped; a parameter always has a value"))
    argument = Output(value._argument.node, value._argument.field, optional=True)
    fields = dict(value._fields)
    return cast(T, Handle(value._recorder, argument, or_none(value._annotation), value._label, value._scope, fields))


def _no_value_yet(label: str, what: str) -> str:
    return f"{label} is {what} while the pipeline is built, but it has no value yet"
