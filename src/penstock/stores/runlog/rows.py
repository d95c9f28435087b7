"""From rows to records and back: which column is which field, written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from ...ports.events import EVENT_DECODER, Event
from ...ports.records import Attempt, RunRecord, RunState, RunSummary, StepRun, StepState
from .database import Row, packed, unpacked

ENCODER = msgspec.json.Encoder()
_COLUMNS = {
    "step", "index", "state", "attempts", "key", "started_at", "finished_at", "seconds", "retry_at", "note"
}  # fmt: skip
# Every other field of a step run is a large part: its row keeps the number of the event that holds it, under the same
# name. A field that is added to StepRun and to an event is stored without a migration.
LARGE = tuple(field for field in StepRun.__struct_fields__ if field not in _COLUMNS)
STATES = tuple(state.value for state in StepState)  # the order of the counters in `update_run` and `select_runs`
STATE_AT = {state: at for at, state in enumerate(StepState)}

_event = EVENT_DECODER.decode
_decode = msgspec.json.decode
Sources = dict[str, int]
_sources = msgspec.json.Decoder(Sources).decode
_part = attrgetter(*LARGE)


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


def decoded_event(body: str) -> Event:
    return _event(body)


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
    """A step run, and which events hold its large parts."""

    __slots__ = ("first_seq", "run", "sources")

    def __init__(self, run: StepRun, first_seq: int, sources: Sources) -> None:
        self.run = run
        self.first_seq = first_seq
        self.sources = sources

    @classmethod
    def from_row(cls, row: Row, event_at: Callable[[int], Event]) -> StoredStep:
        sources = sources_of(row)
        run = StepRun(
            step=row[0],
            index=row[1],
            state=StepState(row[2]),
            attempts=row[3],
            key=None if row[4] is None else unpacked(row[4]),
            started_at=row[5],
            finished_at=row[6],
            seconds=row[7],
            retry_at=row[8],
            note=row[9],
            **{name: getattr(event_at(seq), name) for name, seq in sources.items()},
        )
        return cls(run, row[10], sources)

    def followed_by(self, run: StepRun, seq: int) -> StoredStep:
        """This step run after event `seq` made `run` of it."""
        sources = dict(self.sources)
        for name, value, before in zip(LARGE, _part(run), _part(self.run), strict=True):
            if value is not before:
                if value:
                    sources[name] = seq
                else:
                    sources.pop(name, None)
        return StoredStep(run, self.first_seq, sources)

    def row(self, run_no: int) -> Row:
        """The values of `upsert_step_run`."""
        run = self.run
        return (
            run_no,
            run.step,
            run.index,
            run.state.value,
            run.attempts,
            None if run.key is None else packed(run.key),
            run.started_at,
            run.finished_at,
            run.seconds,
            run.retry_at,
            run.note,
            self.first_seq,
            encoded(self.sources),
        )


def sources_of(row: Row) -> Sources:
    """Which events hold the large parts of a row of `step_run`."""
    return _sources(row[11])


def attempt_from(row: Sequence[Any]) -> Attempt:
    """A row of `attempts`."""
    return Attempt(
        step=row[0],
        index=row[1],
        number=row[2],
        started_at=row[3],
        finished_at=row[4],
        state=row[5],
        host=row[6],
        pid=row[7],
        seconds=row[8],
        cpu_seconds=row[9],
        failure=None if row[10] is None else getattr(_event(row[10]), "failure", None),
    )
