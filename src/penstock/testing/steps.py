"""One step as a run would run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike, fspath
from typing import Any

from ..authoring.loader import loaded_step
from ..authoring.options import SecretName
from ..authoring.step import Step
from ..core.canonical import digest_json
from ..core.clock import Clock
from ..core.errors import UsageError, did_you_mean
from ..core.location import caller_location
from ..data import boundary_checks
from ..engine.execute import Execution
from ..engine.services import FingerprintSource, Services
from ..engine.tasks import SecretValue, StepTask, Stored, TaskArgument
from ..ports.artifacts import ArtifactRef, Artifacts
from ..ports.effects import Acting, Fence
from ..ports.observers import Observer
from ..ports.records import Fingerprint
from ..ports.steps import LoadedStep, StepLoader
from ..stores.artifacts import ArtifactStore
from .clock import TurnedClock
from .memory import MemoryBlobs


def run_step(
    step: Step[..., Any],
    /,
    *args: Any,
    attempt: int = 1,
    checkpoint_dir: str | PathLike[str] | None = None,
    secrets: Mapping[str, str] | None = None,
    services: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """What the next step would get from this one: inputs and outputs go through codecs and boundary checks.

    attempt, checkpoint_dir:  what `context()` says inside.  secrets:  values for `Secret("NAME")` arguments.
    services:  stand-ins for "registry", "scorer" and the like.
    Raises:  whatever the step raises, InvalidDataError, or CodecError where a value could not be stored.

    >>> from penstock import step
    >>> @step
    ... def halves(numbers: list[int]) -> list[float]:
    ...     return [number / 2 for number in numbers]
    >>> run_step(halves, [1, 2])
    [0.5, 1.0]
    """
    loaded = loaded_step("test:step", step)
    bound, problems = step.signature.bind(args, kwargs, where=caller_location())
    if problems:
        raise problems[0]
    artifacts = ArtifactStore(MemoryBlobs())
    task = StepTask(
        run_id="test",
        pipeline="test",
        step=step.signature.name,
        index="",
        attempt=attempt,
        target=loaded.target,
        arguments={name: _stored(artifacts, value, loaded.parameters[name]) for name, value in bound.items()},
        outputs=tuple(loaded.outputs),
        quarantine=step.options.quarantine,
        effect=step.options.effect,
        checkpoint_dir=fspath(checkpoint_dir) if checkpoint_dir is not None else "",
    )
    surroundings = bound_services(artifacts, _OneStep(loaded), TurnedClock(), secrets, services)
    execution = Execution(task, surroundings, text=lambda text: None, portable=False)
    outcome = execution.run()
    if execution.error is not None:
        raise execution.error
    return _given_on(artifacts, loaded, outcome.outputs)


class _OneStep:
    def __init__(self, loaded: LoadedStep) -> None:
        self._loaded = loaded

    def load(self, target: str, payload: str | None = None) -> LoadedStep:
        return self._loaded

    def load_result_type(self, target: str, payload: str | None = None) -> type | None:
        return self._loaded.result_type


class _NoFingerprints:
    """Nothing is cached in a test: every step runs."""

    def of(self, target: str) -> Fingerprint | None:
        return None

    def edited(self, target: str) -> list[str]:
        return []


class NamedCode:
    """Fingerprints by name: within one process a step's code is what it was. A replaced step is another one."""

    def __init__(self, replaced: Mapping[str, Callable[..., Any]]) -> None:
        self._replaced = sorted((step, f"{f.__module__}:{f.__qualname__}:{id(f)}") for step, f in replaced.items())

    def of(self, target: str) -> Fingerprint | None:
        return Fingerprint(digest_json([target, self._replaced]))

    def edited(self, target: str) -> list[str]:
        return []


def bound_services(
    artifacts: Artifacts,
    loader: StepLoader,
    clock: Clock,
    secrets: Mapping[str, str] | None,
    services: Mapping[str, Any] | None,
    checkpoints: str = "",
    fingerprints: FingerprintSource | None = None,
    fence: Callable[[Acting], Fence] | None = None,
) -> Services:
    """The engine's services with what a test gives in place of the outside. Without fingerprints nothing is cached."""
    return Services(
        artifacts=artifacts,
        loader=loader,
        fingerprints=fingerprints or _NoFingerprints(),
        clock=clock,
        boundaries=boundary_checks,
        observer=_no_observer,
        secret=_from(secrets or {}, "secret", "secrets"),
        service=_from(services or {}, "service", "services"),
        fence=fence,
        checkpoints=checkpoints,
    )


def _stored(artifacts: Artifacts, value: Any, annotation: Any) -> TaskArgument:
    if isinstance(value, SecretName):
        return SecretValue(value.name)
    return Stored(artifacts.save(value, annotation))


def _given_on(artifacts: Artifacts, loaded: LoadedStep, outputs: Mapping[str, ArtifactRef]) -> Any:
    values = {name: artifacts.load(outputs[name], annotation) for name, annotation in loaded.outputs.items()}
    return loaded.result_type(**values) if loaded.result_type is not None else values["output"]


def _from(given: Mapping[str, Any], what: str, option: str) -> Callable[[str], Any]:
    def find(name: str) -> Any:
        if name not in given:
            raise UsageError(
                f"this test has no {what} '{name}'",
                hint=did_you_mean(name, list(given)) if given else f'give {option}={{"{name}": …}}',
            )
        return given[name]

    return find


def _no_observer(kind: str) -> Observer | None:
    return None
