"""A function's parameters and annotations, read from its code object: `inspect` would cost 10 ms of every start."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, SimpleNamespace
from typing import Any

from ..core.errors import DefinitionError, did_you_mean
from ..core.location import Location, location_of

_ASYNC = 0x80
_GENERATOR = 0x20 | 0x200
_VARIADIC = 0x04 | 0x08


class Signature:
    """Parameter names in order, defaults, and resolved annotations.

    `problems` is what is wrong with the function itself: an annotation that cannot be resolved, `*args`, `yield`.
    `fields` are the named outputs where `result_type`, the return annotation, is a NamedTuple or dataclass.
    """

    __slots__ = (
        "annotations",
        "defaults",
        "fields",
        "is_async",
        "is_lazy",
        "name",
        "names",
        "positional",
        "problems",
        "result_type",
        "returns",
        "where",
    )

    def __init__(self, fn: Callable[..., Any]) -> None:
        inner = unwrapped(fn)
        code = inner.__code__
        self.name = fn.__name__
        self.where: Location = location_of(code)
        total = code.co_argcount + code.co_kwonlyargcount
        self.names: tuple[str, ...] = code.co_varnames[:total]
        self.positional: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        defaults = inner.__defaults__ or ()
        self.defaults: dict[str, Any] = dict(
            zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
        ) | (inner.__kwdefaults__ or {})
        self.is_async = bool(code.co_flags & _ASYNC)
        self.is_lazy = bool(code.co_flags & (_ASYNC | _GENERATOR))  # a call of it runs nothing yet
        hints, self.problems = resolve_hints(inner, self.where)
        self.problems += _unusable(self.name, code, self.where)
        self.returns: Any = hints.pop("return", Any)
        self.annotations: dict[str, Any] = {name: hints.get(name, Any) for name in self.names}
        self.result_type: type | None = None
        self.fields = self._named_outputs()

    def _named_outputs(self) -> dict[str, Any] | None:
        inner = (
            typing.get_args(self.returns)[0] if typing.get_origin(self.returns) is typing.Annotated else self.returns
        )
        try:
            fields = fields_of(inner)
        except DefinitionError as error:
            self.problems.append(DefinitionError(error.problem, hint=error.hint, where=self.where))
            return None
        self.result_type = inner if fields else None
        return fields

    def bind(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, where: Location | None, partial: bool = False
    ) -> tuple[dict[str, Any], list[DefinitionError]]:
        """Arguments by name, and everything that is wrong with the call."""
        problems = []
        bound = dict(zip(self.positional, args, strict=False))
        if len(args) > len(self.positional):
            problems.append(
                DefinitionError(
                    f"'{self.name}' takes {len(self.positional)} positional arguments, {len(args)} were given",
                    hint=f"its parameters: {', '.join(self.names) or 'none'}",
                    where=where,
                )
            )
        for name, value in kwargs.items():
            if name not in self.names:
                problems.append(
                    DefinitionError(
                        f"'{self.name}' has no parameter '{name}'",
                        hint=did_you_mean(name, self.names) if self.names else "it takes no arguments",
                        where=where,
                    )
                )
            elif name in bound:
                problems.append(DefinitionError(f"'{self.name}' got '{name}' twice", where=where))
            else:
                bound[name] = value
        if not partial:
            problems += self.missing(bound, where)
        return bound, problems

    def missing(self, bound: Mapping[str, Any], where: Location | None) -> list[DefinitionError]:
        lost = [name for name in self.names if name not in bound and name not in self.defaults]
        if not lost:
            return []
        shown = ", ".join(f"'{name}'" for name in lost)
        return [
            DefinitionError(
                f"'{self.name}' is missing {shown}",
                hint=f"defined at {self.where} as {self.name}({', '.join(self.names)})",
                where=where,
            )
        ]


def _unusable(name: str, code: CodeType, where: Location) -> list[DefinitionError]:
    """What makes a function no step and no pipeline, whatever its annotations."""
    problems = []
    if code.co_flags & _VARIADIC:
        problems.append(
            DefinitionError(
                f"'{name}' takes *args or **kwargs, so its inputs have no names",
                hint="give every input a named parameter; take a list for many values",
                where=where,
            )
        )
    if code.co_posonlyargcount:
        problems.append(
            DefinitionError(
                f"'{name}' has positional-only parameters, but inputs are given by name",
                hint="remove the `/` from its parameters",
                where=where,
            )
        )
    if code.co_flags & _GENERATOR:
        problems.append(
            DefinitionError(f"'{name}' is a generator", hint="return a list instead of using `yield`", where=where)
        )
    return problems


def unwrapped(fn: Any) -> Any:
    """The function under decorators that keep `__wrapped__`: its signature and its place count."""
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    return fn


def resolve_hints(owner: Any, where: Location | None) -> tuple[dict[str, Any], list[DefinitionError]]:
    """Annotations as objects. One that cannot be resolved is a problem, never a silent Any."""
    raw: dict[str, Any] = getattr(owner, "__annotations__", {})
    if not any(isinstance(value, str) for value in raw.values()) and not _nested_text(raw.values()):
        return {name: type(None) if value is None else value for name, value in raw.items()}, []
    hints: dict[str, Any] = {}
    problems: list[DefinitionError] = []
    for name, value in raw.items():
        try:
            hints[name] = _resolved(name, value, owner.__globals__)
        except Exception as error:  # noqa: BLE001 - whatever the user's annotation raises is the message
            what = "return annotation" if name == "return" else f"annotation of '{name}'"
            problems.append(
                DefinitionError(
                    f"the {what} of '{owner.__name__}' cannot be resolved: {_shown_text(value)} ({error})",
                    hint="import the name at module level (not only under TYPE_CHECKING), or correct it",
                    where=where,
                )
            )
    return hints, problems


def _resolved(name: str, value: Any, scope: dict[str, Any]) -> Any:
    if not isinstance(value, str) and not _nested_text([value]):
        return type(None) if value is None else value
    holder: Any = SimpleNamespace(__annotations__={name: value})
    return typing.get_type_hints(holder, globalns=scope, include_extras=True)[name]


def _shown_text(annotation: Any) -> str:
    return f"'{annotation}'" if isinstance(annotation, str) else shown_type(annotation)


def _nested_text(annotations: Any) -> bool:
    return any(isinstance(each, (str, typing.ForwardRef)) for value in annotations for each in _walk(value))


def _walk(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]  # what follows is anything: a text there is no annotation
    if typing.get_origin(annotation) is typing.Literal:
        return
    yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _walk(each)


def fields_of(annotation: Any) -> dict[str, Any] | None:
    """Field names and annotations of a NamedTuple or dataclass; None for every other annotation.

    A dataclass that cannot be made again from its fields alone (`InitVar`, `field(init=False)`) has no named outputs:
    it is one value.
    """
    if not isinstance(annotation, type):
        return None
    names = _dataclass_names(annotation)
    if names is None and issubclass(annotation, tuple):
        names = getattr(annotation, "_fields", None)
    if not names:
        return None
    try:
        hints = typing.get_type_hints(annotation, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise DefinitionError(
            f"the fields of '{annotation.__qualname__}' cannot be resolved: {error}",
            hint="import the names at module level (not only under TYPE_CHECKING), or correct them",
        ) from None
    return {name: hints.get(name, Any) for name in names}


def _dataclass_names(kind: type) -> list[str] | None:
    declared = getattr(kind, "__dataclass_fields__", None)
    if declared is None:
        return None
    from dataclasses import fields  # who has made a dataclass has loaded it

    own = fields(kind)
    rebuilt = all(field.init for field in own) and not any(
        each._field_type.name == "_FIELD_INITVAR" for each in declared.values()
    )
    return [field.name for field in own] if rebuilt else []


def shown_type(annotation: Any) -> str:
    """An annotation as the user would write it.

    >>> shown_type(list[int]), shown_type(int | None), shown_type(None)
    ('list[int]', 'int | None', 'None')
    """
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Any:
        return "Any"
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")
