"""What a running step may ask of its surroundings: `context()`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import FencedError
from ..graph import LimitPolicy
from .effects import Effect, Fence, Unfenced
from .records import Observation

if TYPE_CHECKING:  # each costs milliseconds that a run without them need not pay
    import logging
    from datetime import datetime

_UNLIMITED = LimitPolicy()


class Context:
    """Where a step runs: its run, attempt, logger, progress, and a directory that survives attempts."""

    def __init__(
        self,
        *,
        run_id: str = "",
        pipeline: str = "",
        step: str = "",
        index: str = "",
        attempt: int = 1,
        seed: int = 0,
        logical_time: datetime | None = None,
        parameters: dict[str, str] | None = None,
        checkpoint_dir: Path | str | None = None,
        limits: LimitPolicy | None = None,
        effect_key: Callable[[], str] | None = None,
        fence: Callable[[], Fence] | None = None,
        services: Callable[[str], Any] | None = None,
        on_progress: Callable[[float, float | None, str], None] | None = None,
        on_logging: Callable[[], None] | None = None,
        on_reads: Callable[[str], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self.pipeline = pipeline
        self.step = step
        self.index = index
        self.seed = seed
        self.limits = limits or _UNLIMITED  # of this attempt: they may have grown since the first one
        self.logical_time = logical_time
        self.parameters = parameters or {}  # the run's, as JSON text; given to effects only
        self.observations: list[Observation] = []
        self.metrics: dict[str, float] = {}
        self.note: str | None = None
        self.input_digests: dict[str, list[str]] = {}  # argument -> digests of the stored values given for it
        self.varies = False  # whether it asked for something that another attempt would find otherwise
        self.checkpointed = False  # whether it asked for its checkpoint folder
        self._attempt = attempt
        self._checkpoint_dir = checkpoint_dir or None
        self._effect_key = effect_key
        self._fence = fence
        self._services = services
        self._on_progress = on_progress
        self._on_reads = on_reads
        self._on_logging = on_logging  # told once logging is imported, which most steps never do

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        self.varies = True
        return self._attempt

    @property
    def logger(self) -> logging.Logger:
        """A logger whose lines, from INFO up, are kept with the attempt."""
        import logging

        if self._on_logging is not None:
            self._on_logging()
        logger = logging.getLogger(f"penstock.step.{self.step}" if self.step else "penstock.step")
        if logging.getLogger("penstock.step").level == logging.NOTSET:
            logging.getLogger("penstock.step").setLevel(logging.INFO)
        return logger

    @property
    def checkpoint_dir(self) -> Path:
        """A directory of this step instance in this run; what an attempt leaves there, the next one finds."""
        self.varies = True
        self.checkpointed = True
        if self._checkpoint_dir is None:
            import tempfile

            self._checkpoint_dir = tempfile.mkdtemp(prefix="penstock-checkpoint-")
        folder = self._checkpoint_dir = Path(self._checkpoint_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the step is; shown on its live line. Cheap: calls are thinned out where they are shown."""
        if self._on_progress is not None:
            self._on_progress(done, total, note)

    def metric(self, name: str, value: float) -> None:
        """Record a number with this step run; `show` prints it and `diff` compares it."""
        self.metrics[name] = float(value)

    def observe(self, kind: str, name: str, version: str) -> None:
        """Say that the step looked at something outside: a later hit is allowed only while the version is the same."""
        seen = Observation(kind, name, version)
        if seen not in self.observations:
            self.observations.append(seen)

    @property
    def effect_key(self) -> str:
        """The name of what this step does outside: the same in every attempt and after a resume, another in each run,
        element of a map, and for other inputs. Receivers that know it do a thing once."""
        if self._effect_key is None:
            import uuid

            outside_a_run = uuid.uuid4().hex
            self._effect_key = lambda: outside_a_run
        return self._effect_key()

    def effect(self, on: str | None = None) -> Effect:
        """Hold what is to be changed outside, and act inside the block; a replaced attempt is kept out (FencedError).

        on: names the thing outside, where several steps or runs may change it; without it, this step's own key.

        >>> with context().effect() as effect:
        ...     headers = {"Idempotency-Key": effect.key}
        """
        fence = self._fence() if self._fence is not None else Unfenced()
        return Effect(fence, on or self.effect_key, self.effect_key)

    def still_owner(self) -> bool:
        """Whether this attempt is still the newest of its step, in a run that nobody else has taken over."""
        try:
            (self._fence() if self._fence is not None else Unfenced()).check()
        except FencedError:
            return False
        return True

    def reads(self, path: str | Path) -> Path:
        """Say that the step reads this file, or what lies in this folder: its version is observed. Gives the path.

        For what is known only when the step runs; `@step(reads=…)` says it of a name that is written there.
        """
        if self._on_reads is not None:
            self._on_reads(str(path))
        return Path(path)

    def service(self, name: str) -> Any:
        """An adapter by its port's name, for ready-made steps ("registry", "tracker", "scorer", "notifier")."""
        self.varies = True
        if self._services is None:
            raise LookupError(f"there is no '{name}' outside a run")
        return self._services(name)


CURRENT: ContextVar[Context | None] = ContextVar("penstock_context", default=None)


def context() -> Context:
    """The context of the step that is running; outside a run, a plain one, so that steps stay plain functions.

    >>> context().attempt
    1
    """
    return CURRENT.get() or Context()
