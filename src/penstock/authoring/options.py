"""What a user writes to ask for retries, resources, limits and schedules; parsed into the graph's records."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast, get_args

import msgspec

from ..core.errors import DefinitionError, did_you_mean
from ..core.location import caller_location
from ..core.units import Duration, Size, duration, size_bytes
from ..graph import Cron as CronRecord
from ..graph import Growth, LimitPolicy, Quarantine, ResourceRequest, RetryPolicy, StepOptions
from ..ports.records import FailureClass, HiddenKind
from .identity import class_name

T = TypeVar("T")

FailureName: TypeAlias = Literal[
    "error", "network", "timeout", "out_of_memory", "killed", "preempted", "invalid_data", "cancelled", "encoding",
    "input_lost",
]  # fmt: skip
FailureKind: TypeAlias = type[BaseException] | FailureClass | FailureName

_STATIC = "penstock.static"
Static: TypeAlias = Annotated[T, _STATIC]
"""A pipeline parameter that is known while the pipeline is traced, so that a Python `for` or `if` may use it."""


def is_static(annotation: Any) -> bool:
    return _STATIC in getattr(annotation, "__metadata__", ())


class SecretName:
    """A secret by name. It is resolved where the step runs, and never stored, logged or hashed."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


def Secret(name: str) -> Any:
    """Stands for the secret's value in a step call or as a parameter's default; typed as whatever is wanted there.

    >>> Secret("API_TOKEN")
    Secret('API_TOKEN')
    """
    if not isinstance(name, str) or not (name.isascii() and name.isidentifier()):
        raise _option_error(
            f"Secret({name!r}): a secret is named like an environment variable",
            hint="letters, digits and _ only, and no digit first, as in API_TOKEN",
        )
    return SecretName(name)


class Retry:
    """How often and when to try again.

    attempts: in total, the first included.  base, cap: durations ("2s", "5m", seconds).
    The delay before attempt n + 1 is min(cap, base x factor^(n - 1)); jitter "full" draws from [0, delay], "equal"
    from [delay/2, delay]; draws are seeded by run, step and attempt, so that they can be replayed.
    on / not_on: exception classes, or failure classes ("network", FailureClass.TIMEOUT, …).
    even_if_same: without `on`, a pure step that meets the very same error twice in a row is not tried again, unless
    this is True.

    >>> Retry(attempts=3, base="2s", on=(OSError, "timeout")).policy.on
    ('builtins:OSError', 'timeout')
    """

    def __init__(
        self,
        attempts: int = 3,
        base: Duration = "1s",
        factor: float = 2.0,
        cap: Duration = "5m",
        jitter: Literal["none", "full", "equal"] = "none",
        on: FailureKind | Sequence[FailureKind] = (),
        not_on: FailureKind | Sequence[FailureKind] = (),
        even_if_same: bool = False,
    ) -> None:
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise _option_error(f"Retry(attempts={attempts!r}): attempts are counted from 1, the first included")
        if not isinstance(factor, (int, float)) or factor < 1:
            raise _option_error(f"Retry(factor={factor!r}): the factor must be 1 or more")
        if jitter not in ("none", "full", "equal"):
            raise _option_error(f"Retry(jitter={jitter!r}): jitter is 'none', 'full' or 'equal'")
        self.policy = RetryPolicy(
            attempts=attempts,
            base_s=_seconds("Retry(base)", base),
            factor=float(factor),
            cap_s=_seconds("Retry(cap)", cap),
            jitter=jitter,
            on=_failure_names("on", on),
            not_on=_failure_names("not_on", not_on),
            even_if_same=_flag("Retry(even_if_same)", even_if_same),
        )


class Resources:
    """What a step would like to have. A place that cannot give it waives it, and the run says so."""

    def __init__(self, cpu: float | None = None, memory: Size | None = None, gpu: int = 0) -> None:
        if cpu is not None and (not isinstance(cpu, (int, float)) or cpu <= 0):
            raise _option_error(f"Resources(cpu={cpu!r}): a number of processors is more than 0")
        if not isinstance(gpu, int) or gpu < 0:
            raise _option_error(f"Resources(gpu={gpu!r}): a number of GPUs is 0 or more")
        self.request = ResourceRequest(
            cpu=None if cpu is None else float(cpu), memory_bytes=_bytes("Resources(memory)", memory), gpu=gpu
        )


