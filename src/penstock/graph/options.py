"""What a step or pipeline asks of whoever runs it, parsed: seconds, bytes and names, no text left to interpret."""

from __future__ import annotations

from typing import Literal

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which failures earn another attempt, and when.

    Units:  seconds. The delay before attempt n + 1 is min(cap, base x factor^(n - 1)), then jittered.
    """

    attempts: int = 1  # in total, the first included
    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 300.0
    jitter: Literal["none", "full", "equal"] = "none"
    on: tuple[str, ...] = ()  # "module:Class" of exceptions, or failure classes such as "timeout"; empty = any
    not_on: tuple[str, ...] = ()
    even_if_same: bool = False  # go on although a pure step has met the very same error twice in a row


class ResourceRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step would like to have; a place may waive it, and then that is recorded."""

    cpu: float | None = None
    memory_bytes: int | None = None
    gpu: int = 0


class Growth(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much more memory an attempt gets after one that ran out of it."""

    factor: float = 2.0
    cap_bytes: int | None = None

    def of(self, size_bytes: int, times: int) -> int:
        """This size, grown so often; never beyond the cap, and never below the size itself.

        >>> [Growth(2.0, 5000).of(1000, times) for times in range(4)]
        [1000, 2000, 4000, 5000]
        """
        cap = self.cap_bytes if self.cap_bytes is not None else _MOST_BYTES
        try:
            grown = int(min(size_bytes * self.factor**times, cap))
        except OverflowError:
            grown = cap
        return max(size_bytes, grown)


_MOST_BYTES = 1 << 60


class LimitPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step must not exceed; enforced or refused, never ignored."""

    memory_bytes: int | None = None
    on_out_of_memory: Growth | None = None

    def after(self, times: int) -> LimitPolicy:
        """The limits of an attempt, after so many attempts that ran out of memory."""
        if times == 0 or self.memory_bytes is None or self.on_out_of_memory is None:
            return self
        return msgspec.structs.replace(self, memory_bytes=self.on_out_of_memory.of(self.memory_bytes, times))


class Quarantine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to do with rows that break the schema at a step's boundary.

    Bad rows leave the value and go, with reasons, to an artifact named `<output>.quarantine`; more than
    `max_fraction` of the rows, or more than `max_rows`, stops the step.
    """

    max_fraction: float = 1.0
    max_rows: int | None = None


class Cron(msgspec.Struct, frozen=True, omit_defaults=True):
    """A five-field cron expression in a time zone."""

    expression: str
    tz: str = "UTC"
    catch_up: bool = False  # also run the times that were missed while nobody kept time
    start: str = ""  # ISO date or time from which it counts; "" = from the deployment on


class StepOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    retry: RetryPolicy | None = None
    timeout_s: float | None = None  # per attempt
    isolation: Literal["auto", "process", "thread"] = "auto"
    resources: ResourceRequest | None = None
    limits: LimitPolicy | None = None
    cache: bool = True
    env: tuple[str, ...] = ()  # environment variables whose values belong to the cache key
    effect: Literal["exactly-once", "at-least-once", "at-most-once"] | None = None  # changes the outside world
    quarantine: Quarantine | None = None
    reads: tuple[str, ...] = ()  # files and folders that the step opens by itself: their versions are observed
    cache_despite: tuple[str, ...] = ()  # kinds of hidden input that do not keep its result out of the cache
    max_parallel: int | None = None  # instances of it at the same time, in one run
    pool: str | None = None  # a named number of places that steps of all runs share
    updates: tuple[str, ...] = ()  # URLs of data that it writes: pipelines that wait for them may start
