"""What crosses from the one who decides to the one who runs: a task, and its outcome. Both are plain msgpack."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.canonical import digest_bytes, digest_json
from ..graph import LimitPolicy, Quarantine, ResourceRequest
from ..ports.artifacts import ArtifactRef
from ..ports.records import Failure, HiddenInput, Observation


class Json(msgspec.Struct, frozen=True, tag="json", gc=False):
    """A constant or parameter, as core.jsonvalue text."""

    text: str


class Stored(msgspec.Struct, frozen=True, tag="stored", gc=False):
    """A value in the store."""

    ref: ArtifactRef


class Collected(msgspec.Struct, frozen=True, tag="collected", gc=False):
    """Several values as one list or tuple."""

    items: tuple[TaskArgument, ...]
    as_tuple: bool = False


class Keyed(msgspec.Struct, frozen=True, tag="keyed", gc=False):
    """Several values as one dict."""

    keys: tuple[str, ...]
    items: tuple[TaskArgument, ...]


class Whole(msgspec.Struct, frozen=True, tag="whole", gc=False):
    """All named outputs of a step as the NamedTuple or dataclass it returned; `target` names that step."""

    target: str
    keys: tuple[str, ...]
    items: tuple[TaskArgument, ...]
    payload: str | None = None


class SecretValue(msgspec.Struct, frozen=True, tag="secret", gc=False):
    """A secret, by name."""

    name: str


TaskArgument = Json | Stored | Collected | Keyed | Whole | SecretValue

NOTHING = Json("null")


class StepTask(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Everything that running one attempt needs, wherever it runs."""

    run_id: str
    pipeline: str
    step: str
    index: str
    attempt: int
    target: str
    arguments: dict[str, TaskArgument]
    outputs: tuple[str, ...]
    payload: str | None = None
    timeout_s: float | None = None
    limits: LimitPolicy | None = None
    quarantine: Quarantine | None = None
    parameters: dict[str, str] = {}  # the run's, for effects, which tell the outside where they come from
    effect: str | None = None  # how often the step may act outside, where it declares that it does
    epoch: int = 1
    checkpoint_dir: str = ""
    logical_time: int | None = None
    seed: int = 0
    reads: tuple[str, ...] = ()  # files and folders to observe
    watch: bool = False  # for hidden inputs
    resources: ResourceRequest | None = None  # to ask the cluster for, where one schedules by them


class StepOutcome(msgspec.Struct, omit_defaults=True, gc=False):
    """What came of an attempt: outputs, or a failure."""

    outputs: dict[str, ArtifactRef] = {}
    failure: Failure | None = None
    observations: tuple[Observation, ...] = ()
    metrics: dict[str, float] = {}
    note: str | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    hidden: tuple[HiddenInput, ...] = ()  # all that was seen, declared or not
    checkpointed: bool = False  # it asked for its checkpoint folder
    fresh: bool = False  # the first time that its process ran this code, which it may just have imported


TASK_ENCODER = msgspec.msgpack.Encoder()
TASK_DECODER: msgspec.msgpack.Decoder[StepTask] = msgspec.msgpack.Decoder(StepTask)


def digest_of(argument: TaskArgument) -> Any:
    """The identity of an argument as the cache key sees it: digests of content, never names of places."""
    match argument:
        case Json(text):
            return "json:" + digest_bytes(text.encode())
        case Stored(ref):
            return f"{ref.codec}:{ref.digest}"
        case Collected(items, as_tuple):
            return {"tuple" if as_tuple else "list": [digest_of(item) for item in items]}
        case Keyed(keys, items):
            return {"dict": [[key, digest_of(item)] for key, item in zip(keys, items, strict=True)]}
        case Whole(target, keys, items):
            return {"record": target, "of": [[key, digest_of(item)] for key, item in zip(keys, items, strict=True)]}
        case SecretValue(name):
            return "secret:" + name


def effect_key(task: StepTask) -> str:
    """The identity of what an instance does outside: its run, itself and its inputs, whichever attempt it is."""
    inputs = {name: digest_of(each) for name, each in task.arguments.items()}
    return digest_json(["effect", task.run_id, task.step, task.index, inputs])[:32]


def flat_digests(argument: TaskArgument) -> list[str]:
    """The digests in an argument, in order: the edges of the lineage."""
    match argument:
        case Json(text):
            return [digest_bytes(text.encode())]
        case Stored(ref):
            return [ref.digest]
        case Collected(items) | Keyed(_, items) | Whole(_, _, items):
            return [digest for item in items for digest in flat_digests(item)]
        case SecretValue(name):
            return ["secret:" + name]


def cache_key(parts: dict[str, str], arguments: dict[str, TaskArgument]) -> str:
    """The identity of a computation: its code and declared surroundings (`parts`) and the content of its inputs."""
    return digest_json({"parts": parts, "inputs": {name: digest_of(each) for name, each in arguments.items()}})


def artifact_digests(argument: TaskArgument) -> list[str]:
    """Digests of stored values only, for steps that ask what they were given."""
    match argument:
        case Stored(ref):
            return [ref.digest]
        case Collected(items) | Keyed(_, items) | Whole(_, _, items):
            return [digest for item in items for digest in artifact_digests(item)]
        case _:
            return []


def secret_names(argument: TaskArgument) -> list[str]:
    """The secrets in an argument, by name."""
    match argument:
        case SecretValue(name):
            return [name]
        case Collected(items) | Keyed(_, items) | Whole(_, _, items):
            return [name for item in items for name in secret_names(item)]
        case _:
            return []