class Grow:
    """How much more memory the next attempt may use, after one that ran out of it: `factor` times, up to `cap`.

    >>> Grow(factor=2, cap="16Gi").growth.cap_bytes
    17179869184
    """

    def __init__(self, factor: float = 2.0, cap: Size | None = None) -> None:
        if not isinstance(factor, (int, float)) or not 1 < factor < float("inf"):
            raise _option_error(f"Grow(factor={factor!r}): the factor must be more than 1")
        self.growth = Growth(factor=float(factor), cap_bytes=_bytes("Grow(cap)", cap))


class Limits:
    """What a step must not exceed: enforced in a process of its own.

    on_out_of_memory: with a `Retry` that covers it, each attempt after one that ran out of memory gets more.

    >>> Limits(memory="2Gi", on_out_of_memory=Grow(cap="16Gi")).policy.after(2).memory_bytes // 2**30
    8
    """

    def __init__(self, memory: Size | None = None, on_out_of_memory: Grow | None = None) -> None:
        memory_bytes = _bytes("Limits(memory)", memory)
        growth = _instance(Grow, "on_out_of_memory", on_out_of_memory, 'Grow(factor=2, cap="16Gi")')
        if growth is not None and memory_bytes is None:
            raise _option_error(
                "Limits(on_out_of_memory=…) without memory: there is no limit that could grow",
                hint='write for example Limits(memory="2Gi", on_out_of_memory=Grow(factor=2, cap="16Gi"))',
            )
        cap = growth.growth.cap_bytes if growth is not None else None
        if cap is not None and memory_bytes is not None and cap < memory_bytes:
            raise _option_error(f"Grow(cap={cap}) is less than the limit that it starts from, {memory_bytes} bytes")
        self.policy = LimitPolicy(memory_bytes=memory_bytes, on_out_of_memory=growth.growth if growth else None)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CRON_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)


def Cron(
    expression: str, *, tz: str = "UTC", catch_up: bool = False, start: str | date | datetime | None = None
) -> CronRecord:
    """A schedule: five cron fields in a time zone.

    catch_up: also run the times that were missed while nobody kept time.
    start: the day or time (ISO, or a date) from which it counts; by default the moment when it is deployed.

    >>> Cron("0 3 * * *", tz="Europe/Paris", catch_up=True, start="2026-01-01").start
    '2026-01-01'
    """
    fields = expression.split()
    if len(fields) != 5:
        raise _option_error(
            f"Cron({expression!r}) has {len(fields)} fields, not 5",
            hint='write minute, hour, day of month, month, day of week: "0 3 * * *" is every day at 03:00',
        )
    for field, (what, low, high, names) in zip(fields, _CRON_FIELDS, strict=True):
        for part in field.split(","):
            if (wrong := _cron_fault(part, low, high, names)) is not None:
                raise _option_error(f"Cron({expression!r}): {what} {field!r}: {wrong}")
    if tz != "UTC":
        _check_zone(tz)
    return CronRecord(expression, tz, _flag("Cron(catch_up)", catch_up), _first_time(start))


def _first_time(start: Any) -> str:
    if start is None:
        return ""
    text = start.isoformat() if isinstance(start, date) else start
    try:
        datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise _option_error(
            f"Cron(start={start!r}): that is no date or time", hint='write for example "2026-01-01"'
        ) from None
    return cast(str, text)


class OnData:
    """A schedule by data: a run starts when all of these were updated since the last one.

    A step says with `@step(updates=…)` that it writes such data; URLs are compared letter by letter.

    >>> OnData("s3://raw/orders", "s3://raw/prices").urls
    ('s3://raw/orders', 's3://raw/prices')
    """

    def __init__(self, *urls: str) -> None:
        if not urls:
            raise _option_error("OnData() names no data", hint='write for example OnData("s3://raw/orders")')
        self.urls = _urls("OnData", urls)

    def __repr__(self) -> str:
        return f"OnData({', '.join(map(repr, self.urls))})"


