"""Which step runs made and took what lies in blobs: by the events, and by the table."""

from __future__ import annotations

from penstock.ports.events import AttemptStarted, StepCached, StepSucceeded
from penstock.stores.runlog import SqlStore
from penstock.stores.runlog.database import unpacked


def digests_by_event(store: SqlStore, run_id: str) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """(digest, event) of what was made and lies in blobs, and of what was taken."""
    made, taken = set(), set()
    for seq, event in store.events(run_id):
        if isinstance(event, StepSucceeded | StepCached):
            made |= {(ref.digest, seq) for ref in event.outputs.values() if ref.inline is None}
        if isinstance(event, AttemptStarted | StepCached):
            taken |= {(digest, seq) for digests in event.inputs.values() for digest in digests}
    return made, taken


def uses_of(store: SqlStore, run_id: str) -> set[tuple[str, int]]:
    rows = store.database.connection.execute(
        "SELECT r.id, u.digest, u.place & 4294967295 FROM uses u JOIN runs r ON r.no = u.place / 4294967296"
    ).fetchall()
    return {(unpacked(digest), seq) for found, digest, seq in rows if found == run_id}
