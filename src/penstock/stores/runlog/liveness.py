"""Whether a run's owner is there: a file lock that the kernel drops with its process, and a lease for other hosts.

On the owner's host the lock decides, and at once. Elsewhere (or where the owner's lock file cannot be seen) the lease
decides, within LEASE_US. A recorded process id alone never does: the number may belong to somebody else by now.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Protocol

from ...core.clock import Clock
from ...core.errors import FencedError, NotFoundError, StoreError, StoreUnavailableError
from ...ports.records import ENGINE_HOST
from .database import Database

LEASE_US = 30_000_000
_RENEW_SECONDS = 10.0
_PATIENCE_SECONDS = 2.0  # somebody who only looks holds a lock for microseconds

_HELD: set[int] = set()  # descriptors of held locks in this process


def _forget_in_child() -> None:
    """A forked child must not keep its parent's locks alive."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class Locks(Protocol):
    """One lock per run, dropped when its holder dies."""

    def take(self, run_id: str) -> bool: ...

    def drop(self, run_id: str) -> None: ...

    def abandon(self, run_id: str) -> None:
        """Let go as a dying holder does, so that others see that nobody has it any more."""
        ...

    def held(self, run_id: str) -> bool | None:
        """Whether somebody holds it; None where nothing is known of it here."""
        ...

    def remove(self, run_id: str) -> None:
        """Clear away what a dead holder left."""
        ...

    def close(self) -> None:
        """Let go of all that is left, as a process does that ends."""
        ...


class FileLocks:
    """`flock` on a file per run. The file exists while it is held, or after its holder died."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._descriptors: dict[str, int] = {}

    def take(self, run_id: str) -> bool:
        if run_id in self._descriptors:
            return True
        path = self._path(run_id)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            descriptor = self._open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.005)
                continue
            if _is_at(descriptor, path):  # else its last holder has just removed it
                self._descriptors[run_id] = descriptor
                _HELD.add(descriptor)
                return True
            os.close(descriptor)

    def drop(self, run_id: str) -> None:
        descriptor = self._descriptors.pop(run_id, None)
        if descriptor is not None and descriptor in _HELD:  # not in a forked child
            _HELD.discard(descriptor)
            _unlink(self._path(run_id))  # while it is held: nobody can take the old file
            os.close(descriptor)

    def abandon(self, run_id: str) -> None:
        descriptor = self._descriptors.pop(run_id, None)
        if descriptor is not None and descriptor in _HELD:
            _HELD.discard(descriptor)
            os.close(descriptor)

    def held(self, run_id: str) -> bool | None:
        if run_id in self._descriptors:
            return True
        try:
            descriptor = os.open(self._path(run_id), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def remove(self, run_id: str) -> None:
        for name in [run_id, *self._below(run_id)]:
            if self.held(name) is False:
                _unlink(self._path(name))

    def close(self) -> None:
        for run_id in list(self._descriptors):
            self.abandon(run_id)

    def _below(self, run_id: str) -> list[str]:
        """What dead holders inside the run left: their names begin with the run's."""
        head = f"{run_id}_"
        try:
            return [name.removesuffix(".lock") for name in os.listdir(self._folder) if name.startswith(head)]
        except FileNotFoundError:
            return []

    def _path(self, run_id: str) -> str:
        return f"{self._folder}/{run_id.replace('/', '_')}.lock"

    def _open(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _cannot_lock(path, error) from error
        try:
            os.makedirs(self._folder, exist_ok=True)
            return os.open(path, flags, 0o666)
        except OSError as error:
            raise _cannot_lock(path, error) from error


class MemoryLocks:
    """For a store in memory, whose only possible owner is this process."""

    def __init__(self) -> None:
        self._held: set[str] = set()

    def take(self, run_id: str) -> bool:
        self._held.add(run_id)
        return True

    def drop(self, run_id: str) -> None:
        self._held.discard(run_id)

    def abandon(self, run_id: str) -> None:
        self._held.discard(run_id)

    def held(self, run_id: str) -> bool | None:
        return run_id in self._held or None

    def remove(self, run_id: str) -> None:
        self._held.discard(run_id)

    def close(self) -> None:
        self._held.clear()


class LivenessPart:
    """The Liveness of ports.runlog."""

    database: Database
    _locks: Locks
    _clock: Clock
    _epochs: dict[str, int]
    _renewed: dict[str, float]
    _host: str

    def hold(self, run_id: str, epoch: int) -> None:
        """Take the run's lock on this host; its lease was taken by `create` or RunResumed."""
        if not self._locks.take(run_id):
            raise FencedError(
                f"run '{run_id}' is owned by another process on this host",
                hint=f"wait for it, or stop it: penstock cancel {run_id}",
            )
        self._epochs[run_id] = epoch
        self._renewed[run_id] = self._clock.monotonic()

    def beat(self, run_id: str, epoch: int | None = None) -> bool:
        """Renew the lease when it is due; whether a cancel was asked for. Raises FencedError once taken over."""
        row = self.database.one("pulse", (run_id,))
        if row is None:
            raise NotFoundError(f"there is no run '{run_id}' in {self.database.name}", hint="penstock ls")
        epoch = self._epochs.get(run_id, row[0]) if epoch is None else epoch
        if epoch != row[0]:
            raise FencedError(f"run '{run_id}' has been taken over: it is at epoch {row[0]}, this process at {epoch}")
        now = self._clock.monotonic()
        if now - self._renewed.get(run_id, float("-inf")) >= _RENEW_SECONDS:
            self.database.run("renew_lease", (self.database.now_us() + LEASE_US, run_id, epoch))
            self._renewed[run_id] = now
        return bool(row[1])

    def release(self, run_id: str) -> None:
        """Give the run up, so that it may be resumed at once."""
        epoch = self._epochs.pop(run_id, None)
        self._renewed.pop(run_id, None)
        try:
            if epoch is not None:
                self.database.run("drop_lease", (run_id, epoch))
        except StoreError:  # full, locked, away: the lease stays, and the file that nobody holds says that it is void
            self._locks.abandon(run_id)
            raise
        self._locks.drop(run_id)

    def alive(self, run_id: str) -> bool:
        row = self.database.one("owner", (run_id,))
        return row is not None and self._owner_alive(run_id, row[0], row[1])

    def owns_attempt(self, run_id: str, epoch: int, step: str, index: str, attempt: int) -> bool:
        """The Fencing of ports.runlog."""
        return self.database.one("owned_attempt", (run_id, epoch, step, index, attempt)) is not None

    def _owner_alive(self, run_id: str, host: str, lease_until: int | None) -> bool:
        if host.startswith(ENGINE_HOST):
            return True  # another engine orders it, and is asked by whoever wants to know
        if host in (self._host, ""):
            held = self._locks.held(run_id)
            if held or (held is False and host):
                return held
        return lease_until is not None and lease_until > self.database.now_us()


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _cannot_lock(path: str, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"cannot lock {path}: {error.strerror}", hint="check that you may write in the .penstock folder"
    )
