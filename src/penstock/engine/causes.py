"""Why a step gave another result: what the records say, and what it does when it is tried alone. Pure.

A cause is *proven* where changing one thing, and nothing else, brought the recorded result back or made the step
agree with itself; *likely* where the step is seen to depend on that thing; *possible* where the thing differs and
nothing speaks against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ..ports.records import StepRun
from .comparison import Change

CauseKind = Literal[
    "data", "code", "seed", "threads", "hash order", "package", "environment", "hidden input", "hidden state", "unknown"
]
Sureness = Literal["proven", "likely", "possible"]
_SURE: tuple[Sureness, ...] = ("proven", "likely", "possible")


class Cause(msgspec.Struct, frozen=True):
    """One explanation, how sure it is, and what to do about it."""

    kind: CauseKind
    sure: Sureness
    text: str
    fix: str = ""


class Signature(msgspec.Struct, frozen=True):
    """What a step came to, as far as a difference can be seen: state, outputs, failure."""

    state: str
    outputs: tuple[tuple[str, str], ...]
    failure: str = ""

    @classmethod
    def of(cls, run: StepRun) -> Signature:
        outputs = tuple(sorted((name, ref.digest) for name, ref in run.outputs.items()))
        state = "done" if run.state.has_output else run.state.value
        return cls(state, outputs, run.failure.name if run.failure is not None else "")


class Probe(msgspec.Struct, frozen=True):
    """The step alone, on the recorded inputs, twice in fresh processes: what is held otherwise than in the run."""

    name: str
    variables: dict[str, str | None] = {}
    seed_globals: bool = False


class Evidence(msgspec.Struct, frozen=True):
    """All that is known of a step that differs."""

    recorded: Signature
    again: Signature  # what running the whole once more came to
    tried: Mapping[str, tuple[Signature, ...]] = {}  # probe -> what each try came to
    data: tuple[Change, ...] = ()
    code: tuple[Change, ...] = ()
    packages: tuple[Change, ...] = ()  # that the step's code uses
    other_packages: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()
    threads: tuple[Change, ...] = ()
    unseen: tuple[str, ...] = ()
    here: bool = False  # the present environment was used, not the recorded one


SAME = "same"  # nothing is held otherwise
ONE_THREAD = "one thread"
RECORDED_THREADS = "recorded threads"
HASH_0 = "hash seed 0"
HASH_1 = "hash seed 1"
SEEDED = "seeded"


def causes(evidence: Evidence) -> tuple[Cause, ...]:
    """The surest first. Never empty."""
    steady = _agrees(evidence.tried.get(SAME, ()), evidence.again)
    found = [*_from_records(evidence, steady), *(_steady(evidence) if steady else [self_disagreement(evidence.tried)])]
    if not any(each.sure == "proven" for each in found):
        found += _possible(evidence)
    found.sort(key=lambda each: _SURE.index(each.sure))
    return tuple(found) or (_unknown(),)


def self_disagreement(tried: Mapping[str, tuple[Signature, ...]], text: str = "it differs from itself") -> Cause:
    """Why a step that differs from itself under the same conditions does so."""
    if _agrees(tried.get(ONE_THREAD, ())):
        return Cause(
            "threads",
            "proven",
            f"{text}, and with one thread it does not: threads add up in the order in which they finish",
            "set OMP_NUM_THREADS=1 for the run, or sum in a fixed order",
        )
    if _agrees(tried.get(HASH_0, ())):
        return Cause(
            "hash order",
            "proven",
            f"{text}, and with PYTHONHASHSEED=0 it does not: the order of a set of texts decides",
            "sort before iterating over a set: for name in sorted(names)",
        )
    if _agrees(tried.get(SEEDED, ())):
        return Cause(
            "seed",
            "proven",
            f"{text}, and with seeded global generators it does not: it draws from `random` or `numpy.random` unseeded",
            "draw from a generator of its own: numpy.random.default_rng(context().seed)",
        )
    return Cause(
        "seed",
        "likely",
        f"{text} in fresh processes, on the same inputs: a generator without a seed, the clock, or an id made anew",
        "pass a seed: random.Random(context().seed), default_rng(context().seed), random_state=context().seed",
    )


def _from_records(evidence: Evidence, steady: bool) -> list[Cause]:
    """What the two runs recorded otherwise of this step's own code and data."""
    found = [
        Cause(
            "data", "proven" if steady else "likely", change.text, "put the data back as it was, or compare with diff"
        )
        for change in evidence.data
    ]
    if evidence.code:
        named = "; ".join(change.text for change in evidence.code[:3])
        found.append(Cause("code", "likely", named, "penstock diff shows the lines"))
    return found


