"""The global random generators: their state, cheap enough to be taken before and after every step.

`random.getstate()` takes 7 us and numpy's 50 us, most of it to make Python objects of 2500 bytes. The bytes themselves
take 0.4 us. Where they lie is CPython's business, so it is compared with `getstate()` once, and not used if it differs.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

_STATE_BYTES = 625 * 4  # 624 words of the Mersenne Twister and a position, in either order
_FRESH = 624  # the position of a generator that nobody has drawn from since it was seeded
_MODULES = {"random": "random", "numpy.random": "numpy.random.mtrand"}  # name -> the module that holds the state
_SEEDERS = {"random": ("seed", "setstate"), "numpy.random": ("seed", "set_state")}

_read: dict[str, Callable[[], Any]] = {}  # generators that are loaded -> what gives their state
Seeding = Callable[[str, bool], None]  # name, whether with a seed


def states(seeding: Seeding) -> dict[str, Any]:
    """The state of each global generator that this process has loaded; `seeding` is told when one is seeded."""
    for name, module in _MODULES.items():
        if name not in _read and module in sys.modules and _is_ready(sys.modules[module]):
            _read[name] = _python_state() if name == "random" else _NumpyState(sys.modules[module])
            _tell(name, seeding)
    return {name: read() for name, read in _read.items()}


def any_loaded() -> bool:
    return bool(_read) or "random" in sys.modules or "numpy.random.mtrand" in sys.modules


def is_fresh(state: Any) -> bool:
    """Whether nobody has drawn from it since it was seeded; for a generator that was loaded unnoticed."""
    if not isinstance(state, bytes):
        return False
    words = memoryview(state).cast("I")
    return _FRESH in (words[0], words[624])


def _is_ready(module: Any) -> bool:
    """Whether its import is over."""
    return getattr(module, "_inst", None) is not None or getattr(module, "_rand", None) is not None


def _python_state() -> Callable[[], Any]:
    generator = sys.modules["random"]._inst
    if "ctypes" in sys.modules and sys.implementation.name == "cpython":
        string_at = sys.modules["ctypes"].string_at
        address = id(generator) + object.__basicsize__
        words = memoryview(string_at(address, _STATE_BYTES)).cast("I")
        if (*words[1:], words[0]) == generator.getstate()[1]:
            return functools.partial(string_at, address, _STATE_BYTES)
    return generator.getstate  # type: ignore[no-any-return]


class _NumpyState:
    """Of numpy's legacy generator, which `np.random.rand` and most of scikit-learn draw from."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._known: Any = None
        self._bytes: Callable[[], bytes] | None = None

    def __call__(self) -> Any:
        source = self._module._rand._bit_generator
        if source is not self._known:
            self._known, self._bytes = source, self._find(source)
        # Where somebody put another generator in its place, its state is a few integers.
        return self._bytes() if self._bytes is not None else repr(source.state)

    def _find(self, source: Any) -> Callable[[], bytes] | None:
        if type(source).__name__ != "MT19937":
            return None
        from ctypes import string_at

        address: int = source.ctypes.state_address
        words = memoryview(string_at(address, _STATE_BYTES)).cast("I")
        state = source.state["state"]
        if words[624] != state["pos"] or list(words[:624]) != state["key"].tolist():
            return None
        return functools.partial(string_at, address, _STATE_BYTES)


def _tell(name: str, seeding: Seeding) -> None:
    """Put a function that tells in the place of each one that seeds."""
    module = sys.modules[name]
    for seeder in _SEEDERS[name]:
        original = getattr(module, seeder)

        @functools.wraps(original)
        def telling(*args: Any, _original: Callable[..., Any] = original, **kwargs: Any) -> Any:
            given = any(each is not None for each in (*args, *kwargs.values()))
            seeding(name, given)
            return _original(*args, **kwargs)

        setattr(module, seeder, telling)
