"""Looking again at what a step saw outside, where somebody else has to answer: beside the engine's loop, not for ever.

An answer belongs to the one decision that it was asked for, and is asked for after everything which that decision
follows: a step that changes a table is done before the table is looked at for the next one. So nothing is shared, also
where two instances ask the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic

import msgspec

from ..core.errors import PenstockError
from .frontier import Item
from .services import Services

PATIENCE_S = 30.0  # with one place; where its step took longer, as long as that
_AT_ONCE = 8

Place = tuple[str, str]  # kind and name of something outside
Answers = dict[Place, str | None]  # its version now, "" where it is gone; None where nobody can tell


class Unseen(msgspec.Struct, frozen=True):
    """Whether an earlier result still holds depends on these places; decide again with what is found there."""

    places: tuple[Place, ...]
    patience_s: float  # with all of them

    @classmethod
    def of(cls, places: Sequence[Place], took_s: float = 0.0) -> Unseen:
        """`took_s`: what the step took whose result this is about."""
        return cls(tuple(places), max(PATIENCE_S, took_s) * len(places))


def version_now(services: Services, place: Place) -> str | None:
    """What is there now, as Answers have it. What cannot be reached is nothing that anybody can tell: the step itself
    will meet that, with its own retries."""
    kind, name = place
    observer = services.observer(kind)
    try:
        return None if observer is None else (observer.version(name) or "")
    except PenstockError:
        return None


def look(services: Services, unseen: Unseen) -> Answers:
    """Wait for the answers, where there is nothing to do meanwhile."""
    woken = threading.Event()
    looks = Looks(services, woken.set)
    looks.start(Item("", ""), unseen, {})
    while True:
        until = looks.next_deadline()
        woken.wait(None if until is None else max(0.0, until - monotonic()))
        woken.clear()
        for _, found in looks.collect():
            return found


def _whom(place: Place) -> str:
    """Who has to answer: the host of a URL, or else all of a kind.

    >>> _whom(("url", "https://a.org/x?y")), _whom(("sql", "SELECT 1"))
    ('url a.org', 'sql')
    """
    kind, name = place
    _, is_url, rest = name.partition("://")
    return f"{kind} {rest.partition('/')[0]}" if is_url else kind


class _Look:
    """One thread's work: the places of one item, one after the other."""

    def __init__(self, item: Item, unseen: Unseen, known: Answers) -> None:
        self.item = item
        self.known = known
        self.places = unseen.places
        self.patience_s = unseen.patience_s
        self.until = inf
        self.found: Answers = {}
        self.error: BaseException | None = None

    def answers(self) -> Answers:
        return {**self.known, **{place: self.found.get(place) for place in self.places}}


class Looks:
    """Items that wait for an answer from outside, some of them asked for at the same time.

    `wake` is called from another thread when there is something to `collect`. A look that takes too long is given up:
    its thread cannot be stopped, but it holds up nobody.
    """

    def __init__(self, services: Services, wake: Callable[[], None]) -> None:
        self._services = services
        self._wake = wake
        self._waiting: deque[_Look] = deque()
        self._going: dict[Item, _Look] = {}
        self._ended: SimpleQueue[_Look] = SimpleQueue()
        self._silent: set[str] = set()  # who let a look wait until it was given up: nobody else waits for them again

    def __len__(self) -> int:
        return len(self._going) + len(self._waiting)

    @property
    def items(self) -> list[Item]:
        return [*self._going, *(each.item for each in self._waiting)]

    def start(self, item: Item, unseen: Unseen, known: Answers) -> None:
        """Look at these places for an item, and give back what is known of others with the answers."""
        self._waiting.append(_Look(item, unseen, known))
        self._begin()

    def next_deadline(self) -> float | None:
        """Monotonic seconds of the machine."""
        return min((each.until for each in self._going.values() if each.until < inf), default=None)

    def collect(self) -> Iterator[tuple[Item, Answers]]:
        """What has been answered since the last time, or is given up. Raises what an observer may not raise."""
        if not self._going:
            return
        for each in self._over():
            del self._going[each.item]
            if each.error is not None:
                raise each.error
            yield each.item, each.answers()
        self._begin()

    def _over(self) -> list[_Look]:
        over: list[_Look] = []
        while True:
            try:
                ended = self._ended.get_nowait()
            except Empty:
                break
            if self._going.get(ended.item) is ended:  # else it comes too late
                over.append(ended)
        now = monotonic()
        for each in self._going.values():
            if each.until <= now and each not in over:
                self._silent.update(_whom(place) for place in each.places if place not in each.found)
                over.append(each)
        return over

    def _begin(self) -> None:
        while self._waiting and len(self._going) < _AT_ONCE:
            each = self._waiting.popleft()
            self._going[each.item] = each
            if any(_whom(place) in self._silent for place in each.places):
                self._ended.put(each)
                self._wake()
                continue
            each.until = monotonic() + each.patience_s
            threading.Thread(target=self._go, args=(each,), daemon=True, name="penstock-look").start()

    def _go(self, each: _Look) -> None:
        from .hidden.watching import Unwatched  # most runs look at nothing

        try:
            with Unwatched():
                for place in each.places:
                    each.found[place] = version_now(self._services, place)
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
            each.error = error
        self._ended.put(each)
        self._wake()
