"""Runs and what happened in them: create, append, read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...core.canonical import digest_bytes
from ...core.errors import FencedError, NotFoundError, did_you_mean
from ...core.ids import run_id as make_run_id
from ...ports.events import Event, RunFinished, RunResumed, RunStarted
from ...ports.records import Attempt, RunRecord, RunState, RunSummary, StepRun
from ...ports.runlog import RunQuery
from .appending import Append, StepKey
from .database import Batch, ConflictError, Database, packed
from .liveness import LEASE_US, LivenessPart
from .rows import StoredRun, StoredStep, attempt_from, decoded_event, encoded, record_row, sources_of
from .waiting import WaitingPart

_PAGE = 200


class _Known:
    """Step runs of one run that this process may still need, good while the run's last event is `last_seq`: every
    append moves it, so a step run that another process changed is never used."""

    __slots__ = ("last_seq", "steps")

    def __init__(self) -> None:
        self.last_seq = -1
        self.steps: dict[StepKey, StoredStep] = {}


class RunsPart(LivenessPart, WaitingPart):
    """The RunLog of ports.runlog."""

    database: Database
    _known: dict[str, _Known]

    def create(self, record: RunRecord, graph: bytes, at: int) -> RunRecord:
        database = self.database
        lease_until = database.now_us() + LEASE_US
        with database.transaction():
            stored, bump = record, 0
            while not self._insert_run(stored, at, lease_until):
                if record.idempotency_key is not None:
                    known = database.one("run_id_of_key", (record.idempotency_key,))
                    if known is not None:
                        return self._stored_run(known[0]).summary.record
                bump += 1
                stored = msgspec.structs.replace(record, id=make_run_id(record.pipeline, at, bump=bump))
            row = database.one("run_no", (stored.id,))
            assert row is not None
            batches: list[Batch] = [
                ("insert_run_record", [record_row(row[0], stored)]),
                ("insert_manifest", [(packed(stored.manifest), graph)]),
                ("insert_event", [(row[0], 1, encoded(RunStarted(at=at)))]),
            ]
            if stored.tags:
                batches.append(("insert_run_tag", [(name, value, row[0]) for name, value in stored.tags.items()]))
            database.write(batches)
        return stored

    def _insert_run(self, record: RunRecord, at: int, lease_until: int) -> bool:
        values = (
            record.id,
            record.pipeline,
            record.idempotency_key,
            packed(record.manifest),
            record.host,
            record.pid,
            record.epoch,
            at,
            lease_until,
        )
        return self.database.run("insert_run", values) == 1

    def append(self, run_id: str, epoch: int, events: Sequence[Event]) -> None:
        if not events:
            return
        with self.database.lock:
            known = self._known.get(run_id) or self._known.setdefault(run_id, _Known())
            waiting = list(self._waiting)
            with self.database.transaction():
                change = self._change(run_id, epoch, events, known)
                try:
                    self.database.write([*waiting, *change.batches()])
                except ConflictError as error:
                    raise FencedError(
                        f"an attempt in run '{run_id}' belongs to another process: {error.problem}"
                    ) from error
                known.last_seq = -1  # should the commit fail or be interrupted, what is known here proves nothing
            self._written(waiting)
            for key in change.gone:
                known.steps.pop(key, None)
            for key, stored in change.steps.items():
                if stored.run.state.done:
                    known.steps.pop(key, None)  # nothing more is to be expected of it
                else:
                    known.steps[key] = stored
            known.last_seq = change.seq
            if isinstance(events[-1], RunFinished):
                self._known.pop(run_id, None)

    def _change(self, run_id: str, epoch: int, events: Sequence[Event], known: _Known) -> Append:
        """What the events do to the rows, against the run as it is in this transaction."""
        database = self.database
        head = database.one("lock_run", (run_id,))
        if head is None:
            raise self._no_run(run_id)
        run_no, stored_epoch, last_seq = head
        if known.last_seq != last_seq:
            known.steps.clear()
        change = Append(
            run_id,
            run_no,
            stored_epoch,
            last_seq,
            lambda key: known.steps.get(key) or self._find_step(run_no, key),
            lambda: self._all_steps(run_no),
            lambda: database.now_us() + LEASE_US,
        )
        for event in events:
            if type(event) is RunResumed:
                epoch = event.epoch  # whoever takes the run over writes as its new owner from here on
            change.add(event, epoch)
        return change

    def find_run(self, run_id: str) -> RunSummary | None:
        rows = self.database.rows_where("select_runs", "WHERE r.id = ?", (run_id,))
        return self._summary(StoredRun(rows[0])) if rows else None

    def match_runs(self, prefix: str) -> list[str]:
        """Ids that begin or end with this text, newest first (a hundred at most)."""
        text = prefix.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
        return [row[0] for row in self.database.rows("match_runs", (f"{text}%", f"%{text}"))]

    def list_runs(self, query: RunQuery) -> list[RunSummary]:
        conditions, values = _conditions(query)
        before = None
        if query.before is not None:
            found = self._stored_run(query.before)
            before = (found.summary.started_at, found.run_no)
        result: list[RunSummary] = []
        page = min(query.limit, _PAGE)
        while len(result) < query.limit:
            tail, given = list(conditions), list(values)
            if before is not None:
                tail.append("(r.started_at < ? OR (r.started_at = ? AND r.no < ?))")
                given += [before[0], before[0], before[1]]
            where = "WHERE " + " AND ".join(tail) if tail else ""
            rows = self.database.rows_where(
                "select_runs", f"{where} ORDER BY r.started_at DESC, r.no DESC LIMIT {page}", given
            )
            stored = [StoredRun(row) for row in rows]
            summaries = [self._summary(each) for each in stored]
            # Whether an owner is alive is not in the table, so running and interrupted runs are told apart here.
            result += [each for each in summaries if query.state in (None, each.state)]
            if len(rows) < page:
                break
            before = (stored[-1].summary.started_at, stored[-1].run_no)
        return result[: query.limit]

    def events(self, run_id: str, after: int = 0) -> list[tuple[int, Event]]:
        return [(seq, decoded_event(body)) for seq, body in self.database.rows("events", (run_id, after))]

    def step_runs(self, run_id: str) -> list[StepRun]:
        """In the order in which they first appeared."""
        row = self.database.one("run_no", (run_id,))
        return [] if row is None else [stored.run for stored in self._all_steps(row[0])]

    def attempts(self, run_id: str, step: str | None = None) -> list[Attempt]:
        rows = self.database.rows("attempts", (run_id,))
        return [attempt_from(row) for row in rows if step is None or row[0] == step]

    def manifest(self, digest: str) -> bytes:
        self.flush()
        row = self.database.one("manifest", (packed(digest),))
        if row is None:
            raise NotFoundError(f"there is no manifest {digest[:12]} in {self.database.name}")
        return bytes(row[0])

    def put_manifest(self, graph: bytes) -> str:
        """Keep a graph for a resume with the current code; stored with the RunResumed that names it."""
        digest = digest_bytes(graph)
        self._waiting.append(("insert_manifest", [(packed(digest), graph)]))
        return digest

    def _summary(self, stored: StoredRun) -> RunSummary:
        if stored.state is RunState.RUNNING and not self._owner_alive(stored.run_id, stored.host, stored.lease_until):
            return msgspec.structs.replace(stored.summary, state=RunState.INTERRUPTED)
        return stored.summary

    def _stored_run(self, run_id: str) -> StoredRun:
        rows = self.database.rows_where("select_runs", "WHERE r.id = ?", (run_id,))
        if not rows:
            raise self._no_run(run_id)
        return StoredRun(rows[0])

    def _no_run(self, run_id: str) -> NotFoundError:
        recent = [row[0] for row in self.database.rows("match_runs", ("%", ""))]
        return NotFoundError(f"there is no run '{run_id}' in {self.database.name}", hint=did_you_mean(run_id, recent))

    def _find_step(self, run_no: int, key: StepKey) -> StoredStep | None:
        row = self.database.one("step_run", (run_no, *key))
        if row is None:
            return None
        read: dict[int, Event] = {}

        def event_at(seq: int) -> Event:
            if seq not in read:
                found = self.database.one("event", (run_no, seq))
                assert found is not None
                read[seq] = decoded_event(found[0])
            return read[seq]

        return StoredStep.from_row(row, event_at)

    def _all_steps(self, run_no: int) -> list[StoredStep]:
        rows = self.database.rows("step_runs", (run_no,))
        needed = {seq for row in rows for seq in sources_of(row).values()}
        bodies = self.database.rows("events_of", (run_no, min(needed, default=0)))
        events = {seq: decoded_event(body) for seq, body in bodies if seq in needed}
        return [StoredStep.from_row(row, events.__getitem__) for row in rows]


def _conditions(query: RunQuery) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if query.pipeline is not None:
        conditions.append("r.pipeline = ?")
        values.append(query.pipeline)
    if query.state is RunState.INTERRUPTED:
        conditions.append("r.state IN ('running', 'interrupted')")
    elif query.state is not None:
        conditions.append("r.state = ?")
        values.append(query.state.value)
    for name, value in query.tags.items():
        conditions.append("EXISTS (SELECT 1 FROM run_tags t WHERE t.name = ? AND t.value = ? AND t.run_no = r.no)")
        values += [name, value]
    return conditions, values
