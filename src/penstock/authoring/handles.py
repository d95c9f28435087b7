"""Handles: what stands for a value while a pipeline is being built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from ..core.errors import DefinitionError, did_you_mean
from ..core.location import caller_location
from ..graph import Argument, Output

if TYPE_CHECKING:
    from .recorder import Recorder

T = TypeVar("T")


class Handle:
    """A value that does not exist yet. It can be passed on; it cannot be looked at.

    Its attributes are the declared fields of a step that returns a NamedTuple or dataclass, and only those.
    """

    __slots__ = ("_annotation", "_argument", "_fields", "_label", "_recorder", "_scope")

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

    def after(self, *others: Any) -> Handle:
        """Make this step wait for others without taking data from them."""
        self._recorder.order(self, others)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self._fields:
            return self._field(name)
        if name.startswith("__"):
            raise AttributeError(name)
        fields = list(self._fields)
        raise self._refuse(
            f"{self._label} has no output '{name}'",
            did_you_mean(name, fields)
            if fields
            else "only a step that returns a NamedTuple or a dataclass has named outputs; "
            "to use an attribute of the value, pass the handle to a step",
        )

    def _field(self, name: str) -> Handle:
        node = cast(Output, self._argument).node
        return Handle(
            self._recorder, Output(node, name), self._fields[name], f"output '{name}' of step '{node}'", self._scope
        )

    def __iter__(self) -> Iterator[Handle]:
        if not self._fields:
            self._teach("iterated over", "fan out with step.map(item=handle), or make the parameter Static[...]")
        return iter([self._field(name) for name in self._fields])

    def __bool__(self) -> NoReturn:
        self._teach("used as a condition", "write `with when(handle):` around the steps it should guard")

    def __len__(self) -> NoReturn:
        self._teach("measured with len()", "measure it inside a step")

    def __getitem__(self, key: object) -> NoReturn:
        self._teach("indexed", "index it inside a step, or return a NamedTuple to get named outputs")

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        self._teach("called", "call it inside a step")

    def __contains__(self, item: object) -> NoReturn:
        self._teach("searched with `in`", "search it inside a step")

    def __format__(self, spec: str) -> NoReturn:
        self._teach("put into a string", "build the string inside a step")

    def __eq__(self, other: object) -> bool:
        self._teach(
            "compared", "compare inside a step that returns bool, then `with when(...)`; or when(handle, is_=…)"
        )

    def _calculate(self, *_: object) -> NoReturn:
        self._teach("calculated with", "calculate inside a step")

    def _compare(self, other: object) -> NoReturn:
        self._teach("compared", "compare inside a step that returns bool, then `with when(...)`")

    __hash__ = object.__hash__
    __lt__ = __le__ = __gt__ = __ge__ = _compare
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _calculate
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _calculate
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __neg__ = __pos__ = __invert__ = __abs__ = _calculate
    __int__ = __float__ = __index__ = _calculate

    def __repr__(self) -> str:
        return f"<handle: {self._label}>"

    def _teach(self, what: str, instead: str) -> NoReturn:
        raise self._refuse(f"{self._label} is {what} while the pipeline is built, but it has no value yet", instead)

    def _refuse(self, problem: str, hint: str) -> DefinitionError:
        return DefinitionError(problem, hint=hint, where=caller_location())


def optional(value: T) -> T | None:
    """In a pipeline: accept None where the step behind this handle was skipped, instead of being skipped too."""
    if not isinstance(value, Handle):
        return value
    if not isinstance(value._argument, Output):
        raise DefinitionError(
            f"optional() takes what a step returned, not {value._label}",
            where=caller_location(),
        )
    argument = Output(value._argument.node, value._argument.field, optional=True)
    annotation = None if value._annotation is None else value._annotation | None
    return cast(T, Handle(value._recorder, argument, annotation, value._label, value._scope, dict(value._fields)))
