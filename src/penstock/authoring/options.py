"""What a user writes to ask for retries, resources, limits and schedules; parsed into the graph's records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from ..core.errors import DefinitionError
from ..core.location import caller_location
from ..core.units import Duration, Size, duration, size_bytes
from ..graph import Cron as CronRecord
from ..graph import LimitPolicy, ResourceRequest, RetryPolicy
from ..ports.records import FailureClass

T = TypeVar("T")

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
    return SecretName(name)


class Retry:
    """How often and when to try again.

    attempts: in total, the first included.  base, cap: durations ("2s", "5m", seconds).
    The delay before attempt n + 1 is min(cap, base x factor^(n - 1)); jitter "full" draws from [0, delay], "equal"
    from [delay/2, delay]; draws are seeded by run, step and attempt, so that they can be replayed.
    on / not_on: exception classes, or failure classes by name ("timeout", "killed", "out_of_memory", "invalid_data").

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
        on: Sequence[type[BaseException] | str] = (),
        not_on: Sequence[type[BaseException] | str] = (),
    ) -> None:
        if attempts < 1:
            raise _option_error(f"Retry(attempts={attempts!r}): a step needs at least one attempt")
        if factor < 1:
            raise _option_error(f"Retry(factor={factor!r}): the factor must be 1 or more")
        if jitter not in ("none", "full", "equal"):
            raise _option_error(f"Retry(jitter={jitter!r}): jitter is 'none', 'full' or 'equal'")
        self.policy = RetryPolicy(
            attempts=attempts,
            base_s=_seconds("Retry(base)", base),
            factor=factor,
            cap_s=_seconds("Retry(cap)", cap),
            jitter=jitter,
            on=_failure_names("on", on),
            not_on=_failure_names("not_on", not_on),
        )


class Resources:
    """What a step would like to have. A place that cannot give it waives it, and the run says so."""

    def __init__(self, cpu: float | None = None, memory: Size | None = None, gpu: int = 0) -> None:
        self.request = ResourceRequest(cpu=cpu, memory_bytes=_bytes("Resources(memory)", memory), gpu=gpu)


class Limits:
    """What a step must not exceed: enforced in a process of its own."""

    def __init__(self, memory: Size | None = None) -> None:
        self.policy = LimitPolicy(memory_bytes=_bytes("Limits(memory)", memory))


def Cron(expression: str, *, tz: str = "UTC") -> CronRecord:
    """A schedule: five cron fields in a time zone.

    >>> Cron("0 3 * * *", tz="Europe/Paris").tz
    'Europe/Paris'
    """
    fields = expression.split()
    if len(fields) != 5:
        raise _option_error(
            f"Cron({expression!r}) has {len(fields)} fields, not 5",
            hint='write minute, hour, day of month, month, day of week: "0 3 * * *" is every day at 03:00',
        )
    for field, (low, high) in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True):
        for number in _numbers(field):
            if not low <= number <= high:
                raise _option_error(f"Cron({expression!r}): {number} is outside {low}-{high}")
    if tz != "UTC":
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(tz)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise _option_error(
                f"Cron(tz={tz!r}): no such time zone", hint='write for example "Europe/Paris"'
            ) from None
    return CronRecord(expression, tz)


def _numbers(field: str) -> list[int]:
    import re

    if not re.fullmatch(r"[\d*/,\-A-Za-z]+", field):
        raise _option_error(f"{field!r} is not a cron field")
    return [int(number) for number in re.findall(r"(?<!/)\b\d+", field)]


def _failure_names(option: str, classes: Sequence[type[BaseException] | str]) -> tuple[str, ...]:
    names: list[str] = []
    for each in (classes,) if isinstance(classes, (type, str)) else classes:
        if isinstance(each, type) and issubclass(each, BaseException):
            names.append(f"{each.__module__}:{each.__qualname__}")
        elif isinstance(each, str) and (each in FailureClass.__members__.values() or ":" in each):
            names.append(str(each))
        else:
            raise _option_error(
                f"Retry({option}=...): {each!r} is neither an exception class nor a failure class",
                hint="failure classes: " + ", ".join(kind.value for kind in FailureClass),
            )
    return tuple(names)


def _seconds(what: str, value: Duration) -> float:
    try:
        return duration(value).total_seconds()
    except ValueError as error:
        raise _option_error(f"{what}: {error}") from None


def timeout_seconds(value: Duration | None) -> float | None:
    return None if value is None else _seconds("timeout", value)


def _bytes(what: str, value: Size | None) -> int | None:
    try:
        return None if value is None else size_bytes(value)
    except ValueError as error:
        raise _option_error(f"{what}: {error}") from None


def _option_error(problem: str, hint: str | None = None) -> DefinitionError:
    return DefinitionError(problem, hint=hint, where=caller_location())
