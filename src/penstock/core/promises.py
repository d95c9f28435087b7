"""What an annotation of plain types promises of a value, as classes for `isinstance`: shallow, and cheap to ask.

Only str, bytes, int, float, complex, bool, list, dict, tuple, set, frozenset and None are known, alone or in a union.
Whatever else an annotation says promises nothing here.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, NewType, Union, get_args, get_origin

_CLASSES: dict[Any, tuple[type, ...]] = {
    None: (NoneType,),
    NoneType: (NoneType,),
    bool: (bool,),
    int: (int,),
    float: (float, int),
    complex: (complex, float, int),
    str: (str,),
    bytes: (bytes, bytearray, memoryview),
    list: (list,),
    dict: (dict,),
    tuple: (tuple,),
    set: (set,),
    frozenset: (frozenset,),
}
# Of numbers that are no subclass of Python's: what the library that made them has registered them as.
_ABSTRACT = {int: "Integral", float: "Real", complex: "Complex"}


def promised(annotation: Any) -> tuple[type, ...]:
    """Classes of which a value of this annotation is one; empty where the annotation is not known here.

    >>> promised(list[str]), promised(int | None), promised(list[str] | object)
    ((<class 'list'>,), (<class 'int'>, <class 'NoneType'>), ())
    """
    if isinstance(annotation, NewType):
        return promised(annotation.__supertype__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return promised(get_args(annotation)[0])
    if origin in (Union, UnionType):
        members = [promised(member) for member in get_args(annotation)]
        return tuple(dict.fromkeys(each for member in members for each in member)) if all(members) else ()
    try:
        return _CLASSES.get(origin or annotation, ())
    except TypeError:  # an annotation that cannot be hashed
        return ()


def keeps(value: object, classes: tuple[type, ...]) -> bool:
    """Whether a value is of one of these classes, or a number of another library that stands for one.

    >>> keeps(3, promised(float)), keeps("a", promised(list[str])), keeps(None, promised(int))
    (True, False, False)
    """
    if isinstance(value, classes):
        return True
    kind: Any = type(value)
    if kind.__name__ == "ndarray" and getattr(value, "ndim", None) == 0:  # a number that numpy did not unwrap
        return keeps(value[()], classes)  # type: ignore[index]
    return _stands_for(kind, classes)


@lru_cache(maxsize=256)
def _stands_for(kind: type, classes: tuple[type, ...]) -> bool:
    if kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"):
        return bool in classes or int in classes
    numbers = sys.modules.get("numbers")  # who registers a class there has imported it
    return numbers is not None and any(
        issubclass(kind, getattr(numbers, _ABSTRACT[each])) for each in classes if each in _ABSTRACT
    )


def shown(annotation: Any) -> str:
    """
    >>> shown(int), shown(list[str] | None), shown(None)
    ('int', 'list[str] | None', 'None')
    """
    return annotation.__name__ if type(annotation) is type and annotation is not NoneType else _text(annotation)


def _text(annotation: Any) -> str:
    return "None" if annotation is NoneType else str(annotation).replace("typing.", "")