def _cron_fault(part: str, low: int, high: int, names: tuple[str, ...]) -> str | None:
    """What is wrong with one element of a cron field: `*`, `5`, `1-5`, `mon-fri`, each with an optional `/step`."""
    span, slash, every = part.partition("/")
    if slash and (not every.isdigit() or int(every) < 1):
        return f"the step after '/' is {every!r}, not a number from 1"
    if span == "*":
        return None
    bounds: list[int] = []
    for text in span.split("-", 1):
        word = text.lower()
        number = names.index(word) + (low or 0) if word in names else int(text) if text.isdigit() else None
        if number is None:
            return f"{text!r} is not a number" + (f" or one of {', '.join(names)}" if names else "")
        if not low <= number <= high:
            return f"{number} is outside {low}-{high}"
        bounds.append(number)
    return f"{span!r} runs backwards" if bounds != sorted(bounds) else None


def _check_zone(tz: str) -> None:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = sorted(zoneinfo.available_timezones())
        near = did_you_mean(tz, zones)
        raise _option_error(
            f"Cron(tz={tz!r}): no such time zone",
            hint=near if near.startswith("did") else 'write for example "Europe/Paris"',
        ) from None


def _failure_names(option: str, classes: FailureKind | Sequence[FailureKind]) -> tuple[str, ...]:
    names: list[str] = []
    for each in classes if isinstance(classes, (list, tuple, set, frozenset)) else (classes,):
        if isinstance(each, type) and issubclass(each, BaseException):
            names.append(class_name(each))
        elif isinstance(each, str) and each in FailureClass.__members__.values():
            if option == "on" and FailureClass(each).is_final:
                raise _option_error(
                    f"Retry(on=...): '{each}' is never tried again: another attempt would meet the same wall",
                    hint="leave it out",
                )
            names.append(str(each))
        elif isinstance(each, str) and ":" in each:
            names.append(each)
        else:
            raise _option_error(
                f"Retry({option}=...): {each!r} is neither an exception class nor a failure class",
                hint=_near_failure_class(each),
            )
    return tuple(names)


def _near_failure_class(wrong: Any) -> str:
    kinds = [kind.value for kind in FailureClass]
    near = did_you_mean(wrong, kinds) if isinstance(wrong, str) else ""
    return near if near.startswith("did") else "failure classes: " + ", ".join(kinds)


def _seconds(what: str, value: Duration) -> float:
    try:
        return duration(value).total_seconds()
    except ValueError as error:
        raise _option_error(f"{what}: {error}") from None


def timeout_seconds(value: Duration | None) -> float | None:
    if value is None:
        return None
    seconds = _seconds("timeout", value)
    if seconds <= 0:
        raise _option_error(f"timeout: {value!r} leaves no time at all", hint='write for example "10m"')
    return seconds


def step_options(current: StepOptions, **changes: Any) -> StepOptions:
    """`current` with user-facing options parsed into records."""
    parsed: dict[str, Any] = {}
    for key, value in changes.items():
        field, parse = _STEP_OPTIONS.get(key, (key, None))
        if parse is None:
            raise _option_error(f"@step has no option '{key}'", hint=did_you_mean(key, list(_STEP_OPTIONS)))
        parsed[field] = parse(key, value)
    options = msgspec.structs.replace(current, **parsed)
    if options.limits is not None and options.limits.on_out_of_memory is not None and not _tries_again(options.retry):
        raise _option_error(
            "Limits(on_out_of_memory=…) without a retry that covers it: there is no next attempt that could get more",
            hint='write for example retry=Retry(attempts=3, on=("out_of_memory",))',
        )
    if options.isolation == "thread" and (options.timeout_s is not None or options.limits is not None):
        raise _option_error(
            'isolation="thread" with a timeout or a limit: a thread cannot be stopped', hint='use isolation="process"'
        )
    return options


def _tries_again(retry: RetryPolicy | None) -> bool:
    """Whether running out of memory can earn another attempt."""
    if retry is None or retry.attempts < 2:
        return False
    names = {str(FailureClass.OUT_OF_MEMORY), *(class_name(cls) for cls in MemoryError.__mro__ if cls is not object)}
    if names.intersection(retry.not_on):
        return False
    # A class of some library may be that library's way to say it; a builtin one is known.
    return not retry.on or any(on in names or (":" in on and not on.startswith("builtins:")) for on in retry.on)


def _retry(key: str, value: Any) -> RetryPolicy | None:
    retry = Retry(value) if isinstance(value, int) else _instance(Retry, key, value, "Retry(attempts=3), or a number")
    return retry.policy if retry is not None else None


