"""What the run log keeps of a run, of a failure and of the world a run happened in."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from .artifacts import ArtifactRef


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CACHED = "cached"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    UPSTREAM_FAILED = "upstream_failed"
    SKIPPED = "skipped"

    @property
    def done(self) -> bool:
        return self not in (StepState.PENDING, StepState.RUNNING)

    @property
    def has_output(self) -> bool:
        return self in (StepState.SUCCEEDED, StepState.CACHED)


class RunState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class FailureClass(StrEnum):
    """What kind of failure it was; usable in `Retry(on=...)`."""

    ERROR = "error"  # the step raised
    NETWORK = "network"  # the other side could not be reached, broke off, or said that it cannot now
    TIMEOUT = "timeout"  # the attempt ran longer than its step's timeout
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"  # its process died by a signal or by os._exit
    PREEMPTED = "preempted"  # its process was told to go (SIGTERM), or another one has taken its place
    CANCELLED = "cancelled"
    INVALID_DATA = "invalid_data"
    ENCODING = "encoding"  # what it returned cannot be stored
    INPUT_LOST = "input_lost"  # an input's bytes are gone or altered

    @property
    def is_final(self) -> bool:
        """Whether another attempt would meet the same wall, whatever a policy allows."""
        return self in (FailureClass.CANCELLED, FailureClass.ENCODING, FailureClass.INPUT_LOST)


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why an attempt failed, without the exception object: it crosses processes and stays readable for years."""

    kind: FailureClass
    message: str
    types: tuple[str, ...] = ()  # "module:Class" of the exception and its bases, nearest first
    traceback: str = ""
    hint: str | None = None
    pickled: bytes | None = None  # the exception itself where it can travel; only ever loaded by the run's own process
    sameness: str = ""  # digest of what was raised and where; "" where the same code on the same inputs may not meet it

    @property
    def name(self) -> str:
        return self.types[0].rpartition(":")[2] if self.types else self.kind.value


class Observation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something outside that a step looked at, and the version it saw: it is compared before a cache hit is allowed.

    `kind` chooses who can look again ("file", "sql", "model", …), `name` is what was looked at, `version` what it was.
    """

    kind: str
    name: str
    version: str


HiddenKind = Literal["file", "folder", "environment", "network", "process", "random", "clock", "code"]


class HiddenInput(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that a step's result may depend on and its key does not cover, as it was noticed.

    `name` is a path, a variable, host:port, a program or a generator; a call that was found by reading the code ends
    in "()", a fork is "fork", and of "code" a file of the project that was edited while the run went on. "*" is all
    variables, or more of a kind than are told apart. `where` is file:line of the user's code, "" where no line of it
    was found.
    """

    kind: HiddenKind
    name: str
    where: str = ""

    @property
    def is_call(self) -> bool:
        return self.name.endswith("()")


class CodePart(msgspec.Struct, frozen=True, array_like=True):
    """One definition that a step's code reaches: "churn.py:clean", the digest of its meaning, its text."""

    name: str
    digest: str
    text: str


class Fingerprint(msgspec.Struct, frozen=True):
    """A step's code and everything it reaches in the project, plus the versions of what these import."""

    digest: str
    parts: tuple[CodePart, ...] = ()
    packages: dict[str, str] = {}  # distribution -> version
    unseen: tuple[str, ...] = ()  # what could not be followed (eval, dynamic import), in words
    hidden: tuple[HiddenInput, ...] = ()  # calls that read what no key covers: the clock, …


ENGINE_HOST = "@"  # how the host of a run begins that no process of ours owns: "@airflow"


class RunRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run as it was started. What happened to it since is in events."""

    id: str
    pipeline: str
    project: str
    manifest: str  # digest of the graph's JSON
    parameters: dict[str, str]  # name -> JSON text; a secret's name only
    created_at: int  # microseconds UTC
    name: str | None = None
    tags: dict[str, str] = {}
    user: str = ""
    host: str = ""
    pid: int = 0
    parent: str | None = None
    trigger: str = "manual"
    idempotency_key: str | None = None
    logical_time: int | None = None
    epoch: int = 1
    code: dict[str, Any] = {}  # git commit, branch, uncommitted difference; digests of steps; name of the kept files
    environment: dict[str, Any] = {}  # python, platform, processors, packages and where they came from
    seed: int = 0
    options: dict[str, Any] = {}  # cache off, forced steps, workers: how it was asked to run

    @property
    def backend(self) -> str:
        """Who orders its steps: an engine by name, or this machine."""
        return self.host.removeprefix(ENGINE_HOST) if self.host.startswith(ENGINE_HOST) else "local"


class RunSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run and where it stands, for lists."""

    record: RunRecord
    state: RunState
    started_at: int
    finished_at: int | None = None
    counts: dict[str, int] = {}  # step state -> number of step runs
    error: str | None = None


class StepRun(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One instance of a step in a run: the projection of its events."""

    step: str
    index: str
    state: StepState
    attempts: int = 0
    key: str | None = None
    outputs: dict[str, ArtifactRef] = {}
    inputs: dict[str, list[str]] = {}  # argument -> digests
    parts: dict[str, str] = {}  # what else the key is made of
    started_at: int | None = None
    finished_at: int | None = None
    seconds: float = 0.0
    failure: Failure | None = None
    note: str | None = None
    origin: tuple[str, str, str] | None = None  # run, step, index whose result a hit took
    retry_at: int | None = None
    observations: tuple[Observation, ...] = ()
    metrics: dict[str, float] = {}
    waived: tuple[str, ...] = ()
    memory_limit: int | None = None  # bytes, of its newest attempt
    hidden: tuple[HiddenInput, ...] = ()  # found and not declared; without a key, nothing was kept of it for others


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try at one instance of a step."""

    step: str
    index: str
    number: int
    started_at: int
    finished_at: int | None = None
    state: str = "running"
    host: str = ""
    pid: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    failure: Failure | None = None
