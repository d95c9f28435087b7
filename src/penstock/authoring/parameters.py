"""Texts of the command line, and plain values of a parameter file, as values of a parameter's annotation."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from ..core.errors import ParameterError, did_you_mean
from ..core.units import duration
from .signature import fields_of, shown_type
from .typecheck import plain, value_fits

_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")
_MISFIT: Any = object()  # what a reader gives for a text that is none of its values


def parse_text(name: str, text: str, annotation: Any) -> Any:
    """The value that a text stands for. Raises ParameterError naming the flag, the text and what is expected.

    >>> parse_text("--depths", "4,6", list[int]), parse_text("--rate", "none", float | None)
    ([4, 6], None)
    >>> parse_text("--options", '{"a": 1}', dict[str, int])
    {'a': 1}
    """
    value = _read(text, annotation)
    if value is _MISFIT:
        raise ParameterError(
            f"{name} is {text!r}, but {expected(annotation)} is expected", hint=_hint(text, annotation)
        )
    return value


def fit_value(name: str, value: Any, annotation: Any) -> Any:
    """A value from a YAML, TOML or JSON file as the annotation wants it: texts are read, lists go element by element.

    >>> fit_value("rate", 1, float), fit_value("day", "2026-01-31", str)
    (1, '2026-01-31')
    """
    found = _fit(value, annotation)
    if found is _MISFIT:
        raise ParameterError(
            f"{name} is {value!r}, but {expected(annotation)} is expected",
            hint=_hint(value, annotation) if isinstance(value, str) else None,
        )
    return found


def choices(annotation: Any) -> list[str] | None:
    """The texts that a Literal or an Enum takes; None for every other annotation."""
    annotation = plain(annotation)
    if get_origin(annotation) is Literal:
        return [str(each) for each in get_args(annotation)]
    if _is_enum(annotation):
        return [str(name) for name in annotation.__members__]
    return None


def is_flag(annotation: Any) -> bool:
    """Whether it is a bool, given as --name or --no-name."""
    return plain(annotation) is bool


def expected(annotation: Any) -> str:
    """What is expected, in words.

    >>> expected(int), expected(list[int]), expected(Literal["a", "b"])
    ('an int', 'a list[int]', "one of 'a', 'b'")
    """
    named = choices(annotation)
    if named is not None:
        return "one of " + ", ".join(f"'{each}'" for each in named)
    shown = shown_type(plain(annotation)).removeprefix("pathlib.").removeprefix("datetime.")
    return ("an " if shown[0] in "aeiouAEIOU" and shown != "UUID" else "a ") + shown


# -- texts -----------------------------------------------------------------------------------------------------------


def _read(text: str, annotation: Any) -> Any:
    annotation = plain(annotation)
    if annotation in (Any, object) or isinstance(annotation, TypeVar):
        value = _json(text)
        return text if value is _MISFIT else value
    if get_origin(annotation) in (Union, types.UnionType):
        return _read_union(text, get_args(annotation))
    if annotation is type(None):
        return None if text.lower() in _NONE else _MISFIT
    if get_origin(annotation) is Literal:
        return next((each for each in get_args(annotation) if str(each) == text), _MISFIT)
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type):
        return _MISFIT
    if (reader := _READERS.get(f"{kind.__module__}.{kind.__qualname__}")) is not None:
        return _attempted(reader, text)
    if _is_enum(kind):
        return _read_enum(text, kind)
    if _is_collection(kind):
        return _read_many(text, annotation, kind)
    value = _json(text)
    return _MISFIT if value is _MISFIT else _fit(value, annotation)


def _read_union(text: str, members: tuple[Any, ...]) -> Any:
    """None first, text last, and what is narrow before what is wide."""
    order = [type(None), bool, int, float]
    ranked = sorted(members, key=lambda each: order.index(each) if each in order else 9 if each is str else 5)
    for each in ranked:
        if each is bool and int in members and text in ("0", "1"):
            continue
        value = _read(text, each)
        if value is not _MISFIT:
            return value
    return _MISFIT


def _read_many(text: str, annotation: Any, kind: type) -> Any:
    stripped = text.strip()
    if stripped.startswith("["):
        value = _json(stripped)
        return _MISFIT if value is _MISFIT else _fit(value, annotation)
    parts = [each.strip() for each in stripped.split(",")] if stripped else []
    return _gathered((_read(part, each) for part, each in _paired(parts, annotation)), len(parts), annotation, kind)


def _read_enum(text: str, kind: Any) -> Any:
    if text in kind.__members__:
        return kind[text]
    return next((each for each in kind if str(each.value) == text), _MISFIT)


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return _MISFIT


def _attempted(reader: Callable[[str], Any], text: str) -> Any:
    try:
        return reader(text)
    except (ValueError, ArithmeticError):
        return _MISFIT


def _bool(text: str) -> Any:
    word = text.lower()
    return True if word in _TRUE else False if word in _FALSE else _MISFIT


def _datetime(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


def _date(text: str) -> Any:
    from datetime import date

    return date.fromisoformat(text)


def _time(text: str) -> Any:
    from datetime import time

    return time.fromisoformat(text)


def _path(text: str) -> Any:
    from pathlib import Path

    return Path(text).expanduser() if text else _MISFIT


def _decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


_READERS: dict[str, Callable[[str], Any]] = {
    "builtins.str": str,
    "builtins.int": int,
    "builtins.float": float,
    "builtins.complex": complex,
    "builtins.bool": _bool,
    "builtins.bytes": str.encode,
    "datetime.datetime": _datetime,
    "datetime.date": _date,
    "datetime.time": _time,
    "datetime.timedelta": duration,
    "pathlib.Path": _path,
    "pathlib.PosixPath": _path,
    "os.PathLike": _path,
    "decimal.Decimal": _decimal,
    "uuid.UUID": _uuid,
}


# -- values of files -------------------------------------------------------------------------------------------------


def _fit(value: Any, annotation: Any) -> Any:
    annotation = plain(annotation)
    if annotation in (Any, object) or isinstance(annotation, TypeVar):
        return value
    if get_origin(annotation) in (Union, types.UnionType):
        members = get_args(annotation)
        exact = [each for each in members if type(value) is (get_origin(plain(each)) or plain(each))]
        return next((found for each in [*exact, *members] if (found := _fit(value, each)) is not _MISFIT), _MISFIT)
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and _is_collection(kind) and isinstance(value, (list, tuple)):
        pairs = _paired(value, annotation)
        return _gathered((_fit(each, wanted) for each, wanted in pairs), len(value), annotation, kind)
    if isinstance(kind, type) and issubclass(kind, Mapping) and isinstance(value, Mapping):
        key, item = (*get_args(annotation), Any, Any)[:2]
        fitted = {_fit(name, key): _fit(each, item) for name, each in value.items()}
        return _MISFIT if any(each is _MISFIT for pair in fitted.items() for each in pair) else fitted
    if isinstance(value, Mapping) and (fields := fields_of(annotation)) is not None:
        return _made(annotation, fields, value)
    if isinstance(value, str) and not value_fits(value, annotation):
        return _read(value, annotation)
    return value if value_fits(value, annotation) else _MISFIT


def _made(kind: Any, fields: Mapping[str, Any], value: Mapping[str, Any]) -> Any:
    if not set(value) <= set(fields):
        return _MISFIT
    fitted = {name: _fit(each, fields[name]) for name, each in value.items()}
    if any(each is _MISFIT for each in fitted.values()):
        return _MISFIT
    try:
        return kind(**fitted)
    except (TypeError, ValueError):
        return _MISFIT


def _is_collection(kind: type) -> bool:
    if getattr(kind, "_fields", None) is not None or issubclass(kind, (str, bytes, Mapping)):
        return False
    return issubclass(kind, Iterable) and (kind.__module__ in ("builtins", "collections.abc", "typing"))


def _paired(parts: Iterable[Any], annotation: Any) -> list[tuple[Any, Any]]:
    """Each part with the annotation of its place."""
    args = get_args(annotation)
    every = list(parts)
    if (get_origin(annotation) or annotation) is tuple and args and args[-1] is not Ellipsis:
        return list(zip(every, args, strict=False))
    return [(each, args[0] if args else Any) for each in every]


def _gathered(values: Iterable[Any], count: int, annotation: Any, kind: type) -> Any:
    found = list(values)
    if any(each is _MISFIT for each in found) or len(found) != count:
        return _MISFIT
    args = get_args(annotation)
    if kind is tuple:
        fixed = bool(args) and args[-1] is not Ellipsis
        return _MISFIT if fixed and len(args) != count else tuple(found)
    return kind(found) if kind in (set, frozenset) else found


def _takes_list(annotation: Any) -> bool:
    annotation = plain(annotation)
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and _is_collection(kind)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__members__") and hasattr(kind, "_value2member_map_")


def _hint(text: str, annotation: Any) -> str | None:
    named = choices(annotation)
    if named:
        near = did_you_mean(text, named)
        return near if near.startswith("did you mean") else None
    annotation = plain(annotation)
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type):
        return None
    if f"{kind.__module__}.{kind.__qualname__}" in _EXAMPLES:
        return f"write for example {_EXAMPLES[f'{kind.__module__}.{kind.__qualname__}']}"
    if issubclass(kind, Mapping):
        return """write JSON: '{"name": 1}'"""
    if _is_collection(kind):
        return "write elements with commas between them, or a JSON list"
    return "write JSON" if fields_of(kind) else None


_EXAMPLES = {
    "datetime.datetime": "2026-01-31T08:00:00",
    "datetime.date": "2026-01-31",
    "datetime.time": "08:00",
    "datetime.timedelta": "90s or 1h30m",
    "builtins.bool": "true or false",
}


def parse_flags(
    words: list[str], annotations: Mapping[str, Any], others: Iterable[str], *, secrets: Iterable[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Pipeline parameters among the words of a command line, and the words that are none of theirs.

    `--depth 4`, `--depth=4`, `--flag`, `--no-flag`. `others` are flags of the command, for near-miss names.
    Raises ParameterError for a value that does not fit; an unknown flag is left to the caller.
    """
    values: dict[str, Any] = {}
    rest: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, text = word.partition("=")
        name = _name_of(flag, annotations)
        if name is None:
            rest.append(word)
            continue
        if name in secrets:
            raise ParameterError(
                f"{flag} is a secret, and what is typed here stays in the shell's history",
                hint="set it in the environment, or put it into .penstock/secrets",
            )
        if name in values:
            listed = f"a list is written with commas: --{name.replace('_', '-')} a,b"
            hint = listed if _takes_list(annotations[name]) else "give it once"
            raise ParameterError(f"{flag} is given twice", hint=hint)
        negative = flag.startswith("--no-") and flag[5:].replace("-", "_") == name
        if is_flag(annotations[name]) and not equals:
            values[name] = not negative
            continue
        if not equals:
            if not waiting or _is_known(waiting[0], annotations, others):
                raise ParameterError(f"{flag} needs a value: {expected(annotations[name])} is expected")
            text = waiting.pop(0)
        values[name] = parse_text(flag, text, annotations[name])
    return values, rest


def _name_of(flag: str, annotations: Mapping[str, Any]) -> str | None:
    if not flag.startswith("--"):
        return None
    name = flag[2:].replace("-", "_")
    if name in annotations:
        return name
    positive = name.removeprefix("no_")
    return positive if positive != name and positive in annotations and is_flag(annotations[positive]) else None


def _is_known(word: str, annotations: Mapping[str, Any], others: Iterable[str]) -> bool:
    flag = word.partition("=")[0]
    return flag in others or _name_of(flag, annotations) is not None
