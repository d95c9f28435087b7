"""Which files can be an input at all, by where they lie."""

from __future__ import annotations

import os
import sys
from functools import cache

_SYSTEM = ("/etc/", "/usr/share/", "/usr/lib", "/usr/local/share/", "/usr/local/lib", "/lib", "/System/", "/Library/")
_DEVICES = ("/dev/", "/proc/", "/sys/")
_TIME_ZONES = ("/usr/share/zoneinfo/", "/usr/lib/zoneinfo/", "/usr/share/lib/zoneinfo/", "/etc/zoneinfo/")
_SOURCE = (".py", ".pyi", ".so", ".pyd", ".pth")
CHANGED = " (changed while the step ran)"  # after the name of a declared file
_OWN_CACHES = ("matplotlib", "fontconfig", "numba")


@cache
def never() -> tuple[str, ...]:
    """Beginnings of paths that are nobody's input: devices, time zones, Python's own files and installed packages.

    A package counts by its version, which is in the fingerprint.
    """
    stdlib = os.path.dirname(os.path.abspath(os.__file__))
    found = [*_DEVICES, *_TIME_ZONES, "/etc/localtime", stdlib + os.sep]
    if sys.prefix != sys.base_prefix:
        found += [os.path.join(sys.prefix, part, "") for part in ("lib", "lib64", "share", "etc", "include")]
    found += [path + os.sep for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return tuple(dict.fromkeys(found))


def is_never(path: str) -> bool:
    """Whether this path is nobody's input; packages also where they are found later than this process started."""
    return path.startswith(never()) or "/site-packages/" in path or "/dist-packages/" in path


def can_be_made(path: str) -> bool:
    """Whether nothing is there, not even a link to nothing, and something can be."""
    return not os.path.lexists(path) and os.access(os.path.dirname(path), os.W_OK)


def is_library_business(path: str) -> bool:
    """Whether a library that reads this file reads it for itself: source, system files, its configuration and cache.

    >>> is_library_business("/etc/mime.types"), is_library_business("/srv/orders.csv")
    (True, False)
    """
    if path.endswith(_SOURCE) or path.startswith(_SYSTEM):
        return True
    for folder in _configuration():
        if path.startswith(folder):
            return True
    home = os.path.expanduser("~") + "/."
    if not path.startswith(home):
        return False
    first, _, rest = path[len(home) :].partition("/")
    # What lies in a cache may be data that was fetched; a dot file or another dot folder holds settings.
    return first != "cache" or rest.partition("/")[0] in _OWN_CACHES


def _configuration() -> list[str]:
    named = [os.environ.get(name) for name in ("XDG_CONFIG_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR")]
    return [os.path.join(os.path.abspath(folder), "") for folder in named if folder]


def absolute(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    text = os.fsdecode(path)
    return os.path.abspath(os.path.expanduser(text) if text.startswith("~") else text)


def shown(path: str) -> str:
    """As `read` would be given it: relative to the working directory where it lies below it."""
    cwd = os.getcwd() + os.sep
    return path[len(cwd) :] if path.startswith(cwd) else path
