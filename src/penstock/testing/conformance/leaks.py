"""Looks for planted secrets where none may be: in files, as text and in the forms that databases give to bytes."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from ...ports.runlog import Store

_CHUNK = 1 << 22


def forms(value: str) -> tuple[bytes, ...]:
    """How a value may lie in a file: as it is, as hexadecimal digits, in base64 at any of three offsets.

    >>> forms("token-of-mine")[1][:8]
    b'746f6b65'
    """
    plain = value.encode()
    inside = [base64.b64encode(b"." * shift + plain)[4:-4] for shift in range(3)]
    return (plain, plain.hex().encode(), *inside)


def found_in_files(secrets: Mapping[str, str], places: Iterable[Path]) -> Iterator[str]:
    """A line for each file that holds a secret, which it names but does not tell."""
    wanted = [(name, form) for name, value in secrets.items() for form in forms(value)]
    longest = max((len(form) for _, form in wanted), default=0)
    for path in _files(places):
        yield from (f"the secret {name} lies in {path}" for name in sorted(_names_in(path, wanted, longest)))


def found_in_store(secrets: Mapping[str, str], store: Store, run_id: str) -> Iterator[str]:
    """The same for what the run log tells of a run, however its database stores it."""
    summary = store.find_run(run_id)
    assert summary is not None
    texts = {
        "events": msgspec.json.encode([event for _, event in store.events(run_id)]),
        "record": msgspec.json.encode(summary.record),
        "manifest": store.manifest(summary.record.manifest),
        "printed text": msgspec.json.encode(list(store.read_text(run_id))),
    }
    for name, value in secrets.items():
        for what, text in texts.items():
            if any(form in text for form in forms(value)):
                yield f"the secret {name} is in the {what} of run {run_id}"


def _files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_file():
            yield place
        for folder, _, names in os.walk(place):
            yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def _names_in(path: Path, wanted: list[tuple[str, bytes]], longest: int) -> set[str]:
    names: set[str] = set()
    rest = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                content = rest + chunk
                names |= {name for name, form in wanted if form in content}
                rest = content[-longest:]
    except FileNotFoundError:  # a server that is still there has deleted it just now
        pass
    return names
