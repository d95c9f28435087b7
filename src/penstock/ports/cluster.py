"""What an adapter for a cluster of machines must do: run attempts elsewhere, and bring back what comes of them.

The engine stays the only one that decides: it hands over one attempt at a time under a ticket, hears messages (printed
text, progress, the outcome), or that the attempt is lost. A cluster never runs a ticket twice, whatever its own habit
is when a machine dies: another attempt is the engine's to begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ..graph import ResourceRequest


class Lost(msgspec.Struct, frozen=True):
    """Nothing more will be heard of an attempt: its machine or process died, or the cluster did not take it."""

    why: str
    out_of_memory: bool = False  # the cluster itself ended it, because its machine had no memory left
    hint: str | None = None


class Post(Protocol):
    """Where an attempt runs: the way back to its engine."""

    def send(self, message: bytes) -> None:
        """Returns when the message will arrive, whatever becomes of this process."""
        ...

    def unwanted(self) -> bool:
        """Whether the engine takes the attempt back, or is gone. Asked several times a second."""
        ...


Attend = Callable[[bytes, Post], None]  # what the cluster calls with an attempt; a function of an importable module
Heard = Callable[[str, bytes | Lost], None]  # ticket and message, in the order of the ticket; from any thread


class Cluster(Protocol):
    """Machines that are connected to."""

    name: str  # as people call it: "ray", "dask"
    places: int  # how many attempts it gets at a time

    def listen(self, heard: Heard) -> None:
        """Called once, before anything is submitted."""
        ...

    def keeps(self, wants: ResourceRequest) -> ResourceRequest:
        """What of a request is passed on to the cluster's own scheduler; the rest is waived, and recorded so."""
        ...

    def lacks(self, wants: ResourceRequest) -> str:
        """What of it no machine of the cluster has at present, so that the attempt waits; "" where one has it all."""
        ...

    def submit(self, ticket: str, content: bytes, wants: ResourceRequest | None, title: str) -> None:
        """Hand over an attempt. Raises ClusterError."""
        ...

    def forget(self, ticket: str) -> None:
        """All of it was heard."""
        ...

    def stop(self, tickets: Sequence[str], *, at_once: bool) -> None:
        """Take attempts back: their steps are interrupted and then killed; `at_once`, killed where that can be had."""
        ...

    def close(self) -> None:
        """Disconnect; a cluster that was started for this run ends."""
        ...
