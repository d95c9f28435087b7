"""Compare two values part by part: numbers within a tolerance of their type, everything else exactly.

Arrays and tables are walked a slice at a time, so that what it takes in memory does not grow with them. Values of
classes that are not known here are compared by their attributes: a model is equal where all that it learned is.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.errors import PenstockError
from ..ports.agreement import Agreement, Tolerance, Verdict
from ..ports.artifacts import ArtifactRef, Artifacts
from .codecs.family import family

_ROWS = 1 << 16
_DEEPEST = 60
_ATOMS = (str, bytes, bool, type(None), int)


def compare_stored(
    left: ArtifactRef, right: ArtifactRef, lefts: Artifacts, rights: Artifacts, tolerance: Tolerance
) -> Agreement:
    """Compare what two references stand for. A value that cannot be read is told, not raised."""
    if left.digest == right.digest and left.codec == right.codec:
        return Agreement(Verdict.IDENTICAL)
    try:
        values = lefts.load(left), rights.load(right)
    except PenstockError as error:
        return Agreement(Verdict.UNKNOWN, text=f"a value cannot be read here: {error.problem}")
    return compare(*values, tolerance)


def compare(left: Any, right: Any, tolerance: Tolerance) -> Agreement:
    """
    >>> compare([1.0, "a"], [1.0 + 1e-12, "a"], Tolerance()).verdict
    <Verdict.EQUAL: 'equal'>
    >>> compare([1.0, "a"], [1.0, "b"], Tolerance()).text
    "'a' → 'b'"
    """
    walk = _Walk(tolerance)
    walk.values(left, right, "", 0)
    verdict = Verdict.DIFFERENT if walk.beyond else Verdict.EQUAL
    where, text = walk.beyond or walk.within or ("", "")
    return Agreement(verdict, where, text, walk.max_abs or None, walk.max_rel or None, walk.count if walk.beyond else 0)


class _Walk:
    """Two values side by side. The first difference of either kind is kept, and the largest between numbers."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._seen: set[tuple[int, int]] = set()
        self.beyond: tuple[str, str] | None = None
        self.within: tuple[str, str] | None = None
        self.count = 0
        self.max_abs = 0.0
        self.max_rel = 0.0

    def values(self, left: Any, right: Any, where: str, depth: int) -> None:
        if left is right or depth > _DEEPEST:
            return
        if type(left) is not type(right):
            self._differ(where, f"a {type(left).__name__} → a {type(right).__name__}")
            return
        match left:
            case float():
                self._float(float(left), float(right), 64, where)
            case _ if isinstance(left, _ATOMS):
                if left != right:
                    self._differ(where, f"{_shown(left)} → {_shown(right)}")
            case complex():
                self._float(left.real, right.real, 64, where + ".real")
                self._float(left.imag, right.imag, 64, where + ".imag")
            case Path():
                self._paths(left, right, where)
            case _ if family(left) in ("numpy", "pandas", "polars", "pyarrow", "scipy"):
                self._foreign(left, right, where, depth)
            case _:
                self._composed(left, right, where, depth)

    # -- plain values ------------------------------------------------------------------------------------------------

    def _composed(self, left: Any, right: Any, where: str, depth: int) -> None:
        pair = (id(left), id(right))
        if pair in self._seen:
            return
        self._seen.add(pair)
        match left:
            case dict():
                self._dicts(left, right, where, depth)
            case list() | tuple():
                if len(left) != len(right):
                    self._differ(where, f"{len(left)} → {len(right)} elements")
                names = getattr(left, "_fields", None)
                for at, (one, other) in enumerate(zip(left, right, strict=False)):
                    self.values(one, other, f"{where}.{names[at]}" if names else f"{where}[{at}]", depth + 1)
            case set() | frozenset():
                if left != right:
                    only = len(left - right), len(right - left)
                    self._differ(where, f"{only[0]} elements are gone, {only[1]} are new")
            case _:
                self._objects(left, right, where, depth)

    def _dicts(self, left: dict[Any, Any], right: dict[Any, Any], where: str, depth: int) -> None:
        gone, new = [key for key in left if key not in right], [key for key in right if key not in left]
        if gone or new:
            words = [f"{_shown(key)} is gone" for key in gone[:3]] + [f"{_shown(key)} is new" for key in new[:3]]
            self._differ(where, ", ".join(words))
        elif list(left) != list(right):
            self._differ(where, "the same keys in another order")
        for key in left:
            if key in right:
                self.values(left[key], right[key], f"{where}[{_shown(key)}]", depth + 1)

    def _objects(self, left: Any, right: Any, where: str, depth: int) -> None:
        """By what they hold: attributes, slots, or the state that they would be pickled with."""
        states = _state(left), _state(right)
        if states[0] is None or states[1] is None:
            if not _equal(left, right):
                self._differ(where, f"two {type(left).__name__} that are not equal")
            return
        for name in dict.fromkeys([*states[0], *states[1]]):
            if (name in states[0]) != (name in states[1]):
                self._differ(f"{where}.{name}".lstrip("."), "only one of them has it")
            else:
                self.values(states[0][name], states[1][name], f"{where}.{name}".lstrip("."), depth + 1)

    def _paths(self, left: Path, right: Path, where: str) -> None:
        if left.is_dir() and right.is_dir():
            names = [{each.relative_to(top).as_posix(): each for each in top.rglob("*")} for top in (left, right)]
            for name in sorted({*names[0], *names[1]}):
                if name not in names[0] or name not in names[1]:
                    self._differ(name, "only one of them has it")
                elif names[0][name].is_file() and names[1][name].is_file():
                    self._files(names[0][name], names[1][name], name)
        elif left.is_file() and right.is_file():
            self._files(left, right, where or left.name)
        elif left != right:
            self._differ(where, f"{left} → {right}")

    def _files(self, left: Path, right: Path, where: str) -> None:
        with open(left, "rb") as one, open(right, "rb") as other:
            at = 0
            while (first := one.read(_ROWS)) == (second := other.read(_ROWS)) and first:
                at += len(first)
            if first == second:
                return
            byte = next((n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
            byte = min(len(first), len(second)) if byte is None else byte
            self._differ(where, f"its bytes differ from byte {at + byte} on")

    # -- numbers -----------------------------------------------------------------------------------------------------

    def _float(self, left: float, right: float, bits: int, where: str) -> None:
        if left == right or (math.isnan(left) and math.isnan(right)):
            return
        apart = abs(left - right)
        text = _arrow(left, right)
        if not math.isfinite(apart):
            self._differ(where, text)
            return
        largest = max(abs(left), abs(right))
        self.max_abs, self.max_rel = max(self.max_abs, apart), max(self.max_rel, apart / largest if largest else 0.0)
        if apart <= self._tolerance.atol + self._tolerance.relative(bits) * abs(right):
            self.within = self.within or (where, text)
        else:
            self._differ(where, text)

    # -- arrays and tables -------------------------------------------------------------------------------------------

    def _foreign(self, left: Any, right: Any, where: str, depth: int) -> None:
        kind = type(left).__name__
        match family(left):
            case "numpy" if hasattr(left, "dtype") and hasattr(left, "shape"):
                self._arrays(left, right, where, depth)
            case "scipy" if hasattr(left, "tocsr"):
                self._sparse(left, right, where, depth)
            case "pandas" if kind in ("DataFrame", "Series"):
                self._pandas(left, right, where, depth)
            case "polars" if kind in ("DataFrame", "Series"):
                frames = [each.to_frame() if kind == "Series" else each for each in (left, right)]
                self._tables(frames[0].to_arrow(), frames[1].to_arrow(), where, depth)
            case "pyarrow" if kind == "Table":
                self._tables(left, right, where, depth)
            case "pandas":
                if not _equal(left, right):
                    self._differ(where, f"two {kind} that are not equal")
            case _:
                self._objects(left, right, where, depth)

    def _arrays(self, left: Any, right: Any, where: str, depth: int) -> None:
        if left.dtype != right.dtype or left.shape != right.shape:
            self._differ(where, f"{left.dtype}{list(left.shape)} → {right.dtype}{list(right.shape)}")
            return
        if left.dtype.names:
            for name in left.dtype.names:
                self._arrays(left[name], right[name], f"{where}[{name!r}]", depth)
            return
        shape = left.shape
        lefts, rights = left.reshape(-1), right.reshape(-1)
        for start in range(0, lefts.size, _ROWS):
            one, other = lefts[start : start + _ROWS], rights[start : start + _ROWS]
            self._slices(one, other, lambda at, start=start: where + _place(start + at, shape), depth)

    def _slices(self, left: Any, right: Any, place: Any, depth: int) -> None:
        """Two flat arrays of one type."""
        import numpy as np

        kind = left.dtype.kind
        if kind == "O":
            for at, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
                self.values(one, other, place(at), depth + 1)
            return
        if kind not in "fc":
            wrong = np.flatnonzero(left != right)
            if kind in "mM":  # the same missing instant on both sides is no difference
                wrong = wrong[~(np.isnat(left[wrong]) & np.isnat(right[wrong]))]
            if wrong.size:
                if kind in "iu":
                    apart = [abs(int(one) - int(other)) for one, other in zip(left[wrong], right[wrong], strict=True)]
                    self.max_abs = max(self.max_abs, float(max(apart)))
                self._differ(place(int(wrong[0])), f"{left[wrong[0]]} → {right[wrong[0]]}", int(wrong.size))
            return
        bits = left.dtype.itemsize * 8 // (2 if kind == "c" else 1)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            same = (left == right) | (np.isnan(left) & np.isnan(right))
            if same.all():
                return
            odd = np.flatnonzero(~same)
            one, other = left[odd], right[odd]
            apart = np.abs(one.astype("c16" if kind == "c" else "f8") - other)
            largest = np.maximum(np.abs(one), np.abs(other))
            near = apart <= self._tolerance.atol + self._tolerance.relative(bits) * np.abs(other)
            finite = np.isfinite(apart)
            if finite.any():
                self.max_abs = max(self.max_abs, float(apart[finite].max()))
                self.max_rel = max(self.max_rel, float((apart[finite] / largest[finite]).max()))
        far = np.flatnonzero(~(near & finite))
        first = int(far[0]) if far.size else 0
        told = place(int(odd[first])), _arrow(one[first], other[first])
        if far.size:
            self._differ(*told, int(far.size))
        else:
            self.within = self.within or told

    def _sparse(self, left: Any, right: Any, where: str, depth: int) -> None:
        if left.shape != right.shape or left.dtype != right.dtype:
            self._differ(where, f"{left.dtype}{list(left.shape)} → {right.dtype}{list(right.shape)}")
            return
        one, other = left.tocsr(), right.tocsr()
        for name in ("indptr", "indices", "data"):
            self._arrays(getattr(one, name), getattr(other, name), f"{where}.{name}".lstrip("."), depth)

    def _pandas(self, left: Any, right: Any, where: str, depth: int) -> None:
        """Column by column; what Arrow has no form for is compared as Python values."""
        if type(left).__name__ == "Series":
            left, right = left.to_frame("value"), right.to_frame("value")
        if list(map(str, left.columns)) != list(map(str, right.columns)):
            self._columns(list(map(str, left.columns)), list(map(str, right.columns)), where)
            return
        if len(left) != len(right):
            self._differ(where, f"{len(left)} → {len(right)} rows")
            return
        if not left.index.equals(right.index):
            self._differ(f"{where} index".lstrip(), "the rows are named or ordered otherwise")
        for at, name in enumerate(left.columns):
            one, other = left.iloc[:, at], right.iloc[:, at]
            place = f"{where} column {str(name)!r}".lstrip()
            if str(one.dtype) != str(other.dtype):
                self._differ(place, f"{one.dtype} → {other.dtype}")
            elif getattr(one.dtype, "kind", "O") in "fciubmM" and type(one.dtype).__module__.startswith("numpy"):
                lefts, rights = one.to_numpy(), other.to_numpy()
                for start in range(0, len(lefts), _ROWS):
                    self._slices(
                        lefts[start : start + _ROWS],
                        rights[start : start + _ROWS],
                        lambda row, start=start, place=place: f"{place}, row {start + row}",
                        depth,
                    )
            elif not one.equals(other):
                for start in range(0, len(one), _ROWS):
                    for row, (mine, theirs) in enumerate(
                        zip(one.iloc[start : start + _ROWS], other.iloc[start : start + _ROWS], strict=True)
                    ):
                        if not (_missing(mine) and _missing(theirs)):
                            self.values(mine, theirs, f"{place}, row {start + row}", depth + 1)

    def _columns(self, left: list[str], right: list[str], where: str) -> None:
        gone, new = [name for name in left if name not in right], [name for name in right if name not in left]
        words = [f"column {name!r} is gone" for name in gone] + [f"column {name!r} is new" for name in new]
        self._differ(where, ", ".join(words[:6]) or "the columns are in another order")

    def _tables(self, left: Any, right: Any, where: str, depth: int) -> None:
        """Arrow tables, a slice of a column at a time."""
        if left.column_names != right.column_names:
            self._columns(left.column_names, right.column_names, where)
            return
        if left.num_rows != right.num_rows:
            self._differ(where, f"{left.num_rows} → {right.num_rows} rows")
            return
        for at, name in enumerate(left.column_names):
            one, other = left.column(at), right.column(at)
            place = f"{where} column {name!r}".lstrip()
            if one.type != other.type:
                self._differ(place, f"{one.type} → {other.type}")
                continue
            for start in range(0, left.num_rows, _ROWS):
                self._column(one.slice(start, _ROWS), other.slice(start, _ROWS), place, start, depth)

    def _column(self, left: Any, right: Any, place: str, start: int, depth: int) -> None:
        if left.equals(right):
            return
        if str(left.type) in ("double", "float", "halffloat") and not left.null_count and not right.null_count:
            told = lambda row: f"{place}, row {start + row}"  # noqa: E731
            self._slices(left.to_numpy(), right.to_numpy(), told, depth)
            return
        bits = {"float": 32, "halffloat": 16}.get(str(left.type), 64)
        for row, (one, other) in enumerate(zip(left.to_pylist(), right.to_pylist(), strict=True)):
            if isinstance(one, float) and isinstance(other, float):
                self._float(one, other, bits, f"{place}, row {start + row}")
            else:
                self.values(one, other, f"{place}, row {start + row}", depth + 1)

    def _differ(self, where: str, text: str, count: int = 1) -> None:
        self.beyond = self.beyond or (where, text)
        self.count += count


def _state(value: Any) -> dict[str, Any] | None:
    """What an object holds by name; None where it does not say."""
    own = getattr(value, "__dict__", None)
    slots = [name for kind in type(value).__mro__ for name in _names(getattr(kind, "__slots__", ()))]
    if own is not None or slots:
        return {**{name: getattr(value, name) for name in slots if hasattr(value, name)}, **(own or {})}
    if fields := getattr(type(value), "__struct_fields__", None):
        return {name: getattr(value, name) for name in fields}
    try:
        reduced = value.__reduce_ex__(2)
    except (TypeError, ValueError, AttributeError):
        return None
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        return None
    return {f"part {at}": part for at, part in enumerate(reduced[1:3])}


def _names(slots: Any) -> list[str]:
    listed = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in listed if not name.startswith("__")]


def _equal(left: Any, right: Any) -> bool:
    equals = getattr(left, "equals", None)
    found = equals(right) if callable(equals) else left == right
    return found is True or bool(getattr(found, "all", lambda: False)())


def _missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def _place(at: int, shape: tuple[int, ...]) -> str:
    """
    >>> _place(5, (2, 3)), _place(0, ())
    ('[1, 2]', '')
    """
    found: list[str] = []
    for size in reversed(shape):
        at, inside = divmod(at, size)
        found.insert(0, str(inside))
    return f"[{', '.join(found)}]" if found else ""


def _arrow(left: Any, right: Any) -> str:
    """Two numbers, as short as they can still be told apart.

    >>> _arrow(1.034002017200729, 1.5646919933340895), _arrow(0.1 + 0.2, 0.3)
    ('1.034 → 1.56469', '0.30000000000000004 → 0.3')
    """
    short = f"{left:.6g}", f"{right:.6g}"
    return " → ".join(short if short[0] != short[1] else (str(left), str(right)))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
