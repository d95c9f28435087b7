"""The global random generators: their state, cheap enough to be taken before and after every step.

A draw moves the generator's position, and 624 draws renew all its words: position and two words are enough to see one.
`random.getstate()` takes 7 us and numpy's 50 us, to make Python objects of 2500 bytes; reading these three words from
memory takes 0.3 us. Where they lie is CPython's business, so they are compared with `getstate()` once, and not read if
they differ.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

_WORDS = 624  # of the Mersenne Twister, after its position in `random`, before it in numpy
_SEEN_BYTES = 12
_MANY = 64  # slow looks after which importing ctypes (1.5 ms) pays
_MODULES = {"random": "random", "numpy.random": "numpy.random.mtrand"}  # name -> the module that holds the state
_SEEDERS = {"random": ("seed", "setstate"), "numpy.random": ("seed", "set_state")}

_read: dict[str, Callable[[], Any]] = {}  # generators that are loaded -> what gives their state
Seeding = Callable[[str, bool], None]  # name, whether with a seed


def states(seeding: Seeding) -> dict[str, Any]:
    """The state of each global generator that this process has loaded; `seeding` is told when one is seeded."""
    for name, module in _MODULES.items() if len(_read) < len(_MODULES) else ():
        if name not in _read and module in sys.modules and _is_ready(sys.modules[module]):
            _read[name] = _python_state() if name == "random" else _NumpyState(sys.modules[module])
            _tell(name, seeding)
    return {name: read() for name, read in [*_read.items()]}


def _is_ready(module: Any) -> bool:
    """Whether its import is over."""
    return getattr(module, "_inst", None) is not None or getattr(module, "_rand", None) is not None


def _python_state() -> Callable[[], Any]:
    generator = sys.modules["random"]._inst
    looks = 0

    def words() -> bytes:
        state = generator.getstate()[1]
        return b"".join(each.to_bytes(4, sys.byteorder) for each in (state[_WORDS], *state[:2]))

    def look() -> bytes:
        nonlocal looks
        looks += 1
        if looks == _MANY and sys.implementation.name == "cpython":
            _read["random"] = _from_memory(generator, words) or words
        return words()

    if "ctypes" in sys.modules and sys.implementation.name == "cpython":
        return _from_memory(generator, words) or words
    return look


def _from_memory(generator: Any, words: Callable[[], bytes]) -> Callable[[], bytes] | None:
    from ctypes import string_at

    address = id(generator) + object.__basicsize__
    return functools.partial(string_at, address, _SEEN_BYTES) if string_at(address, _SEEN_BYTES) == words() else None


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

        address: int = source.ctypes.state_address + 4 * (_WORDS - 2)
        words, state = memoryview(string_at(address, _SEEN_BYTES)).cast("I"), source.state["state"]
        if tuple(words) != (*state["key"][-2:].tolist(), state["pos"]):
            return None
        return functools.partial(string_at, address, _SEEN_BYTES)


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
