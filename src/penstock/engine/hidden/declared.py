"""What of the hidden inputs a step has declared, and the words for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...graph import StepOptions
from ...ports.records import HiddenInput, Observation
from .places import absolute

_HOW = {
    "file": 'reads=("{name}",)',
    "folder": 'reads=("{name}",)',
    "environment": 'env=("{name}",)',
    "random": "a generator of its own, seeded by context().seed",
    "clock": "context().logical_time",
    "network": "penstock.read(…)",
}
_VERBS = {
    "file": "read",
    "folder": "listed",
    "environment": "read",
    "network": "connected to",
    "process": "started",
    "random": "drew from",
    "clock": "asked",
}
_MOST_SHOWN = 4


def undeclared(
    options: StepOptions, observations: Sequence[Observation], found: Iterable[HiddenInput]
) -> tuple[HiddenInput, ...]:
    """Those that neither an option nor an observation of the step covers."""
    return tuple(each for each in found if not _is_declared(options, observations, each))


def _is_declared(options: StepOptions, observations: Sequence[Observation], each: HiddenInput) -> bool:
    if each.kind in options.cache_despite:
        return True
    match each.kind:
        case "environment":
            return each.name in options.env
        case "network":  # a step that says which version it saw has told of the connection
            host = each.name.rpartition(":")[0] or each.name
            return any(host in seen.name for seen in observations)
        case "file" if each.is_call:
            # Which file this call reads cannot be seen: it is taken to be one of those that the step tells of.
            return bool(observations)
        case "file" | "folder":
            path = absolute(each.name)
            return any(path == absolute(seen.name) for seen in observations if seen.kind == each.kind)
        case _:
            return False


def told(found: Sequence[HiddenInput]) -> str:
    """What was found, in one line: "read data.csv and DATABASE_URL undeclared"."""
    if not found:
        return ""
    by_verb: dict[str, list[str]] = {}
    for each in found[:_MOST_SHOWN]:
        by_verb.setdefault(_VERBS[each.kind], []).append(each.name)
    parts = [f"{verb} {_joined(list(dict.fromkeys(names)))}" for verb, names in by_verb.items()]
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return f"{_joined(parts)}{more} undeclared"


def hint(found: Sequence[HiddenInput]) -> str:
    """How to declare it."""
    ways: dict[str, None] = {}
    for each in found:
        if (way := _HOW.get(each.kind)) is not None and not (each.is_call and each.kind == "file"):
            ways[way.format(name=each.name)] = None
        elif each.kind == "file":
            ways['reads=("…",) with the file\'s name'] = None
    kinds = ", ".join(f'"{kind}"' for kind in dict.fromkeys(each.kind for each in found))
    listed = [*ways][:3]
    anyway = f"@step(cache_despite=({kinds},)) keeps the result anyway"
    return f"declare it: {', '.join(listed)}; or {anyway}" if listed else anyway


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
