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


class ResourceRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step would like to have; a place may waive it, and then that is recorded."""

    cpu: float | None = None
    memory_bytes: int | None = None
    gpu: int = 0


class LimitPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step must not exceed; enforced or refused, never ignored."""

    memory_bytes: int | None = None


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
