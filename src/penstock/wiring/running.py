"""The Runner behind `Pipeline.run`: this machine, or the engine that the settings or the caller name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..engine.listener import Listener
from ..ports.runner import TracedPipeline
from .runner import LocalRunner
from .runs import Run

_LOCAL = "local"


class PipelineRunner:
    """Runs a pipeline where it is to run, and waits."""

    def __init__(self, *, default_listener: Callable[[], Listener | None] | None = None) -> None:
        self._default_listener = default_listener

    def run(
        self,
        traced: TracedPipeline,
        parameters: dict[str, str],
        *,
        on: str | None = None,
        accept: Sequence[str] = (),
        listener: Listener | None = None,
        check: bool = True,
        **options: Any,
    ) -> Run:
        """`on`: a backend by name. `accept`: what to go without there, as `step.feature`."""
        here = LocalRunner(default_listener=self._default_listener)
        project = here.project(traced.root, options.get("profile"))
        engine = on or project.settings.backend
        if engine == _LOCAL:
            return here.run(traced, parameters, listener=listener, check=check, **options)
        from .submitting import EngineRunner  # an engine's adapter, and what it needs

        if listener is None and self._default_listener is not None:
            listener = self._default_listener()
        engines = EngineRunner(project.settings, engine, project)
        run = engines.follow(engines.submit(traced, parameters, accepted=accept, **options), listener)
        return run.raise_for_state() if check else run
