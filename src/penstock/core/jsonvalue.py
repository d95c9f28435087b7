"""Exact JSON for Python values: `loads(dumps(x))` equals x, type by type and in the same order.

Plain values (str, int, float, bool, None, list, dict with text keys) are written as plain JSON in their own order: a
dict's order is part of how it behaves, so keys are not sorted, and the digest of a value is the digest of this text.
Whatever JSON would change is tagged: `{"$": "tuple", "v": [1, 2]}`. A dict that has the key "$" itself is tagged too,
so a tag can never be mistaken for data. Sets are written sorted by their text.

A subclass of a plain type (numpy.float64 is a float) is refused, not converted. Classes (dataclass, NamedTuple, Enum,
msgspec Struct) travel as "module:qualname" and are found in the annotation or by importing that module; no `__init__`
of theirs is run (a Struct's `__post_init__` is). Two places that share one object get two equal ones back.
"""

from __future__ import annotations

import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from importlib import import_module
from math import isfinite
from types import NoneType
from typing import Any, get_args

import msgspec

from .errors import CodecError

Foreign = Callable[[Any], "tuple[str, Any] | None"]
"""Says (tag, plain JSON) for a value this module does not know, or None. `Restore` is its way back.

It is asked about a Path as well, which otherwise is written as its name.
"""
Restore = Callable[[str, Any], Any]

TAG = "$"
_LOW, _HIGH = -(2**63), 2**64 - 1  # what the JSON reader keeps as int
_ATOMS = frozenset({str, bool, NoneType})
_CONCRETE = (str, int, float, complex, bytes, bytearray, list, dict, set, frozenset, BaseException)

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


class _RefusedError(Exception):
    """Internal: why a value has no exact JSON; `dumps` turns it into CodecError with the place in the value."""


def dumps(value: Any, *, foreign: Foreign | None = None) -> str:
    """The exact JSON text of a value.

    >>> dumps({"depth": 3, "bounds": (1, 2)})
    '{"depth":3,"bounds":{"$":"tuple","v":[1,2]}}'

    Raises:  CodecError if a part of it cannot be written exactly.
    """
    try:
        return _encode_json(_tag(value, foreign)).decode()
    except _RefusedError as refused:
        raise CodecError(
            f"a {_shown(type(value))} cannot be stored as exact JSON: {refused}",
            hint="return plain values, dataclasses, tables, arrays or models; or convert this part first",
        ) from None
    except RecursionError:
        raise CodecError(
            f"a {_shown(type(value))} contains itself or is nested too deeply for JSON",
            hint="break the cycle, or return the parts as separate outputs",
        ) from None
    except UnicodeEncodeError:
        raise CodecError(
            f"a {_shown(type(value))} holds text that is not valid Unicode (a lone surrogate)",
            hint='decode the text with errors="replace", or return bytes',
        ) from None


def loads(text: str, annotation: Any = Any, *, restore: Restore | None = None) -> Any:
    """The value that `dumps` was given.

    >>> loads('{"$":"tuple","v":[1,2]}')
    (1, 2)

    Raises:  CodecError if the text is not such JSON or names a class that cannot be found.
    """
    try:
        tree = _decode_json(text)
    except msgspec.DecodeError as error:
        raise CodecError(f"stored JSON cannot be read: {error}", hint="run the step again with --no-cache") from error
    if '"$"' not in text:
        return tree
    return _Untag(annotation, restore).value(tree)


def accepts(value: Any) -> bool:
    """Whether the type of the value itself (not yet its parts) is one that this module writes."""
    kind = type(value)
    return (
        kind in _WRITE or kind in _ATOMS or f"{kind.__module__}.{kind.__qualname__}" in _WRITE_RARE or _is_record(kind)
    )


# -- writing ----------------------------------------------------------------------------------------------------------


def _tag(value: Any, foreign: Foreign | None) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is int:
        return value if _LOW <= value <= _HIGH else {TAG: "int", "v": hex(value)}  # decimal would be quadratic
    if kind is float:
        return value if isfinite(value) else {TAG: "float", "v": _odd_float(value)}
    if kind is list:
        return _tag_list(value, foreign)
    if kind is dict:
        return _tag_dict(value, foreign)
    write = _WRITE.get(kind) or _WRITE_RARE.get(f"{kind.__module__}.{kind.__qualname__}")
    if write is not None:
        name, content = write(value, foreign)
        return {TAG: name, "v": content}
    if foreign is not None and (told := foreign(value)) is not None:
        return {TAG: told[0], "v": told[1]}
    return _tag_record(value, kind, foreign)


