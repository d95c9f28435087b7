"""Looking into annotations by names alone, so that saying "not mine" imports nothing."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """What the annotation allows: the members of a union, each without its `Annotated`.

    >>> alternatives(Annotated[int, "metres"] | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(each for member in get_args(annotation) for each in alternatives(member))
    return (annotation,)


def remarks(annotation: Any) -> tuple[Any, ...]:
    """Everything `Annotated` attaches, anywhere in a union.

    >>> remarks(Annotated[int, "metres"] | None)
    ('metres',)
    """
    if get_origin(annotation) is Annotated:
        inner, *attached = get_args(annotation)
        return (*remarks(inner), *attached)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(each for member in get_args(annotation) for each in remarks(member))
    return ()
