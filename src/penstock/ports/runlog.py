"""The run log: append-only events, and the tables that people and the engine read, updated in the same transaction.

Split by noun, so that an adapter stays small: a log of runs, an index of the cache, who may act, the text that steps
printed, and the source text behind fingerprints. One store usually answers all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from .artifacts import ArtifactRef
from .events import Event
from .records import Attempt, CodePart, Observation, RunRecord, RunState, RunSummary, StepRun


class RunQuery(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which runs to list, newest first."""

    pipeline: str | None = None
    state: RunState | None = None
    tags: dict[str, str] = {}
    limit: int = 20
    before: str | None = None  # a run id: only runs started before that one


class CacheEntry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A finished step that others may take the outputs of, while its observations hold."""

    key: str
    run_id: str
    step: str
    index: str
    outputs: dict[str, ArtifactRef]
    observations: tuple[Observation, ...] = ()
    metrics: dict[str, float] = {}
    note: str | None = None
    seconds: float = 0.0
    at: int = 0


Instance = tuple[str, str]  # step, index


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What an instance knows of the key that its start claims."""

    seen: int  # entries of the key, none of them a hit
    has_waited: bool = False  # for another computation, which kept nothing: if nobody claims it now, neither does this


class RunLog(Protocol):
    """Runs and what happened in them."""

    def create(self, record: RunRecord, graph: bytes, at: int) -> RunRecord:
        """Store the run, its manifest and RunStarted. A clash of ids bumps the id; a known idempotency key gives the
        run that has it. Returns the record as stored."""
        ...

    def append(
        self, run_id: str, epoch: int, events: Sequence[Event], claims: Mapping[Instance, Claim] | None = None
    ) -> dict[Instance, str]:
        """Append all or none, durably, and update the tables in the same transaction.

        `claims` says which instances' starts claim their key until the attempt is over. Where a living run's attempt
        elsewhere holds the key, or there are more entries by now, the start is left out of the append: returned are
        the instances so refused, with the run that holds their key ("" where a new entry is to be looked at).

        Raises FencedError: the run has a newer epoch; an attempt number is taken; or an attempt that is no longer the
        step's newest tries to finish. RunResumed must carry epoch + 1 of the stored one, and takes the run over.
        """
        ...

    def find_run(self, run_id: str) -> RunSummary | None:
        """By its whole id. Epoch, manifest, host and pid of the record are those of the newest owner; code and
        environment those of the newest RunResumed that brought some."""
        ...

    def run_of_key(self, idempotency_key: str) -> str | None:
        """The id of the run that was created with this key."""
        ...

    def match_runs(self, prefix: str) -> list[str]:
        """Ids that begin or end with this text, newest first."""
        ...

    def list_runs(self, query: RunQuery) -> list[RunSummary]: ...

    def events(self, run_id: str, after: int = 0) -> list[tuple[int, Event]]:
        """(sequence number, event) in order, those after the given number."""
        ...

    def step_runs(self, run_id: str) -> list[StepRun]: ...

    def attempts(self, run_id: str, step: str | None = None) -> list[Attempt]: ...

    def manifest(self, digest: str) -> bytes: ...

    def put_manifest(self, graph: bytes) -> str:
        """Keep another graph, for a RunResumed that names its digest; stored in that append's transaction."""
        ...


class Liveness(Protocol):
    """Whether the process that owns a run is still there: an OS lock on one host, a lease across hosts."""

    def hold(self, run_id: str, epoch: int) -> None:
        """Say that this process owns the run; renewed by `beat`, released by `release` or by dying."""
        ...

    def beat(self, run_id: str, epoch: int | None = None) -> bool:
        """Renew; returns whether somebody asked the run to cancel. Cheap enough for once a second.

        `epoch`: the one that the caller knows of a run that no process holds. Raises FencedError at a newer one.
        """
        ...

    def release(self, run_id: str) -> None: ...

    def alive(self, run_id: str) -> bool: ...


class CacheIndex(Protocol):
    """What has been computed already. Entries appear by StepSucceeded with a key, in its transaction."""

    def entries(self, key: str) -> list[CacheEntry]:
        """Newest first."""
        ...

    def forget(self, key: str, run_id: str) -> None:
        """Drop an entry whose bytes turned out to be gone or altered."""
        ...

    def lease(self, key: str, owner: str, seconds: float, *, while_alive: bool = False) -> bool:
        """Take or renew a right by name, such as the one to act on a receiver; False while another owner has it.
        An owner that died on this host has it no more; one elsewhere, until its lease runs out. `while_alive`: one
        that is seen to live on this host keeps it, though it had no time to renew (a computer that slept).

        Computing a cache key needs none: a running attempt claims its key (`append`).
        """
        ...

    def unlease(self, key: str, owner: str) -> None: ...

    def find_holder(self, key: str) -> str | None:
        """Who was the last to be given this lease; it may have run out since."""
        ...


class Fencing(Protocol):
    """Who may still act."""

    def owns_attempt(self, run_id: str, epoch: int, step: str, index: str, attempt: int) -> bool:
        """Whether the run is at this epoch, and this attempt is the step's newest and running."""
        ...


class LogText(Protocol):
    """What steps printed and logged, per attempt."""

    def write_text(self, run_id: str, step: str, index: str, attempt: int, text: str) -> None:
        """Add a chunk."""
        ...

    def read_text(
        self,
        run_id: str,
        step: str | None = None,
        index: str | None = None,
        attempt: int | None = None,
        after: int = 0,
    ) -> Iterator[tuple[int, str, str, int, str]]:
        """(sequence number, step, index, attempt, chunk) in the order written."""
        ...


class CodeText(Protocol):
    """The source behind fingerprints, so that `why` and `diff` can show lines."""

    def put_code(
        self, fingerprint: str, parts: Sequence[CodePart], packages: dict[str, str], unseen: Sequence[str] = ()
    ) -> None:
        """Remember what a fingerprint is made of, and what it cannot see; known digests cost nothing. A run's files are
        kept the same way, whole, under the name that its record has for them."""
        ...

    def get_code(self, fingerprint: str) -> tuple[list[CodePart], dict[str, str]] | None: ...

    def get_unseen(self, fingerprint: str) -> tuple[str, ...]:
        """What the fingerprint cannot see, in words, as it was put last."""
        ...


class Retention(Protocol):
    """What may be deleted."""

    def live_digests(self, without: Sequence[str] = ()) -> set[str]:
        """Digests of every blob that a run or cache entry refers to; `without`: as if these runs were deleted."""
        ...

    def delete_runs(self, run_ids: Sequence[str]) -> None:
        """Forget finished runs: events, tables, texts and their cache entries."""
        ...

    def version(self) -> int:
        """Schema version of the store."""
        ...

    def close(self) -> None: ...


class Store(RunLog, Liveness, CacheIndex, Fencing, LogText, CodeText, Retention, Protocol):
    """All of it, as one database gives it."""
