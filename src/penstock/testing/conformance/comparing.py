"""Whether two runs of one pipeline mean the same, and if not, in words, what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .observing import ELSEWHERE, Instance, Observed, Tried

_SHOWN = 200  # characters of a value


class Difference(NamedTuple):
    """One thing that is not as in the calm run."""

    place: str  # "the run", or a step run such as "square[2]"
    what: str
    calm: str
    here: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}: {self.calm} in the calm run, {self.here} here"


def compare(
    calm: Observed,
    here: Observed,
    apart: Mapping[str, Sequence[str]] = {},
) -> list[Difference]:
    """Everything that differs. `apart`: steps that may end in one of these states, and then as they like."""
    return [*_of_run(calm, here), *_of_instances(calm, here, apart)]


def _of_run(calm: Observed, here: Observed) -> Iterator[Difference]:
    for what in ("state", "pipeline", "parameters", "tags", "schedule", "result"):
        yield from _differing("the run", what, getattr(calm, what), getattr(here, what))
    for law in here.broken:
        if law not in calm.broken:
            yield Difference("the run", "a law is broken", "kept", law)


def _of_instances(calm: Observed, here: Observed, apart: Mapping[str, Sequence[str]]) -> Iterator[Difference]:
    for place in [*calm.instances, *(each for each in here.instances if each not in calm.instances)]:
        before, now = calm.instances.get(place), here.instances.get(place)
        allowed = apart.get(place.partition("[")[0])
        if before is None or now is None:
            yield Difference(place, "step run", _there(before), _there(now))
        elif allowed is not None:
            if now.state not in allowed:
                yield Difference(place, "state", " or ".join(allowed), now.state)
        else:
            yield from _of_instance(place, before, now)


def _of_instance(place: str, before: Instance, now: Instance) -> Iterator[Difference]:
    if before.state != now.state:
        yield Difference(place, "state", _state(before), _state(now))
        return  # all else follows from that
    yield from _differing(place, "attempts", len(before.attempts), len(now.attempts))
    for number, (first, second) in enumerate(zip(before.attempts, now.attempts, strict=False), start=1):
        yield from _of_attempt(place, number, first, second)
    if before.taken_from != now.taken_from:
        yield Difference(place, "result taken from", _origin(before.taken_from), _origin(now.taken_from))
    for field in msgspec.structs.fields(Instance):
        if field.name not in ("state", "attempts", "taken_from"):
            yield from _differing(place, field.name, getattr(before, field.name), getattr(now, field.name))


def _of_attempt(place: str, number: int, before: Tried, now: Tried) -> Iterator[Difference]:
    for field in ("state", "failure", "printed"):
        yield from _differing(place, f"{field} of attempt {number}", getattr(before, field), getattr(now, field))


def _differing(place: str, what: str, before: Any, now: Any) -> Iterator[Difference]:
    if before == now:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(each for each in now if each not in before)]:
            yield from _differing(place, f"{what} '{name}'", before.get(name), now.get(name))
        return
    yield Difference(place, what, _shown(before), _shown(now))


def _there(instance: Instance | None) -> str:
    return "none" if instance is None else instance.state


def _state(instance: Instance) -> str:
    last = instance.attempts[-1].failure if instance.attempts else ()
    return f"{instance.state} ({': '.join(last)})" if last else instance.state


def _origin(act: int | None) -> str:
    return "nobody" if act is None else "a run of another case" if act == ELSEWHERE else f"run {act + 1} of the case"


def _shown(value: Any) -> str:
    text = "nothing" if value is None or value == () else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