def _resources(key: str, value: Any) -> ResourceRequest | None:
    wanted = _instance(Resources, key, value, 'Resources(cpu=4, memory="8Gi")')
    return wanted.request if wanted is not None else None


def _limits(key: str, value: Any) -> LimitPolicy | None:
    limits = _instance(Limits, key, value, 'Limits(memory="8Gi")')
    return limits.policy if limits is not None else None


def _quarantine(key: str, value: Any) -> Quarantine | None:
    return _instance(Quarantine, key, value, "Quarantine(max_fraction=0.1)")


def _names(key: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value)
    for name in names:
        if not isinstance(name, str):
            raise _option_error(f"{key}: {name!r} is not the name of an environment variable")
    return names


def _paths(key: str, value: Any) -> tuple[str, ...]:
    paths = (value,) if isinstance(value, str | os.PathLike) else tuple(value)
    for path in paths:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise _option_error(f"{key}: {path!r} is not the path of a file or folder")
        if "://" in os.fspath(path):
            raise _option_error(
                f"{key}: {os.fspath(path)!r} is a URL, and {key} takes files and folders",
                hint='read it with penstock.read(…), or write cache_despite="network"',
            )
    return tuple(os.fspath(path) for path in paths)


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]+")
_POOL = re.compile(r"[A-Za-z0-9_-]+")


def _urls(key: str, value: Any) -> tuple[str, ...]:
    urls = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    for url in urls:
        if not isinstance(url, str) or _URL.fullmatch(url) is None:
            raise _option_error(
                f"{key}: {url!r} is no URL of data", hint='write for example "s3://raw/orders", without blanks'
            )
    return tuple(dict.fromkeys(urls))


def _pool(key: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or _POOL.fullmatch(value) is None):
        raise _option_error(f"{key}: {value!r} cannot be a pool's name", hint="write letters, digits, - and _")
    return value


def count_from_one(key: str, value: Any) -> int | None:
    """A number of things at the same time, or None for any number."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise _option_error(f"{key} is {value!r}, but a number from 1 up is expected", hint=f"leave {key} out for any")
    return value


# Code that was edited while the run went on is nothing that a step could take upon itself.
_KINDS = [kind for kind in get_args(HiddenKind) if kind != "code"]


def _kinds(key: str, value: Any) -> tuple[str, ...]:
    kinds = (value,) if isinstance(value, str) else tuple(value)
    for kind in kinds:
        if kind not in _KINDS:
            near = did_you_mean(str(kind), _KINDS)
            raise _option_error(f"{key}: {kind!r} is no kind of hidden input", hint=near)
    return kinds


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _option_error(f"{key} is {value!r}, but True or False is expected")
    return value


def _one_of(*allowed: str | None) -> Callable[[str, Any], str | None]:
    def parse(key: str, value: Any) -> str | None:
        if value not in allowed:
            shown = [each for each in allowed if each is not None]
            raise _option_error(f"{key} is {value!r}", hint=did_you_mean(str(value), shown))
        return cast("str | None", value)

    return parse


def _instance(kind: type[T], key: str, value: Any, example: str) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise _option_error(f"{key} is {value!r}, but {kind.__name__} is expected", hint=f"write {key}={example}")
    return value


_STEP_OPTIONS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "retry": ("retry", _retry),
    "timeout": ("timeout_s", lambda key, value: timeout_seconds(value)),
    "resources": ("resources", _resources),
    "limits": ("limits", _limits),
    "on_invalid": ("quarantine", _quarantine),
    "env": ("env", _names),
    "isolation": ("isolation", _one_of("auto", "process", "thread")),
    "cache": ("cache", _flag),
    "reads": ("reads", _paths),
    "cache_despite": ("cache_despite", _kinds),
    "max_parallel": ("max_parallel", count_from_one),
    "pool": ("pool", _pool),
    "updates": ("updates", _urls),
    "effect": ("effect", _one_of(None, "exactly-once", "at-least-once", "at-most-once")),
}


def _bytes(what: str, value: Size | None) -> int | None:
    try:
        return None if value is None else size_bytes(value)
    except ValueError as error:
        raise _option_error(f"{what}: {error}") from None


def _option_error(problem: str, hint: str | None = None) -> DefinitionError:
    return DefinitionError(problem, hint=hint, where=caller_location())
