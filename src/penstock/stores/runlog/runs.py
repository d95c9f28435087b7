"""Runs and what happened in them: create, append, read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...core.canonical import digest_bytes
from ...core.errors import NotFoundError, did_you_mean
from ...core.ids import run_id as make_run_id
from ...ports.events import AttemptStarted, Event, RunFinished, RunResumed, RunStarted, attempts_of
from ...ports.records import Attempt, RunRecord, RunState, RunSummary, StepRun
from ...ports.runlog import Claim, Instance, RunQuery
from .appending import Append, StepKey
from .database import Batch, Database, Row, packed, place_of
from .liveness import LEASE_US, LivenessPart
from .rows import STATES, StoredRun, StoredStep, decoded_event, event_body, record_row, seqs_of, set_counts
from .waiting import WaitingPart

_PAGE = 200


_KEPT = 4096  # digests of inline values, and step runs that are over: past these it is looked up what was known


class _Known:
    """What this process knows of one run, good while its head (epoch, last event) is as it was: every append moves
    it, so nothing that another process changed is ever used."""

    __slots__ = ("complete", "done", "epoch", "last_seq", "run_no", "steps")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.run_no = self.epoch = self.last_seq = -1
        self.steps: dict[StepKey, StoredStep] = {}  # those that this process may still need
        self.done: set[StepKey] = set()  # stored too, but nothing more is to be expected of them
        self.complete = False  # no other step run is stored


class RunsPart(LivenessPart, WaitingPart):
    """The RunLog of ports.runlog."""

    database: Database
    _known: dict[str, _Known]
    _inline: set[str]  # digests of values that lie in no blob, as far as this process has seen

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
            run_no: int = row[0]
            batches: list[Batch] = [
                ("insert_run_record", [record_row(run_no, stored)]),
                ("insert_manifest", [(packed(stored.manifest), graph)]),
                ("insert_event", [(place_of(run_no, 1), event_body(RunStarted(at=at)))]),
            ]
            if stored.tags:
                batches.append(("insert_run_tag", [(name, value, run_no) for name, value in stored.tags.items()]))
            database.write(batches)
        fresh = self._known[stored.id] = _Known()
        fresh.run_no, fresh.epoch, fresh.last_seq, fresh.complete = run_no, stored.epoch, 1, True
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

    def append(
        self, run_id: str, epoch: int, events: Sequence[Event], claims: Mapping[Instance, Claim] | None = None
    ) -> dict[Instance, str]:
        refused: dict[Instance, str] = {}
        if not events:
            return refused
        with self.database.lock:
            known = self._known.get(run_id) or self._known.setdefault(run_id, _Known())
            waiting = list(self._waiting)
            with self.database.transaction():
                claimed: frozenset[Instance] = frozenset()
                if claims:
                    claimed, refused = self._claimed(run_id, events, claims)
                    if refused:
                        events = [e for e in events if not (type(e) is AttemptStarted and (e.step, e.index) in refused)]
                change, is_over = self._changed(run_id, epoch, events, known, claimed)
                self.database.write([*waiting, *change.run_batches(), *change.step_batches()])
                if is_over:
                    set_counts(self.database, change.run_no)
                last_seq, known.last_seq = change.seq, -1  # until the commit is through, it proves nothing
            self._written(waiting)
            self._remember(known, change, last_seq)
            if events and type(events[-1]) is RunFinished:
                self._known.pop(run_id, None)
        return refused

    def _changed(
        self, run_id: str, epoch: int, events: Sequence[Event], known: _Known, claimed: frozenset[Instance]
    ) -> tuple[Append, bool]:
        """What the events do to the rows, against the run as it is in this transaction; and whether the run is over."""
        head = self.database.head(run_id)
        if head is None:
            raise self._no_run(run_id)
        run_no, stored_epoch, state, last_seq = head
        if (stored_epoch, last_seq) != (known.epoch, known.last_seq):
            known.forget()
            known.run_no, known.epoch, known.last_seq = run_no, stored_epoch, last_seq
        is_over = state != RunState.RUNNING or any(type(event) is RunFinished for event in events)
        return self._change(run_id, epoch, events, known, claimed, is_over=state != RunState.RUNNING), is_over

    def _change(
        self,
        run_id: str,
        epoch: int,
        events: Sequence[Event],
        known: _Known,
        claimed: frozenset[Instance],
        *,
        is_over: bool,
    ) -> Append:
        database, run_no = self.database, known.run_no

        def find(key: StepKey) -> StoredStep | None:
            found = known.steps.get(key)
            if found is not None or (known.complete and key not in known.done):
                return found
            return self._find_step(run_no, key)

        if len(self._inline) > _KEPT:
            self._inline.clear()
        change = Append(
            run_id,
            run_no,
            known.epoch,
            known.last_seq,
            find,
            lambda: self._all_steps(run_no),
            lambda: database.now_us() + LEASE_US,
            claimed,
            self._inline,
            is_over,
        )
        for event in events:
            if type(event) is RunResumed:
                epoch = event.epoch  # whoever takes the run over writes as its new owner from here on
            change.add(event, epoch)
        return change

    def _remember(self, known: _Known, change: Append, last_seq: int) -> None:
        for key in change.gone:
            known.steps.pop(key, None)
            known.done.discard(key)
        for key, stored in change.steps.items():
            if stored.run.state.done:
                known.steps.pop(key, None)
                if known.complete:
                    known.done.add(key)
                    if len(known.done) >= _KEPT:
                        known.complete = False
                        known.done.clear()
            else:
                known.steps[key] = stored
        known.epoch, known.last_seq = change.epoch, last_seq

    def _claimed(
        self, run_id: str, events: Sequence[Event], claims: Mapping[Instance, Claim]
    ) -> tuple[frozenset[Instance], dict[Instance, str]]:
        """Which instances have their key to themselves now, and which must wait, for which run."""
        keys = {(e.step, e.index): e.key for e in events if type(e) is AttemptStarted and e.key is not None}
        claimed: set[Instance] = set()
        refused: dict[Instance, str] = {}
        for instance in sorted((each for each in claims if each in keys), key=lambda each: str(keys[each])):
            claim, digest = claims[instance], packed(str(keys[instance]))
            self.database.lock_key(digest)
            rows = self.database.rows("claims", (digest, digest))
            holder = self._holder(run_id, instance, rows, beside_own=claim.has_waited)
            if rows[0][0] > claim.seen:
                refused[instance] = ""
            elif holder is not None:
                refused[instance] = holder
            elif not claim.has_waited or any(row[4] is not None for row in rows):
                claimed.add(instance)
        return frozenset(claimed), refused

    def _holder(self, run_id: str, instance: Instance, rows: Sequence[Row], *, beside_own: bool) -> str | None:
        """The run that computes a key elsewhere. An earlier attempt of the instance itself is followed by this one;
        `beside_own`: what the same run computes is not waited for again."""
        for _, _, step, index, holder, state, host, lease_until in rows:
            if holder == run_id and (step, index) != instance and not beside_own:
                return run_id
            if holder not in (None, run_id) and state == "running" and self._is_at_work(holder, host, lease_until):
                return str(holder)
        return None

    def _is_at_work(self, run_id: str, host: str, lease_until: int | None) -> bool:
        """Whether a run's owner lives and does what it should: one that hangs lets its lease run out."""
        if not self._owner_alive(run_id, host, lease_until):
            return False
        return lease_until is not None and lease_until > self.database.now_us()

    def find_run(self, run_id: str) -> RunSummary | None:
        rows = self.database.rows_where("select_runs", "WHERE r.id = ?", (run_id,))
        return self._summary(StoredRun(rows[0])) if rows else None

    def run_of_key(self, idempotency_key: str) -> str | None:
        row = self.database.one("run_id_of_key", (idempotency_key,))
        return None if row is None else str(row[0])

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
        return [(seq, decoded_event(body)) for seq, body in self.database.rows("events", (after, run_id))]

    def step_runs(self, run_id: str) -> list[StepRun]:
        """In the order in which they first appeared."""
        row = self.database.one("run_no", (run_id,))
        return [] if row is None else [stored.run for stored in self._all_steps(row[0])]

    def attempts(self, run_id: str, step: str | None = None) -> list[Attempt]:
        found = attempts_of(event for _, event in self.events(run_id))
        return [attempt for attempt in found if step is None or attempt.step == step]

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
        if stored.state is not RunState.RUNNING:
            return stored.summary
        alive = self._owner_alive(stored.run_id, stored.host, stored.lease_until)
        state = RunState.RUNNING if alive else RunState.INTERRUPTED
        counts: dict[str, int] = dict(self.database.rows("counts", (stored.run_no,)))
        in_order = {name: counts[name] for name in STATES if name in counts}
        return msgspec.structs.replace(stored.summary, state=state, counts=in_order)

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
                found = self.database.one("event", (place_of(run_no, seq),))
                assert found is not None
                read[seq] = decoded_event(found[0])
            return read[seq]

        return StoredStep.from_row(row, event_at)

    def _all_steps(self, run_no: int) -> list[StoredStep]:
        rows = self.database.rows("step_runs", (run_no,))
        if not rows:
            return []
        needed = {seq for row in rows for seq in seqs_of(row)}
        bodies = self.database.rows("events_of", (place_of(run_no, min(needed)), place_of(run_no + 1, 0)))
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
