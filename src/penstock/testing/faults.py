"""Faults on demand: a step that fails or takes long, and a process that dies at its k-th write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from ..core.errors import UsageError, did_you_mean
from ..core.units import Duration, duration
from ..ports.artifacts import BlobStore
from ..ports.context import Context
from ..ports.runlog import Store
from .clock import TurnedClock

T = TypeVar("T")


class Crash(BaseException):
    """The process is gone: nothing that it would still write is written."""


class Death(StrEnum):
    """When in a write a process dies."""

    BEFORE = "before"
    MIDWAY = "midway"  # of a blob: half of its bytes are in a temporary file; of the run log: rolled back, so "before"
    AFTER = "after"


class Fuse:
    """Counts writes, and ends the process, as it were, at the k-th. Blown, it lets none pass."""

    def __init__(self, at: int | None = None, *, death: Death | str = Death.BEFORE, beats: bool = True) -> None:
        self.at = at
        self.beats = beats  # the heartbeat goes by the machine's clock: where every moment is decided, it is still
        self.death = Death(death)
        self.writes: list[str] = []
        self.blown = False

    def write(self, what: str, action: Callable[[], T], half: Callable[[], None] | None = None) -> T:
        """Let a write pass, or not. `half` does the first part of it, and no more."""
        self.check()
        self.writes.append(what)
        return self.dying(self.death, action, half) if len(self.writes) == self.at else action()

    def dying(self, death: Death, action: Callable[[], T], half: Callable[[], None] | None = None) -> T:
        """The last write of this process."""
        if death is Death.AFTER:
            action()
        elif death is Death.MIDWAY and half is not None:
            half()
        self.blown = True
        raise Crash(str(self))

    def check(self) -> None:
        """Raise Crash where the process is dead."""
        if self.blown:
            raise Crash(str(self))

    def __str__(self) -> str:
        if self.at is None or self.at > len(self.writes):
            return f"no crash in {len(self.writes)} writes"
        when = "in the middle of" if self.death is Death.MIDWAY else self.death.value
        return f"crash {when} write {self.at}: {self.writes[self.at - 1]}"


_STORE_WRITES = frozenset(
    {"create", "append", "write_text", "put_code", "put_manifest", "forget", "lease", "unlease", "hold"}
)
_DEATH_ITSELF = frozenset({"release", "close"})  # the operating system does these for a dead process


class CrashingStore:
    """Any run log, behind a fuse."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def beat(self, run_id: str) -> bool:
        return False if self._fuse.blown or not self._fuse.beats else self._store.beat(run_id)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found) or name in _DEATH_ITSELF:
            return found

        def behind_the_fuse(*args: Any, **kwargs: Any) -> Any:
            if name in _STORE_WRITES:
                return self._fuse.write(_shown(name, args), lambda: found(*args, **kwargs))
            self._fuse.check()
            return found(*args, **kwargs)

        return behind_the_fuse


class CrashingBlobs:
    """Any blob store, behind a fuse."""

    def __init__(self, blobs: BlobStore, fuse: Fuse) -> None:
        self._blobs = blobs
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._blobs, name)
        if name not in ("put_file", "delete", "collect"):
            return found

        def behind_the_fuse(*args: Any) -> Any:
            half = (lambda: self._half_written(args[0])) if name == "put_file" else None
            return self._fuse.write(f"blobs.{name}", lambda: found(*args), half)

        return behind_the_fuse

    def _half_written(self, path: Path) -> None:
        """What a process leaves that dies while it writes: half of the bytes, in a folder that nobody will remove."""
        content = path.read_bytes()
        (self._blobs.staging() / path.name).write_bytes(content[: len(content) // 2])


def crashing_store(store: Store, fuse: Fuse) -> Store:
    return cast(Store, CrashingStore(store, fuse))


def crashing_blobs(blobs: BlobStore, fuse: Fuse) -> BlobStore:
    return cast(BlobStore, CrashingBlobs(blobs, fuse))


def _shown(name: str, args: tuple[Any, ...]) -> str:
    if name != "append":
        return name
    return "append " + ", ".join(type(event).__name__ for event in args[2])


class _Fault(msgspec.Struct):
    step: str
    index: str | None
    attempt: int | None
    error: BaseException | type[BaseException] | None = None
    delay: Duration | None = None

    def strikes(self, context: Context) -> bool:
        return (
            self.step == context.step
            and self.index in (None, context.index)
            and self.attempt in (None, context.attempt)
        )


class Faults:
    """What goes wrong in a run. Each method returns the same object, so that calls can be chained.

    >>> faults = Faults().fail("ingest", OSError("no route"), attempt=1).delay("fit", "2h")
    """

    def __init__(self) -> None:
        self._faults: list[_Fault] = []
        self.fuse = Fuse()

    def fail(
        self,
        step: str,
        error: BaseException | type[BaseException] = RuntimeError,
        *,
        attempt: int | None = None,
        index: str | None = None,
    ) -> Faults:
        """Let a step raise instead of running: at that attempt (or every one), at that index of a map (or all)."""
        self._faults.append(_Fault(step, index, attempt, error=error))
        return self

    def delay(self, step: str, by: Duration, *, attempt: int | None = None, index: str | None = None) -> Faults:
        """Let time pass on the turned clock before a step runs, as if it took that long."""
        duration(by)
        self._faults.append(_Fault(step, index, attempt, delay=by))
        return self

    def crash(self, *, before_write: int | None = None, after_write: int | None = None) -> Faults:
        """Let the process die at its k-th write to the run log or the artifact store; `run` then raises Crash."""
        if (before_write is None) == (after_write is None):
            raise UsageError("crash() wants either before_write or after_write")
        self.fuse = Fuse(before_write or after_write, death=Death.BEFORE if before_write else Death.AFTER)
        return self

    def strike(self, context: Context, clock: TurnedClock) -> None:
        """Called before each attempt of a step."""
        for fault in self._faults:
            if fault.strikes(context):
                if fault.delay is not None:
                    clock.advance(fault.delay)
                if fault.error is not None:
                    raise fault.error

    def check(self, steps: Iterable[str]) -> None:
        """A fault for a step that is not there would never strike: refuse it."""
        check_names((fault.step for fault in self._faults), steps, "Faults")


def check_names(names: Iterable[str], steps: Iterable[str], what: str) -> None:
    known = list(steps)
    for name in names:
        if name not in known:
            raise UsageError(f"{what}: the pipeline has no step '{name}'", hint=did_you_mean(name, known))
