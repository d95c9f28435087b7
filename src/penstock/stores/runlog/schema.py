"""The one migration path. Expand and contract:

A migration that expands only adds (tables, columns with a default), so that the penstock before it may go on writing:
it keeps `-- min_writer:` where it was. What is no longer used is removed in a later release, by a migration that
contracts: it raises `min_writer` to the first version that does without. A store says (version, min_writer); a penstock
that knows migrations up to N may write it if min_writer <= N, brings it to N where it is older, leaves it as it is
where it is newer, and refuses it, before anything is written, where min_writer > N.

A writer that is older than `min_writer` cannot finish what it is doing. So a store is not contracted while one of its
runs has a living owner (StoreInUseError), and SQLite's file is copied before.

0002 expands and contracts at once, without the release in between: version 1 was never released, so there are no
stores to carry two forms of every event for. The next one does it in two steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ...core.errors import StoreInUseError, StoreTooNewError
from ...ports.events import RunResumed
from .appending import Append
from .database import SQL_FOLDER, Database, place_of
from .rows import decoded_event, set_counts

VERSION = 2  # the newest migration in sql/
Alive = Callable[[str, str, int | None], bool]  # run, host, lease_until: whether the run's owner is there
_REMAKES = frozenset({2})  # migrations after which the projections are made anew from the events


def prepare(database: Database, at: int, alive: Alive) -> None:
    """Check the store's version, and migrate it if it is older. Safe when several processes do so at once."""
    found = database.found_version()
    if found is None:
        database.prepare_fresh()
    if found is None or _older(database, found):
        migrate(database, at, alive)
    database.ready()


def _older(database: Database, found: tuple[int, int]) -> bool:
    version, min_writer = found
    if min_writer > VERSION:
        raise StoreTooNewError(
            f"{database.name} was written by a newer penstock: its schema is {version} and takes writers from "
            f"{min_writer}; this one knows up to {VERSION}",
            hint="upgrade penstock (pip install -U penstock), or use another store",
        )
    return version < VERSION


def migrate(database: Database, at: int, alive: Alive) -> None:
    """Apply, in one transaction under a lock, what the store does not have yet."""
    with database.transaction():
        database.lock_schema()
        found = database.found_version()  # again: another process may have been faster
        if found is not None:
            _older(database, found)
        missing = [each for each in _migrations() if found is None or each[0] > found[0]]
        if found is not None and any(_min_writer(text) > found[1] for _, text in missing):
            database.lock_runs()
            _refuse_beside_runs(database, found[0], alive)
            database.keep_copy(found[0])
        for version, text in missing:
            database.script(text)
            if version in _REMAKES and found is not None:
                remake_projections(database)
            database.run("insert_schema", (version, _min_writer(text), at))


def _refuse_beside_runs(database: Database, version: int, alive: Alive) -> None:
    """Whoever owns a run of this store opened it as it is, or as it was before that, and writes it so."""
    for run_id, host, pid, lease_until in database.rows("running_owners"):
        if alive(run_id, host, lease_until):
            raise StoreInUseError(
                f"{database.name} has to be brought from version {version} to {VERSION}, but run '{run_id}' (process "
                f"{pid} on {host}) is in progress and could not write to it any more",
                hint=f"wait until it has ended, or stop it with the penstock that runs it (penstock cancel {run_id}), "
                "then try again",
            )


def remake_projections(database: Database) -> None:
    """Step runs and what hangs on them, from the events of every run: they hold nothing that is not in these."""
    for run_no, run_id, epoch in database.rows("run_numbers"):
        events = [
            decoded_event(body)
            for _, body in database.rows("events_of", (place_of(run_no, 0), place_of(run_no + 1, 0)))
        ]
        first = epoch - sum(type(event) is RunResumed for event in events)
        change = Append(run_id, run_no, first, 0, lambda key: None, list, lambda: 0)
        for event in events:
            change.add(event, event.epoch if isinstance(event, RunResumed) else change.epoch)
        database.write(change.step_batches())
        set_counts(database, run_no)


def _migrations() -> list[tuple[int, str]]:
    result = []
    for file in sorted(name for name in os.listdir(SQL_FOLDER) if name[0].isdigit()):
        with open(os.path.join(SQL_FOLDER, file), encoding="utf-8") as opened:
            result.append((int(file.partition("_")[0]), opened.read()))
    return result


def _min_writer(text: str) -> int:
    return int(text.partition("-- min_writer:")[2].partition("\n")[0])