def _steady(evidence: Evidence) -> list[Cause]:
    """It agrees with itself here: something that is otherwise here than it was there decides."""
    if evidence.data:
        return []
    recorded = evidence.recorded
    threads = _told(evidence.threads)
    if _agrees(evidence.tried.get(RECORDED_THREADS, ()), recorded):
        return [_threads("proven", f"with the threads of the recorded run ({threads}) it gives the recorded result")]
    if _agrees(evidence.tried.get(ONE_THREAD, ()), recorded):
        return [_threads("proven", "with one thread it gives the recorded result")]
    for name in (HASH_0, HASH_1):
        if _agrees(evidence.tried.get(name, ()), recorded):
            return [_hash("proven", f"with PYTHONHASHSEED={name[-1]} it gives the recorded result")]
    found = []
    one = evidence.tried.get(ONE_THREAD, ())
    if one and not _agrees(one, evidence.again):
        found.append(
            _threads("likely", "its result depends on the number of threads" + (f" ({threads})" if threads else ""))
        )
    zero, other = evidence.tried.get(HASH_0, ()), evidence.tried.get(HASH_1, ())
    if zero and other and zero[0] != other[0]:
        found.append(_hash("likely", "its result depends on PYTHONHASHSEED"))
    if evidence.packages:
        sure: Sureness = "possible" if found else "likely"
        found.append(_package(sure, evidence.packages, "its code uses", evidence.here))
    return found


def _possible(evidence: Evidence) -> list[Cause]:
    found = []
    if evidence.other_packages:
        found.append(_package("possible", evidence.other_packages, "also installed", evidence.here))
    if evidence.environment:
        found.append(Cause("environment", "possible", _told(evidence.environment), "run it where the first one ran"))
    for text in evidence.unseen[:3]:
        found.append(Cause("hidden input", "possible", text, "read it with penstock.read, or pass it as a parameter"))
    return found


def _threads(sure: Sureness, text: str) -> Cause:
    return Cause("threads", sure, text, "set OMP_NUM_THREADS for every run, or sum in a fixed order")


def _hash(sure: Sureness, text: str) -> Cause:
    return Cause("hash order", sure, text, "sort before iterating over a set, or set PYTHONHASHSEED for every run")


def _package(sure: Sureness, changes: Sequence[Change], what: str, here: bool) -> Cause:
    shown = ", ".join(change.text.removeprefix("package ") for change in changes[:4])
    more = f", … ({len(changes)})" if len(changes) > 4 else ""
    fix = "run it in the recorded environment: penstock reproduce RUN, without --here" if here else ""
    return Cause("package", sure, f"{what}: {shown}{more}", fix)


def _unknown() -> Cause:
    return Cause(
        "unknown",
        "possible",
        "it agrees with itself here, and nothing that was recorded differs: something outside that it does not declare",
        "read data with penstock.read; declare variables with @step(env=…)",
    )


def _told(changes: Sequence[Change]) -> str:
    return ", ".join(change.text for change in changes)


def _agrees(tried: Sequence[Signature], *others: Signature) -> bool:
    """Whether there were tries, all came to the same, and the others too."""
    return bool(tried) and len({*tried, *others}) == 1 and len(tried) + len(others) > 1