def _tag_list(value: list[Any], foreign: Foreign | None) -> Any:
    kinds = set(map(type, value))
    if kinds <= _ATOMS:
        return value
    if kinds == {int} and min(value) >= _LOW and max(value) <= _HIGH:
        return value
    if kinds == {float} and isfinite(sum(value)):  # a sum that overflows only takes the longer way
        return value
    return [_tag(each, foreign) for each in value]


def _tag_dict(value: dict[Any, Any], foreign: Foreign | None) -> Any:
    if TAG not in value and (not value or set(map(type, value)) == {str}):
        return {key: _tag(each, foreign) for key, each in value.items()}
    return {TAG: "dict", "v": _pairs(value, foreign)}


def _pairs(value: Any, foreign: Foreign | None) -> list[Any]:
    return [[_tag(key, foreign), _tag(each, foreign)] for key, each in value.items()]


def _odd_float(value: float) -> str:
    if value in (float("inf"), float("-inf")):
        return str(value)
    from struct import pack

    bits = pack(">d", value).hex()
    return "nan" if bits == "7ff8000000000000" else bits


def _tag_each(name: str) -> Callable[[Any, Foreign | None], tuple[str, Any]]:
    return lambda value, foreign: (name, [_tag(each, foreign) for each in value])


def _tag_set(name: str) -> Callable[[Any, Foreign | None], tuple[str, Any]]:
    return lambda value, foreign: (name, sorted((_tag(each, foreign) for each in value), key=_encode_json))


def _tag_text(name: str, text: Callable[[Any], Any]) -> Callable[[Any, Foreign | None], tuple[str, Any]]:
    return lambda value, foreign: (name, text(value))


def _base64(value: bytes) -> str:
    return b2a_base64(value, newline=False).decode()


def _write_zone(zone: Any) -> Any:
    if zone is None:
        return None
    name = f"{type(zone).__module__}.{type(zone).__qualname__}"
    if name == "datetime.timezone":
        offset, *rest = zone.__getinitargs__()
        return [[offset.days, offset.seconds, offset.microseconds], *rest]
    if name == "zoneinfo.ZoneInfo" and zone.key is not None:
        return zone.key
    raise _RefusedError(f"the time zone {zone!r} is a {name}; use datetime.UTC or zoneinfo.ZoneInfo")


def _write_datetime(value: Any, foreign: Foreign | None) -> tuple[str, Any]:
    return "datetime", [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _write_zone(value.tzinfo)]


def _write_time(value: Any, foreign: Foreign | None) -> tuple[str, Any]:
    return "time", [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _write_zone(value.tzinfo)]


def _write_path(value: Any, foreign: Foreign | None) -> tuple[str, Any]:
    if foreign is not None and (told := foreign(value)) is not None:
        return told
    return "path", [type(value).__name__, str(value)]


_WRITE: dict[type, Callable[[Any, Foreign | None], tuple[str, Any]]] = {
    # int, float, list and dict have their own way in `_tag`; they are here for `accepts`
    int: _tag_text("int", hex),
    float: _tag_text("float", _odd_float),
    list: _tag_each("list"),
    dict: lambda value, foreign: ("dict", _pairs(value, foreign)),
    tuple: _tag_each("tuple"),
    set: _tag_set("set"),
    frozenset: _tag_set("frozenset"),
    bytes: _tag_text("bytes", _base64),
    bytearray: _tag_text("bytearray", _base64),
    complex: lambda value, foreign: ("complex", [_tag(value.real, None), _tag(value.imag, None)]),
    range: _tag_text("range", lambda value: [value.start, value.stop, value.step]),
}
# By name, so that the modules need not be imported to know that a value is not theirs.
_WRITE_RARE: dict[str, Callable[[Any, Foreign | None], tuple[str, Any]]] = {
    "datetime.datetime": _write_datetime,
    "datetime.date": _tag_text("date", lambda value: value.isoformat()),
    "datetime.time": _write_time,
    "datetime.timedelta": _tag_text("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    "decimal.Decimal": _tag_text("decimal", str),
    "fractions.Fraction": _tag_text("fraction", str),
    "uuid.UUID": _tag_text("uuid", str),
    "pathlib.PosixPath": _write_path,
    "pathlib.WindowsPath": _write_path,
    "pathlib.PurePosixPath": _write_path,
    "pathlib.PureWindowsPath": _write_path,
    "collections.OrderedDict": lambda value, foreign: ("ordereddict", _pairs(value, foreign)),
    "collections.Counter": lambda value, foreign: ("counter", _pairs(value, foreign)),
    "collections.deque": lambda value, foreign: ("deque", [value.maxlen, [_tag(each, foreign) for each in value]]),
}


# -- classes ----------------------------------------------------------------------------------------------------------


def _is_record(kind: type) -> bool:
    return _record_kind(kind) is not None


def _record_kind(kind: type) -> str | None:
    if isinstance(kind, type(msgspec.Struct)):
        return "struct"
    if issubclass(kind, tuple):
        named = isinstance(getattr(kind, "_fields", None), tuple) and hasattr(kind, "_make")
        return "namedtuple" if named else None
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum):
        return "enum"
    if hasattr(kind, "__dataclass_fields__") and not issubclass(kind, _CONCRETE):
        return "dataclass"
    return None


