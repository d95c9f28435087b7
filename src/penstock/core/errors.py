"""What can go wrong, as one tree. Each class has a stable `code` with an anchor in docs/errors.md.

PenstockError
├── DefinitionError            the pipeline cannot be built; lists every problem found, with file:line
│   └── RefusedError           a backend cannot keep something that it asks for; lists every such thing
├── ParameterError             a pipeline parameter is unknown, missing or of the wrong type
├── ConfigError                penstock.toml, an environment variable or a flag is wrong
├── UsageError                 the command line asks for something that is not there (file, pipeline, flag)
├── NotFoundError              no such run, step, artifact or model version
├── MissingExtraError          an optional library is not installed
├── CodeChangedError           a run cannot be resumed because its code is not what it was
├── ClusterError               the cluster that should run the steps cannot be reached, or did not take one
├── NotReproducibleError       a run's code or environment cannot be had again
├── RunFailedError             a run ended in any state but succeeded
├── RunCancelledError          a run was asked to stop
├── StoreError                 the run log or the artifact store cannot do what was asked
│   ├── StoreUnavailableError  it cannot be reached, is locked or read-only
│   ├── StoreTooNewError       it was written by a newer penstock
│   ├── StoreInUseError        it cannot be brought up to date while an older penstock runs a pipeline in it
│   └── FencedError            a newer owner or attempt has taken over; this writer must stop
├── ArtifactError              a stored value is not usable
│   ├── ArtifactMissingError   its bytes are gone
│   ├── ArtifactCorruptError   its bytes are not what was stored
│   └── CodecError             a value cannot be encoded or decoded exactly
├── SourceError                outside data cannot be read (file, bucket, database)
│   └── SourceUnavailableError (also ConnectionError, so an OSError) it cannot be reached now; another attempt may
├── InvalidDataError           data broke the schema at a step's boundary
├── RegistryError              the model registry or the experiment tracker refused or cannot be reached
├── NotificationError          somebody could not be told: a wrong address, or the receiver refused
│   └── NotificationUnavailableError (also ConnectionError, so an OSError) not now; another attempt may
├── ImageError                 a container image cannot be written or built, or lacks something
├── BackendError               an engine refused, cannot be reached, or is another version than expected
├── ServingError               a model cannot be loaded or a request is malformed
├── StepTimeoutError           (also TimeoutError) an attempt ran longer than its step's timeout
├── StepKilledError            the process of an attempt died (signal, os._exit)
├── StepPreemptedError         the process of an attempt was told to go (SIGTERM)
└── StepOutOfMemoryError       (also MemoryError) an attempt went over its memory limit
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .location import Location


class PenstockError(Exception):
    """Something penstock can explain: what happened, where in the user's file, and what to do next."""

    code: ClassVar[str] = "penstock"

    def __init__(self, problem: str, *, hint: str | None = None, where: Location | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions rebuild themselves by calling cls(*args), which would lose keyword-only fields.
        return (_rebuild, (type(self), self.problem, dict(self.__dict__)))

    def as_record(self) -> dict[str, Any]:
        """A JSON form for `--json` output and events."""
        return {
            "code": self.code,
            "problem": self.problem,
            "hint": self.hint,
            "where": str(self.where) if self.where else None,
        }


def _rebuild(cls: type[PenstockError], problem: str, state: dict[str, Any]) -> PenstockError:
    error = cls(problem)  # not cls.__new__: MemoryError refuses it
    error.__dict__.update(state)
    return error


class DefinitionError(PenstockError):
    """The pipeline cannot be built; `problems` lists everything that was found, not only the first."""

    code = "definition"

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        where: Location | None = None,
        problems: Sequence[PenstockError] = (),
    ) -> None:
        super().__init__(problem, hint=hint, where=where)
        self.problems = list(problems)

    def __str__(self) -> str:
        if not self.problems:
            return super().__str__()
        lines = [self.problem]
        for each in self.problems:
            lines += ["  " + line for line in str(each).splitlines()]
        return "\n".join(lines)

    def as_record(self) -> dict[str, Any]:
        return super().as_record() | {"problems": [each.as_record() for each in self.problems]}


class ParameterError(PenstockError):
    code = "parameter"


class ConfigError(PenstockError):
    code = "config"


class UsageError(PenstockError):
    code = "usage"


class NotFoundError(PenstockError):
    code = "not-found"


class MissingExtraError(PenstockError):
    """An optional library is needed; the hint names the extra that brings it."""

    code = "missing-extra"

    def __init__(
        self,
        problem: str,
        *,
        extra: str | None = None,
        hint: str | None = None,
        where: Location | None = None,
    ) -> None:
        super().__init__(problem, hint=hint or f"pip install 'penstock[{extra}]'", where=where)
        self.extra = extra


class RefusedError(DefinitionError):
    """A backend cannot keep what the pipeline asks for; `problems` lists everything, each with the user's line."""

    code = "refused"


class BackendError(PenstockError):
    code = "backend"


class CodeChangedError(PenstockError):
    code = "code-changed"


class ClusterError(PenstockError):
    code = "cluster"


class NotReproducibleError(PenstockError):
    code = "not-reproducible"


class RunFailedError(PenstockError):
    code = "run-failed"


class RunCancelledError(PenstockError):
    code = "run-cancelled"


class StoreError(PenstockError):
    code = "store"


class StoreUnavailableError(StoreError):
    code = "store-unavailable"


class StoreTooNewError(StoreError):
    code = "store-too-new"


class StoreInUseError(StoreError):
    code = "store-in-use"


class FencedError(StoreError):
    code = "fenced"


class ArtifactError(PenstockError):
    code = "artifact"


class ArtifactMissingError(ArtifactError):
    code = "artifact-missing"


class ArtifactCorruptError(ArtifactError):
    code = "artifact-corrupt"


class CodecError(ArtifactError):
    code = "codec"


class SourceError(PenstockError):
    code = "source"


class SourceUnavailableError(SourceError, ConnectionError):
    code = "source-unavailable"


class InvalidDataError(PenstockError):
    code = "invalid-data"


class RegistryError(PenstockError):
    code = "registry"


class NotificationError(PenstockError):
    code = "notification"


class NotificationUnavailableError(NotificationError, ConnectionError):
    code = "notification-unavailable"


class ImageError(PenstockError):
    code = "image"


class ServingError(PenstockError):
    code = "serving"


class StepTimeoutError(PenstockError, TimeoutError):
    code = "step-timeout"


class StepKilledError(PenstockError):
    code = "step-killed"


class StepPreemptedError(PenstockError):
    code = "step-preempted"


class StepOutOfMemoryError(PenstockError, MemoryError):
    code = "step-out-of-memory"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint naming the nearest known names, or all of them when none is near.

    >>> did_you_mean("epocs", ["epochs", "depth"])
    "did you mean 'epochs'?"
    >>> did_you_mean("x", ["epochs", "depth"])
    'known: depth, epochs'
    """
    import difflib  # 3 ms, and only ever needed on the way out

    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"'{each}'" for each in near) + "?"
    shown = sorted(known)[:12]
    return ("known: " + ", ".join(shown) + (", …" if len(known) > 12 else "")) if shown else "there are none"
