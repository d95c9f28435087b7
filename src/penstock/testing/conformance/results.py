"""docs/backends.json: what each engine kept, when, and on which code. The page is drawn from it alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ...core.canonical import canonical_json
from ..codedigest import code_digest
from .campaign import Played
from .driving import EngineDriver

_SOURCE = Path(__file__).resolve().parent.parent.parent
_CONFORMANCE = Path(__file__).resolve().parent
_ROOMS = ("authoring", "backends", "core", "engine", "graph", "ports", "stores", "wiring")
_NO_FOLDER = re.compile(r"(?:/[^\s:'\"/]+)+/(?=[^\s/])")


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One case on one engine."""

    verdict: str
    told: tuple[str, ...] = ()  # differences, or why it was refused, or what broke
    emulated: tuple[str, ...] = ()


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One engine."""

    versions: dict[str, str]
    date: str
    command: str
    code: dict[str, str]  # room -> digest of what was tried
    full: bool = False
    declared: dict[str, tuple[str, str]] = {}  # feature -> the least support that a case got for it, and how
    cases: dict[str, Result] = {}


class Results(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every engine that has been tried."""

    engines: dict[str, Column] = {}


def code_now() -> dict[str, str]:
    """Room -> digest of what the results depend on, as it is now."""
    rooms = {room: code_digest([_SOURCE / room], _SOURCE) for room in _ROOMS if (_SOURCE / room).is_dir()}
    commands = sorted((_SOURCE / "cli" / "commands").glob("exec_*.py"))
    own = [_CONFORMANCE, _CONFORMANCE.parent / "rules.py"]
    return {**rooms, "engine commands": code_digest(commands, _SOURCE), "conformance": code_digest(own, _SOURCE)}


def column_of(driver: EngineDriver, played: Sequence[Played], command: str, *, full: bool) -> Column:
    """What is kept of an engine's campaign."""
    rank = ("supported", "emulated", "refused")
    declared: dict[str, tuple[str, str]] = {}
    for one in played:
        for feature, answer in driver.declared(one.case).items():
            before = declared.get(feature)
            if before is None or rank.index(answer.support) > rank.index(before[0]):
                declared[feature] = (answer.support, answer.how)
    return Column(
        versions=dict(driver.versions()),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        command=command,
        code=code_now(),
        full=full,
        declared=declared,
        cases={
            one.case.name: Result(one.verdict, tuple(_anywhere(each) for each in one.differences), one.emulated)
            for one in played
        },
    )


def load(path: Path) -> Results:
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()


def save(results: Results, path: Path) -> None:
    path.write_bytes(msgspec.json.format(canonical_json(results), indent=1) + b"\n")


def with_columns(results: Results, columns: Mapping[str, Column]) -> Results:
    """These results, with those of some engines anew."""
    return Results({**results.engines, **columns})


def faults(results: Results, cases: Sequence[str], required: Sequence[str], sample: Sequence[str] = ()) -> list[str]:
    """Why these results are not about the code that is here, or not good enough; [] where all is well.

    sample: cases that every engine must have been given; the local ones must have been given all.
    """
    now = code_now()
    found = [f"{name} has not been tried" for name in required if name not in results.engines]
    for name, column in results.engines.items():
        changed = sorted(room for room in {*now, *column.code} if now.get(room) != column.code.get(room))
        if changed:
            found.append(f"{name}: the code of {', '.join(changed)} has changed since it was tried")
        wanted = sample if sample and name not in LOCAL else cases
        if missing := [case for case in wanted if case not in column.cases]:
            found.append(f"{name} was not given {', '.join(missing)}")
        found += [f"{name}: {case} {one.verdict}" for case, one in column.cases.items() if one.verdict not in _FINE]
    return found


_FINE = ("kept", "refused")
LOCAL = ("local", "apart")


def _anywhere(text: str) -> str:
    """Without folders of the machine where it was tried."""
    return _NO_FOLDER.sub("…/", text)