def _tag_record(value: Any, kind: type, foreign: Foreign | None) -> Any:
    record = _record_kind(kind)
    if record is None:
        raise _RefusedError(f"it holds a {_shown(kind)}")
    name = _names.get(kind) or _name_of(kind)
    if record == "enum":
        member = value.name
        if member is not None and kind.__dict__.get("_member_map_", {}).get(member) is value:
            return {TAG: "enum", "c": name, "v": member}
        return {TAG: "flag", "c": name, "v": _tag(value.value, foreign)}
    try:
        fields = {field: _tag(getattr(value, field), foreign) for field in _fields_of(kind, record)}
    except AttributeError as error:
        raise _RefusedError(f"a {_shown(kind)} lacks a field ({error})") from None
    extra = [key for key in getattr(value, "__dict__", ()) if key not in fields and key != "__orig_class__"]
    if extra:
        raise _RefusedError(f"a {_shown(kind)} carries {extra[0]!r}, which is not one of its fields")
    return {TAG: record, "c": name, "v": fields}


def _fields_of(kind: Any, record: str) -> tuple[str, ...]:
    if record == "struct":
        return tuple(kind.__struct_fields__)
    if record == "namedtuple":
        return tuple(kind._fields)
    # Pseudo-fields (ClassVar, InitVar) are in __dataclass_fields__ too.
    return tuple(name for name, field in kind.__dataclass_fields__.items() if field._field_type.name == "_FIELD")


_names: dict[type, str] = {}


def _name_of(kind: type) -> str:
    module = kind.__module__
    found = _attribute(sys.modules.get(module), kind.__qualname__)
    if found is not kind:
        raise _RefusedError(
            f"the class {_shown(kind)} cannot be found again from another process; define it at the top of a module"
        )
    name = f"{module}:{kind.__qualname__}"
    _names[kind] = name
    return name


