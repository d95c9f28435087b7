"""From rows to records and back: which column is which field, written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...ports.events import EVENT_DECODER, Event, RunResumed, StepEvent, next_step_run, reopened_step_run
from ...ports.records import RunRecord, RunState, RunSummary, StepRun, StepState
from .database import Database, Row, unpacked
from .packing import packed_text, unpacked_text

ENCODER = msgspec.json.Encoder()
STATES = tuple(state.value for state in StepState)  # the order of the counters in `set_counts` and `select_runs`

_event = EVENT_DECODER.decode
_decode = msgspec.json.decode


def encoded(value: Any) -> str:
    """JSON text. A lone surrogate (a file name that is not UTF-8, say) keeps a mark in its place."""
    try:
        return ENCODER.encode(value).decode()
    except UnicodeEncodeError:
        return ENCODER.encode(_mended(msgspec.to_builtins(value, builtin_types=(bytes,)))).decode()


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mended(each) for each in value]
    return value


def event_body(event: Event) -> bytes:
    """An event as it lies in the store."""
    try:
        return packed_text(ENCODER.encode(event))
    except UnicodeEncodeError:
        return packed_text(encoded(event).encode())


def decoded_event(body: bytes) -> Event:
    return _event(unpacked_text(body))


def record_row(run_no: int, record: RunRecord) -> Row:
    """The values of `insert_run_record`."""
    return (
        run_no,
        record.project,
        record.name,
        encoded(record.tags),
        record.user,
        record.parent,
        record.trigger,
        record.logical_time,
        record.created_at,
        encoded(record.parameters),
        encoded(record.code),
        encoded(record.environment),
        record.seed,
        encoded(record.options),
    )


class StoredRun:
    """A row of `select_runs`: the summary as stored, and what is known of the run's owner."""

    __slots__ = ("host", "lease_until", "run_id", "run_no", "state", "summary")

    def __init__(self, row: Row) -> None:
        record = RunRecord(
            id=row[0],
            pipeline=row[1],
            idempotency_key=row[2],
            manifest=unpacked(row[3]),
            host=row[4],
            pid=row[5],
            epoch=row[6],
            project=row[7],
            name=row[8],
            tags=_decode(row[9]),
            user=row[10],
            parent=row[11],
            trigger=row[12],
            logical_time=row[13],
            created_at=row[14],
            parameters=_decode(row[15]),
            code=_decode(row[16]),
            environment=_decode(row[17]),
            seed=row[18],
            options=_decode(row[19]),
        )
        self.run_no: int = row[34]
        self.run_id = record.id
        self.host = record.host
        self.lease_until: int | None = row[24]
        self.state = RunState(row[20])
        self.summary = RunSummary(
            record=record,
            state=self.state,
            started_at=row[21],
            finished_at=row[22],
            error=row[23],
            counts={state: count for state, count in zip(STATES, row[25:34], strict=True) if count},
        )


class StoredStep:
    """A step run, and the numbers of the events that made it what it is."""

    __slots__ = ("claim", "run", "seqs")

    def __init__(self, run: StepRun, seqs: tuple[int, ...] = (), claim: bytes | None = None) -> None:
        self.run = run
        self.seqs = seqs
        self.claim = claim

    @classmethod
    def from_row(cls, row: Row, event_at: Callable[[int], Event]) -> StoredStep:
        run = StepRun(row[0], row[1], StepState.PENDING)
        seqs = seqs_of(row)
        for seq in seqs:
            event = event_at(seq)
            if isinstance(event, RunResumed):
                run = reopened_step_run(run) or run
            elif isinstance(event, StepEvent):
                run = next_step_run(run, event)
        return cls(run, seqs)

    def row(self, run_no: int) -> Row:
        """The values of `upsert_step_run`."""
        run, seqs = self.run, self.seqs
        return (
            run_no,
            run.step,
            run.index,
            run.state.value,
            run.attempts,
            run.started_at,
            run.finished_at,
            run.seconds,
            self.claim,
            seqs[0],
            ",".join(map(str, seqs)),
        )


def seqs_of(row: Row) -> tuple[int, ...]:
    """Which events a row of `step_run` stands for."""
    return tuple(map(int, row[3].split(",")))


def set_counts(database: Database, run_no: int) -> None:
    """Keep how many step runs ended in which state, in the open transaction."""
    counts: dict[str, int] = dict(database.rows("counts", (run_no,)))
    database.run("set_counts", (*(counts.get(state, 0) for state in STATES), run_no))
