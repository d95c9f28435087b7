"""Exit codes: what a script may rely on."""

from __future__ import annotations

from enum import IntEnum

from ..core.errors import (
    ArtifactError,
    BackendError,
    ClusterError,
    CodeChangedError,
    ConfigError,
    DefinitionError,
    MissingExtraError,
    NotFoundError,
    NotReproducibleError,
    ParameterError,
    PenstockError,
    RefusedError,
    RegistryError,
    RunCancelledError,
    ServingError,
    SourceError,
    StoreError,
    UsageError,
)


class Exit(IntEnum):
    """What `penstock` ends with. `exec-step` has codes of its own, for engines: `engine.single.StepExit`."""

    OK = 0
    FAILED = 1  # the run failed; a plan, a check or a comparison says no
    USAGE = 2  # the command line, the configuration or the pipeline's definition is wrong
    GATE = 3  # a gate refused, and --fail-on-gate was given
    NOT_FOUND = 4  # no such run, step or artifact
    STORE = 5  # a store, an artifact, a registry, a source, a cluster or a server is in trouble
    DIFFERENT = 6  # `reproduce` found another result, `verify` a step that cannot be relied on
    BUG = 70  # penstock itself is at fault
    INTERRUPTED = 130  # stopped by Ctrl-C or by `penstock cancel`


_EXITS: tuple[tuple[type[PenstockError], Exit], ...] = (
    (CodeChangedError, Exit.FAILED),
    (RefusedError, Exit.FAILED),
    (NotReproducibleError, Exit.FAILED),
    (RunCancelledError, Exit.INTERRUPTED),
    (NotFoundError, Exit.NOT_FOUND),
    (DefinitionError, Exit.USAGE),
    (ParameterError, Exit.USAGE),
    (ConfigError, Exit.USAGE),
    (UsageError, Exit.USAGE),
    (MissingExtraError, Exit.USAGE),
    (StoreError, Exit.STORE),
    (ArtifactError, Exit.STORE),
    (RegistryError, Exit.STORE),
    (SourceError, Exit.STORE),
    (BackendError, Exit.STORE),
    (ClusterError, Exit.STORE),
    (ServingError, Exit.STORE),  # a port in use, a model that cannot be loaded
)


def exit_of(error: PenstockError) -> Exit:
    """The exit code that an error stands for.

    >>> exit_of(NotFoundError("no such run"))
    <Exit.NOT_FOUND: 4>
    """
    return next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.FAILED)