def _attribute(module: Any, qualname: str) -> Any:
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _shown(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# -- reading ----------------------------------------------------------------------------------------------------------


class _Untag:
    """One walk back from tagged JSON to values."""

    def __init__(self, annotation: Any, restore: Restore | None) -> None:
        self.annotation = annotation
        self.restore = restore
        self.known: dict[str, type] | None = None

    def value(self, tree: Any) -> Any:
        kind = type(tree)
        if kind is list:
            return [self.value(each) for each in tree]
        if kind is not dict:
            return tree
        name = tree.get(TAG)
        if name is None:
            return {key: self.value(each) for key, each in tree.items()}
        try:
            return self.tagged(name, tree)
        except (ValueError, TypeError, KeyError, ArithmeticError, OverflowError) as error:
            raise CodecError(f"stored JSON has a {name!r} that cannot be read: {error}") from error

    def tagged(self, name: str, tree: dict[str, Any]) -> Any:
        if "c" in tree:
            return self.record(name, tree["c"], tree["v"])
        read = _READ.get(name)
        if read is not None:
            return read(self, tree["v"])
        if self.restore is not None:
            return self.restore(name, tree["v"])
        raise CodecError(
            f"stored JSON holds a {name!r}, which this penstock does not know",
            hint="it was written by a newer penstock, or is part of an artifact: load it through the artifact store",
        )

    def pairs(self, content: list[Any]) -> list[tuple[Any, Any]]:
        return [(self.value(key), self.value(each)) for key, each in content]

    def record(self, record: str, name: str, content: Any) -> Any:
        kind: Any = self.resolve(name)
        if _record_kind(kind) != ("enum" if record == "flag" else record):
            raise CodecError(
                f"{name} was stored as a {record} and is one no more", hint="run the step again with --no-cache"
            )
        if record == "enum":
            return kind[content]
        if record == "flag":
            return kind(self.value(content))
        fields = {key: self.value(each) for key, each in content.items()}
        expected = _fields_of(kind, record)
        if set(fields) != set(expected):
            changed = sorted(set(fields) ^ set(expected))
            raise CodecError(
                f"{name} has changed since this value was stored: {', '.join(changed)}",
                hint="run the step again with --no-cache",
            )
        if record == "namedtuple":
            return tuple.__new__(kind, [fields[each] for each in expected])
        if record == "struct":
            made, put = kind(**fields), msgspec.structs.force_setattr  # a __post_init__ may have changed a field
        else:
            made, put = kind.__new__(kind), object.__setattr__
        for key, each in fields.items():
            put(made, key, each)
        return made

    def resolve(self, name: str) -> type:
        if self.known is None:
            self.known = {}
            _collect(self.annotation, self.known)
        module_name, _, qualname = name.partition(":")
        found = self.known.get(qualname)
        if found is not None and found.__module__ == module_name:
            return found
        try:
            found = _attribute(sys.modules.get(module_name) or import_module(module_name), qualname)
        except ImportError as error:
            raise CodecError(
                f"the class {name} of a stored value cannot be imported: {error}",
                hint="run from the project that made the value, or install the package",
            ) from error
        if not isinstance(found, type):
            raise CodecError(f"the class {name} of a stored value is gone", hint="run the step again with --no-cache")
        return found


def _collect(annotation: Any, into: dict[str, type]) -> None:
    if isinstance(annotation, type):
        into.setdefault(annotation.__qualname__, annotation)
    for each in get_args(annotation):
        _collect(each, into)


def _read_float(content: str) -> float:
    if content in ("nan", "inf", "-inf"):
        return float(content)
    from struct import unpack

    value: float = unpack(">d", bytes.fromhex(content))[0]
    return value


def _read_zone(content: Any) -> Any:
    if content is None:
        return None
    if isinstance(content, str):
        from zoneinfo import ZoneInfo

        return ZoneInfo(content)
    from datetime import timedelta, timezone

    return timezone(timedelta(*content[0]), *content[1:])


def _read_instant(name: str) -> Callable[[_Untag, Any], Any]:
    def read(walk: _Untag, content: list[Any]) -> Any:
        import datetime

        made = getattr(datetime, name).fromisoformat(content[0])
        return made.replace(tzinfo=_read_zone(content[2]), fold=content[1])

    return read


def _read_with(module: str, name: str, *, spread: bool = False) -> Callable[[_Untag, Any], Any]:
    def read(walk: _Untag, content: Any) -> Any:
        kind = getattr(import_module(module), name)
        return kind(*content) if spread else kind(content)

    return read


def _read_date(walk: _Untag, content: str) -> Any:
    from datetime import date

    return date.fromisoformat(content)


def _read_path(walk: _Untag, content: list[str]) -> Any:
    import pathlib

    name, text = content
    if name not in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        raise ValueError(f"{name} is not a path class")
    return getattr(pathlib, name)(text)


def _read_pairs(name: str) -> Callable[[_Untag, Any], Any]:
    def read(walk: _Untag, content: list[Any]) -> Any:
        import collections

        made = getattr(collections, name)()
        for key, each in walk.pairs(content):
            made[key] = each
        return made

    return read


def _read_deque(walk: _Untag, content: list[Any]) -> Any:
    from collections import deque

    return deque(walk.value(content[1]), content[0])


_READ: dict[str, Callable[[_Untag, Any], Any]] = {
    "int": lambda walk, content: int(content, 16),
    "float": lambda walk, content: _read_float(content),
    "dict": lambda walk, content: dict(walk.pairs(content)),
    "tuple": lambda walk, content: tuple(walk.value(content)),
    "set": lambda walk, content: set(walk.value(content)),
    "frozenset": lambda walk, content: frozenset(walk.value(content)),
    "bytes": lambda walk, content: a2b_base64(content),
    "bytearray": lambda walk, content: bytearray(a2b_base64(content)),
    "complex": lambda walk, content: complex(*walk.value(content)),
    "range": lambda walk, content: range(*content),
    "datetime": _read_instant("datetime"),
    "time": _read_instant("time"),
    "date": _read_date,
    "timedelta": _read_with("datetime", "timedelta", spread=True),
    "decimal": _read_with("decimal", "Decimal"),
    "fraction": _read_with("fractions", "Fraction"),
    "uuid": _read_with("uuid", "UUID"),
    "path": _read_path,
    "ordereddict": _read_pairs("OrderedDict"),
    "counter": _read_pairs("Counter"),
    "deque": _read_deque,
}
