"""A function's parameters and annotations, read from its code object: `inspect` would cost 10 ms of every start."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..core.errors import DefinitionError, did_you_mean
from ..core.location import Location, location_of

MISSING: Any = object()
_ASYNC = 0x80
_VARIADIC = 0x04 | 0x08


class Signature:
    """Parameter names in order, which of them are keyword-only, defaults, and resolved annotations."""

    __slots__ = (
        "annotations",
        "defaults",
        "is_async",
        "keyword_only",
        "name",
        "names",
        "positional",
        "returns",
        "unresolved",
        "where",
    )

    def __init__(self, fn: Callable[..., Any]) -> None:
        inner = unwrapped(fn)
        code = inner.__code__
        self.name = fn.__name__
        self.where: Location = location_of(code)
        if code.co_flags & _VARIADIC:
            raise DefinitionError(
                f"'{fn.__name__}' takes *args or **kwargs, so its inputs have no names",
                hint="give every input a named parameter; take a list for many values",
                where=self.where,
            )
        total = code.co_argcount + code.co_kwonlyargcount
        self.names: tuple[str, ...] = code.co_varnames[:total]
        self.positional: tuple[str, ...] = code.co_varnames[: code.co_argcount]
        self.keyword_only = frozenset(code.co_varnames[code.co_argcount : total])
        defaults = inner.__defaults__ or ()
        self.defaults: dict[str, Any] = dict(
            zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
        ) | (inner.__kwdefaults__ or {})
        self.is_async = bool(code.co_flags & _ASYNC)
        hints, self.unresolved = resolve_hints(inner, self.where)
        self.returns: Any = hints.pop("return", Any)
        self.annotations: dict[str, Any] = {name: hints.get(name, Any) for name in self.names}

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
    try:
        return typing.get_type_hints(owner, include_extras=True), []
    except NameError as error:
        return _one_by_one(owner, raw, where, str(error))
    except (TypeError, SyntaxError, AttributeError) as error:
        return _one_by_one(owner, raw, where, f"{type(error).__name__}: {error}")


def _nested_text(annotations: Any) -> bool:
    return any(isinstance(each, typing.ForwardRef) for value in annotations for each in _walk(value))


def _walk(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _walk(each)


def _one_by_one(
    owner: Any, raw: dict[str, Any], where: Location | None, reason: str
) -> tuple[dict[str, Any], list[DefinitionError]]:
    module = sys.modules.get(owner.__module__)
    scope = dict(vars(typing)) | dict(getattr(module, "__dict__", {})) | getattr(owner, "__globals__", {})
    hints: dict[str, Any] = {}
    problems: list[DefinitionError] = []
    for name, value in raw.items():
        try:
            hints[name] = eval(value, scope) if isinstance(value, str) else value
        except Exception as error:  # noqa: BLE001 - whatever the user's annotation raises is the message
            what = "return annotation" if name == "return" else f"annotation of '{name}'"
            problems.append(
                DefinitionError(
                    f"the {what} of '{owner.__name__}' cannot be resolved: {value!r} ({error})",
                    hint="import the name at module level (not only under TYPE_CHECKING), or correct it",
                    where=where,
                )
            )
    if not problems:
        problems.append(
            DefinitionError(f"the annotations of '{owner.__name__}' cannot be resolved: {reason}", where=where)
        )
    return hints, problems


def fields_of(annotation: Any) -> dict[str, Any] | None:
    """Field names and annotations of a NamedTuple or dataclass; None for every other annotation."""
    if not isinstance(annotation, type):
        return None
    names = getattr(annotation, "__dataclass_fields__", None)
    if names is None and issubclass(annotation, tuple):
        names = getattr(annotation, "_fields", None)
    if not names:
        return None
    hints = typing.get_type_hints(annotation, include_extras=True)
    return {name: hints.get(name, Any) for name in names}


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
