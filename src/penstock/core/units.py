"""Durations and sizes as people write them ("10m", "8Gi"), parsed once at the edge."""

from __future__ import annotations

import re
from datetime import timedelta

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(Ki|Mi|Gi|Ti|k|M|G|T|)B?")

Duration = timedelta | str | int | float
Size = str | int


def duration(value: Duration) -> timedelta:
    """A `timedelta` from one, from seconds, or from text such as "90s", "10m", "1h30m".

    >>> duration("1h30m")
    datetime.timedelta(seconds=5400)
    >>> duration("soon")
    Traceback (most recent call last):
    ValueError: 'soon' is not a duration; write for example "500ms", "90s", "10m", "1h30m" or "2d"
    """
    if isinstance(value, timedelta):
        result = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        result = timedelta(seconds=value)
    else:
        text = str(value).replace(" ", "")
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f'{value!r} is not a duration; write for example "500ms", "90s", "10m", "1h30m" or "2d"')
        result = timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
    if result < timedelta(0):
        raise ValueError(f"a duration cannot be negative: {value!r}")
    return result


def size_bytes(value: Size) -> int:
    """Bytes from a number or from text such as "512Mi", "8Gi", "2G".

    >>> size_bytes("8Gi")
    8589934592
    """
    if isinstance(value, int) and not isinstance(value, bool):
        result = value
    else:
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            raise ValueError(f'{value!r} is not a size; write for example "512Mi", "8Gi" or "2G"')
        result = int(float(match[1]) * _BYTES[match[2]])
    if result < 0:
        raise ValueError(f"a size cannot be negative: {value!r}")
    return result


def kubernetes_quantity(count: int) -> str:
    """Bytes as Kubernetes writes them, in the largest unit that keeps them exact.

    >>> kubernetes_quantity(8 * 2**30), kubernetes_quantity(1500)
    ('8Gi', '1500')
    """
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return str(count)


def shown_duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> [shown_duration(s) for s in (0.0004, 0.25, 3.21, 75, 3720)]
    ['0 ms', '250 ms', '3.2 s', '1 m 15 s', '1 h 02 m']
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def shown_size(count: int) -> str:
    """Bytes as people read them.

    >>> [shown_size(n) for n in (17, 2048, 5_000_000)]
    ['17 B', '2.0 KiB', '4.8 MiB']
    """
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
