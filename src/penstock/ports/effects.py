"""What a step that changes the outside asks before it acts: whether it is still the one to act, and who else is at it.

An attempt whose process was paused, or cut off from its store, may wake up when the run has gone on elsewhere. The
fence keeps such a zombie from acting: the thing outside is held under a lease in the run log, and the attempt must be
the newest of its step, in a run whose epoch is still its own.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class Acting(msgspec.Struct, frozen=True):
    """The attempt that wants to act."""

    run_id: str
    epoch: int
    step: str
    index: str
    attempt: int


class Fence(Protocol):
    """Between one attempt and the outside."""

    def take(self, thing: str) -> None:
        """Wait until nobody else changes `thing`, then hold it until `drop`, or until this process stops or dies.

        Raises FencedError where the attempt has been replaced meanwhile.
        """
        ...

    def check(self, thing: str | None = None) -> None:
        """Raise FencedError unless this attempt is still its step's newest, and still holds `thing`."""
        ...

    def drop(self, thing: str) -> None: ...


class Unfenced:
    """Where nobody can have taken over: outside a run, or in a run whose log is in memory."""

    def take(self, thing: str) -> None:
        return

    def check(self, thing: str | None = None) -> None:
        return

    def drop(self, thing: str) -> None:
        return


class Effect:
    """The right to change one thing outside, while the `with` block lasts."""

    def __init__(self, fence: Fence, thing: str, key: str) -> None:
        self._fence = fence
        self._thing = thing
        self.key = key
        """The same for every attempt of this step in this run: give it to the receiver, so that it knows a repeat."""

    def check(self) -> None:
        """Ask again, right before acting, where much time has passed. Raises FencedError."""
        self._fence.check(self._thing)

    def __enter__(self) -> Effect:
        self._fence.take(self._thing)
        try:
            self.check()
        except BaseException:
            self._fence.drop(self._thing)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._fence.drop(self._thing)


class Notification(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was told to whom, without the secret parts of the address."""

    to: str  # "https://hooks.example.com", "command:say", "log:"
    key: str  # what the receiver can know a repeat by
    answer: str = ""  # "200 OK"


class Notifier(Protocol):
    """Tells somebody outside."""

    def send(self, to: str, body: bytes, *, key: str, timeout_s: float) -> Notification:
        """Deliver, trying once. Raises NotificationError, as NotificationUnavailableError where it may yet succeed."""
        ...
