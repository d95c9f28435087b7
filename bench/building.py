"""Fills a run log with copies of real runs, through the store's own `create` and `append`.

Run by the interpreter that holds penstock: `python building.py FOLDER STEP_RUNS`, where FOLDER is a project with one
real run of each of `templates`. A copy has a run id, times, keys, values and digests of its own; a digest is that of
its value, as everywhere. Half of the step runs lie in runs of 100 steps, half in runs of 1,000.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import msgspec

from penstock.core.canonical import digest_bytes
from penstock.core.ids import run_id
from penstock.ports.events import Event, RunStarted
from penstock.ports.runlog import RunQuery, Store
from penstock.stores.runlog import open_store

BATCH = 250  # events an append takes at most; the scheduler flushes at 256
PER_CYCLE = (("chain", 10), ("fanned", 1))  # so many copies in turn: 1,000 step runs of each kind
_DIGEST = re.compile(r'"([0-9a-f]{64})"')
_AT = re.compile(r'"at":(\d+)')
_INLINE = re.compile(r'"digest":"([0-9a-f]{64})","codec":"json","size_bytes":(\d+),"inline":"([^"]*)"')
_NUMBER = re.compile(r"\d+")
_EVENTS = msgspec.json.Decoder(list[Event])


class Template:
    """A real run, and how to make another one of it."""

    def __init__(self, store: Store, pipeline: str) -> None:
        summary = store.list_runs(RunQuery(pipeline=pipeline, limit=1))[0]
        self.record = summary.record
        self.manifest = store.manifest(self.record.manifest)
        events = [event for _, event in store.events(self.record.id) if not isinstance(event, RunStarted)]
        self.text = msgspec.json.encode(events).decode()
        self.step_runs = sum(summary.counts.values())
        self.started_at = summary.started_at
        self.values = {found[1]: found[3] for found in _INLINE.finditer(self.text)}
        self.values |= {digest_bytes(text.encode()): text for text in self.record.parameters.values()}
        self.kept = set(self.record.code["steps"].values())  # the same code made every copy

    def copy(self, number: int, at: int) -> tuple[str, dict[str, str], list[Event]]:
        """The run's id, its parameters and its events, `number` making it unlike every other copy."""
        texts = {digest: _moved(text, number) for digest, text in self.values.items()}
        digests = {digest: digest_bytes(text.encode()) for digest, text in texts.items()}
        salt = str(number).encode()

        def other_digest(found: re.Match[str]) -> str:
            known = found[1]
            if known in self.kept:
                return found[0]
            if known not in digests:
                digests[known] = hashlib.sha256(salt + known.encode()).hexdigest()
            return f'"{digests[known]}"'

        def other_value(found: re.Match[str]) -> str:
            text = texts[found[1]]
            return f'"digest":"{found[1]}","codec":"json","size_bytes":{len(text)},"inline":"{text}"'

        moved = _INLINE.sub(other_value, self.text)
        moved = _DIGEST.sub(other_digest, moved)
        moved = _AT.sub(lambda found: f'"at":{int(found[1]) - self.started_at + at}', moved)
        parameters = {name: _moved(text, number) if name == "start" else text
                      for name, text in self.record.parameters.items()}  # fmt: skip
        return run_id(self.record.pipeline, at), parameters, _EVENTS.decode(moved)


def _moved(text: str, number: int) -> str:
    """A value of the same size that no other copy has: every number of seven digits or more moves on."""
    return _NUMBER.sub(lambda found: str(int(found[0]) + 2_000 * number) if len(found[0]) > 6 else found[0], text)


def main() -> None:
    folder, wanted = Path(sys.argv[1]), int(sys.argv[2])
    home = folder / ".penstock"
    store = open_store(f"sqlite:///{home / 'runs.db'}", home=home)
    templates = {name: Template(store, name) for name, _ in PER_CYCLE}
    made = sum(template.step_runs for template in templates.values())
    number, at = 0, min(template.started_at for template in templates.values()) - 300 * 86_400_000_000
    while made < wanted:
        for name, copies in PER_CYCLE:
            template = templates[name]
            for _ in range(copies):
                number, at = number + 1, at + 3_600_000_000
                add(store, template, number, at)
                made += template.step_runs
    store.close()
    print(made)


def add(store: Store, template: Template, number: int, at: int) -> None:
    name, parameters, events = template.copy(number, at)
    record = msgspec.structs.replace(template.record, id=name, parameters=parameters, created_at=at)
    stored = store.create(record, template.manifest, at)
    for first in range(0, len(events), BATCH):
        store.append(stored.id, stored.epoch, events[first : first + BATCH])


if __name__ == "__main__":
    main()
