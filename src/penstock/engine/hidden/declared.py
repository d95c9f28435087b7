"""What of the hidden inputs a step has declared, and the words for the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ...graph import StepOptions
from ...ports.records import HiddenInput, HiddenKind, Observation
from .places import CHANGED, absolute

_OPTION = {"file": "reads", "folder": "reads", "environment": "env"}
_INSTEAD = {
    "random": "seed a generator with context().seed",
    "clock": "take the time as a parameter, durations from time.perf_counter()",
    "network": "penstock.read(url) reads a table; @step(cache=False) asks every time",
}
_WHEN_IT_RUNS = "penstock.context().reads(path) before it is read"
_VERBS: dict[HiddenKind, str] = {
    "file": "read",
    "folder": "listed",
    "environment": "read",
    "network": "connected to",
    "process": "started",
    "random": "drew from",
    "clock": "asked the clock with",
}
_NAMES = {
    ("environment", "*"): "every environment variable",
    ("file", "*"): "more files than are kept",
    ("folder", "*"): "more folders than are kept",
    ("network", "*"): "more hosts than are kept",
    ("process", "*"): "more programs than are kept",
    ("process", "fork"): "a child process (what it reads cannot be seen)",
    ("random", "random"): "the global random generator",
    ("random", "numpy.random"): "numpy's global random generator",
}
_MOST_SHOWN = 4
_MOST_KEPT = 50  # of one kind, in the run log; a step that reads 10,000 images says so with the first ones


def undeclared(
    options: StepOptions, observations: Sequence[Observation], found: Iterable[HiddenInput]
) -> tuple[HiddenInput, ...]:
    """Those that neither an option nor an observation of the step covers; of each kind the first ones."""
    files = [*options.reads, *(seen.name for seen in observations if seen.kind in ("file", "folder"))]
    covered = tuple(os.path.join(absolute(name), "") for name in files)
    left: list[HiddenInput] = []
    kept: dict[HiddenKind, int] = {}
    for each in found:
        if kept.get(each.kind, 0) < _MOST_KEPT and not _is_declared(options, observations, covered, each):
            kept[each.kind] = kept.get(each.kind, 0) + 1
            left.append(each)
    return tuple(left)


def _is_declared(
    options: StepOptions, observations: Sequence[Observation], covered: tuple[str, ...], each: HiddenInput
) -> bool:
    if each.kind in options.cache_despite:
        return True
    if each.name == "*" or each.name.endswith(CHANGED):
        return False  # no name says what it was, or the name is declared and did not hold
    match each.kind:
        case "environment":
            return each.name in options.env
        case "network" if each.is_call:
            return bool(observations)
        case "network":  # a step that says which version it saw has told of the connection
            host = each.name.rpartition(":")[0] or each.name
            return any(host in seen.name for seen in observations)
        case "file" if each.is_call:
            # Which file this call reads cannot be seen: it is taken to be one of those that the step tells of.
            return bool(observations) or bool(options.reads)
        case "file" | "folder":
            return os.path.join(absolute(each.name), "").startswith(covered)
        case _:
            return False


def named(each: HiddenInput) -> str:
    """In words, where its name alone says little."""
    return _NAMES.get((each.kind, each.name), each.name)


def told(found: Sequence[HiddenInput]) -> str:
    """What was found, in one line: "read data.csv and DATABASE_URL undeclared"."""
    edited = [each.name for each in found if each.kind == "code"]
    if edited:
        others = told([each for each in found if each.kind != "code"])
        words = f"may have run newer code: {_joined(edited)} {'was' if len(edited) == 1 else 'were'} edited meanwhile"
        return f"{others}; {words}" if others else words
    if not found:
        return ""
    by_verb: dict[str, list[str]] = {}
    for each in found[:_MOST_SHOWN]:
        verb = "read with" if each.is_call and each.kind in ("file", "network") else _VERBS[each.kind]
        by_verb.setdefault(verb, []).append(named(each))
    parts = [f"{verb} {_joined(list(dict.fromkeys(names)))}" for verb, names in by_verb.items()]
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return f"{_joined(parts)}{more} undeclared"


def hint(found: Sequence[HiddenInput], code: Iterable[str] | None = None) -> str:
    """What to do about it, as text for `@step(…)`.

    code:  the step's code; a file whose name is not written in it is a parameter, or computed. None: not known.

    >>> hint([HiddenInput("file", "data.csv"), HiddenInput("environment", "REGION")])
    '@step(reads="data.csv", env="REGION"), or @step(cache_despite=("file", "environment")) to keep it all the same'
    >>> hint([HiddenInput("file", "data.csv")], ["def load(path): return open(path).read()"])
    'penstock.context().reads(path) before it is read, or @step(cache_despite="file") to keep it all the same'
    """
    if any(each.kind == "code" for each in found):
        return "run the pipeline again: it computes this step with the code as it is then"
    names: dict[str, dict[str, None]] = {}
    instead: dict[str, None] = {}
    texts = None if code is None else [*code]
    for each in found:
        if each.kind in ("file", "folder") and each.name != "*" and not (each.is_call or _is_written(each.name, texts)):
            instead[_WHEN_IT_RUNS] = None
        elif (option := _OPTION.get(each.kind)) is not None and each.name != "*":
            names.setdefault(option, {})["…" if each.is_call else each.name] = None
        elif each.kind in _INSTEAD:
            instead[_INSTEAD[each.kind]] = None
    options = ", ".join(f"{option}={_written([*given])}" for option, given in names.items())
    ways = [*([f"@step({options})"] if options else []), *instead]
    despite = _written(list(dict.fromkeys(each.kind for each in found)))
    return "; ".join(ways) + (", or " if ways else "") + f"@step(cache_despite={despite}) to keep it all the same"


def _is_written(name: str, code: list[str] | None) -> bool:
    return code is None or any(
        f"{quote}{name}{end}{quote}" in text for text in code for quote in "'\"" for end in ("", "/")
    )


def _written(names: Sequence[str]) -> str:
    """As Python, one name without a tuple around it."""
    quoted = [f'"{name}"' for name in names[:3]]
    return quoted[0] if len(names) == 1 else f"({', '.join(quoted)}{', …' if len(names) > 3 else ''})"


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
