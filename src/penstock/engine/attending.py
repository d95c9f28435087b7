"""Where a cluster runs an attempt: look after one worker process, and tell the engine what it says.

The same worker, supervised in the same way, as beside the embedded engine: so timeouts, limits, captured output and
interrupts mean the same. What the engine does over a pipe and a socket goes by a Post here.
"""

from __future__ import annotations

import selectors
from time import monotonic
from typing import Any

import msgspec

from ..ports.cluster import Post
from .services import Services
from .tasks import StepOutcome, StepTask
from .workers import Workers

_LOOK_S = 0.2  # how often it is asked whether the attempt is still wanted
_TOGETHER_S = 0.1  # what is printed within this time is one message
_TOGETHER_CHARS = 1 << 16
_PATIENCE_S = 3.0  # for a step that is told to stop; less than the engine has with all of them


class Attendant:
    """One warm worker process and the attempts that it is given, one after the other."""

    def __init__(self, services: Services, worker_module: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._workers = Workers(1, worker_module, services, self._selector, self._text, self._progress)
        self._outbox: Outbox | None = None

    def attend(self, task: StepTask, post: Post) -> None:
        """The attempt, to its end."""
        outbox = self._outbox = Outbox(post)
        outbox.add(["began"])
        ended: list[tuple[StepTask, StepOutcome]] = []
        try:
            self._workers.give([task])
            worker = self._workers.busy[0]
            while not ended:
                self._selector.select(self._patience(outbox))
                ended = [*self._workers.readable(worker), *self._workers.overdue()]
                outbox.send_due()
                if not ended and post.unwanted():
                    ended = [*self._workers.stop(patience_s=_PATIENCE_S)]
        except KeyboardInterrupt:  # a cluster may have ways of its own to say that nobody wants it any more
            ended = ended or [*self._workers.stop(patience_s=_PATIENCE_S)]
        outbox.add(["done", msgspec.msgpack.encode(ended[0][1])])
        outbox.send()

    def close(self) -> None:
        """End the worker process and what it started."""
        self._outbox = None
        self._workers.close()
        self._selector.close()

    def _patience(self, outbox: Outbox) -> float:
        deadline = self._workers.next_deadline()
        until_deadline = _LOOK_S if deadline is None else max(0.0, deadline - monotonic())
        return min(_LOOK_S, until_deadline, outbox.due_in())

    def _text(self, task: StepTask, text: str) -> None:
        if self._outbox is not None:
            self._outbox.add(["text", text], weight=len(text))

    def _progress(self, task: StepTask, done: float, total: float | None, note: str) -> None:
        if self._outbox is not None:
            self._outbox.add(["progress", done, total, note])


class Outbox:
    """Messages of one attempt, sent together: each sending is a round trip through the cluster."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._held: list[Any] = []
        self._weight = 0
        self._since = 0.0  # when the oldest of them came

    def add(self, message: list[Any], *, weight: int = 0) -> None:
        if not self._held:
            self._since = monotonic()
        self._held.append(message)
        self._weight += weight

    def due_in(self) -> float:
        """Seconds until something has waited long enough."""
        return max(0.0, self._since + _TOGETHER_S - monotonic()) if self._held else _LOOK_S

    def send_due(self) -> None:
        if self._held and (self._weight >= _TOGETHER_CHARS or self.due_in() == 0):
            self.send()

    def send(self) -> None:
        held, self._held, self._weight = self._held, [], 0
        self._post.send(msgspec.msgpack.encode(held))


def failed_before_it_began(failure: Any) -> bytes:
    """The one message of an attempt that cannot run in this place at all."""
    return msgspec.msgpack.encode([["done", msgspec.msgpack.encode(StepOutcome(failure=failure))]])
