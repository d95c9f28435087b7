"""Whether an output fits the next input. Flags what must fail, never what might work."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

_WIDER: dict[Any, tuple[Any, ...]] = {int: (float, complex), float: (complex,)}
_ABSTRACT: dict[Any, tuple[Any, ...]] = {list: (Sequence,), tuple: (Sequence,), dict: (Mapping,)}


def fits(produced: Any, expected: Any) -> bool:
    """Whether a value annotated `produced` may be passed where `expected` is annotated.

    >>> fits(int, float), fits(list[int], list[str]), fits(int, int | None), fits(str, int)
    (True, False, True, False)
    """
    if produced is expected:
        return True
    produced, expected = plain(produced), plain(expected)
    if expected is Any or expected is object or produced is Any or produced == expected:
        return True
    if isinstance(produced, TypeVar) or isinstance(expected, TypeVar):
        return True
    if _is_union(produced):
        return all(fits(each, expected) for each in get_args(produced))
    if _is_union(expected):
        return any(fits(produced, each) for each in get_args(expected))
    if get_origin(produced) is Literal:
        return all(value_fits(value, expected) for value in get_args(produced))
    if get_origin(expected) is Literal:
        return any(fits(produced, type(value)) for value in get_args(expected))
    return _classes_fit(produced, expected)


def _classes_fit(produced: Any, expected: Any) -> bool:
    have, want = get_origin(produced) or produced, get_origin(expected) or expected
    if not isinstance(have, type) or not isinstance(want, type):
        return True  # a form this check does not know: leave it to run time
    if want in _WIDER.get(have, ()):
        return True
    try:
        if not issubclass(have, want):
            # A narrower class may still arrive (a checked DataFrame where a plain one is promised).
            return issubclass(want, have) or bool(getattr(want, "_is_protocol", False))
    except TypeError:
        return True
    return _arguments_fit(get_args(produced), get_args(expected), have, want)


def _arguments_fit(have: tuple[Any, ...], want: tuple[Any, ...], have_class: type, want_class: type) -> bool:
    if not have or not want or have_class is tuple or want_class is tuple:
        return True
    known = have_class is want_class or any(want_class is each for each in _ABSTRACT.get(have_class, ()))
    if not known or len(have) != len(want):
        return True
    return all(fits(a, b) for a, b in zip(have, want, strict=True))


def value_fits(value: Any, expected: Any) -> bool:
    """Whether a constant may be passed where `expected` is annotated.

    >>> value_fits([1, 2], list[int]), value_fits(["a"], list[int]), value_fits(None, int)
    (True, False, False)
    """
    expected = plain(expected)
    if expected is Any or expected is object or isinstance(expected, TypeVar):
        return True
    if expected is None or expected is type(None):
        return value is None
    if _is_union(expected):
        return any(value_fits(value, each) for each in get_args(expected))
    origin, args = get_origin(expected), get_args(expected)
    if origin is Literal:
        return value in args
    want = origin or expected
    if not isinstance(want, type):
        return True
    if isinstance(value, bool) and want in (int, float):
        return False
    if any(want is wide for wide in _WIDER.get(type(value), ())):
        return True
    try:
        if not isinstance(value, want):
            return False
    except TypeError:
        return True  # a protocol that cannot be checked at run time
    if args and want is tuple and isinstance(value, tuple):
        return _tuple_fits(tuple(value), args)
    if args and isinstance(value, (list, set, frozenset)) and len(args) == 1:
        return all(value_fits(each, args[0]) for each in value)
    if args and isinstance(value, dict) and len(args) == 2:
        return all(value_fits(k, args[0]) and value_fits(v, args[1]) for k, v in value.items())
    return True


def _tuple_fits(value: tuple[Any, ...], args: tuple[Any, ...]) -> bool:
    if args[-1] is Ellipsis:
        return all(value_fits(each, args[0]) for each in value)
    return len(value) == len(args) and all(value_fits(each, kind) for each, kind in zip(value, args, strict=True))


def parts_of(value: Any, expected: Any) -> list[tuple[Any, Any]] | None:
    """Each part of a list, tuple or dict with the annotation of its place; None where the whole does not fit.

    >>> parts_of([1, 2], list[float]), parts_of([1], dict[str, int])
    ([(1, <class 'float'>), (2, <class 'float'>)], None)
    """
    parts = list(value.values()) if isinstance(value, dict) else list(value)
    expected = plain(expected)
    if _is_union(expected):
        return next((found for each in get_args(expected) if (found := parts_of(value, each)) is not None), None)
    want, args = get_origin(expected) or expected, get_args(expected)
    if not isinstance(want, type) or want is object:
        return [(part, Any) for part in parts]
    try:
        if not isinstance(value, want):
            return None
    except TypeError:
        return [(part, Any) for part in parts]  # a protocol that cannot be checked at run time
    if want is tuple and args and args[-1] is not Ellipsis:
        return list(zip(parts, args, strict=True)) if len(parts) == len(args) else None
    if isinstance(value, dict):
        return [(part, args[1] if len(args) == 2 else Any) for part in parts]
    return [(part, args[0] if args else Any) for part in parts]


def element_of(annotation: Any) -> Any:
    """What one element of a list annotation is; `None` marks an annotation that is no list at all.

    >>> element_of(list[int]), element_of(int) is None
    (<class 'int'>, True)
    """
    annotation = plain(annotation)
    if annotation is Any or isinstance(annotation, TypeVar):
        return Any
    if _is_union(annotation):
        elements = [each for member in get_args(annotation) if (each := element_of(member)) is not None]
        return None if not elements else Any if len(elements) > 1 else elements[0]
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if not isinstance(origin, type):
        return Any
    if issubclass(origin, tuple):
        return args[0] if len(args) == 2 and args[1] is Ellipsis else Union[args] if args else Any  # noqa: UP007 - made at run time
    if issubclass(origin, Sequence) and not issubclass(origin, (str, bytes)):
        return args[0] if args else Any
    if origin is object or (origin.__module__ == "collections.abc" and issubclass(list, origin)):
        return args[0] if args else Any  # Iterable, Collection: it may well be a list
    return None


def plain(annotation: Any) -> Any:
    """The annotation without Annotated and NewType around it."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return plain(annotation.__supertype__)
    return type(None) if annotation is None else annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)
