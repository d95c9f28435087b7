"""How `Pipeline.run` reaches an engine without knowing one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..graph import Graph
from .records import RunState, StepRun


class RunResult(Protocol):
    """A finished run, in the process that asked for it."""

    id: str
    state: RunState

    @property
    def output(self) -> Any:
        """What the pipeline returned, decoded. Raises RunFailedError when it has none."""
        ...

    def step(self, name: str, index: str = "") -> StepRun: ...


class TracedPipeline(Protocol):
    """A pipeline that has become a graph, and the functions of it that are in no file."""

    graph: Graph
    root: str
    functions: dict[str, Callable[..., Any]]


class Runner(Protocol):
    """Runs a traced pipeline to its end."""

    def run(self, traced: TracedPipeline, parameters: dict[str, str], **options: Any) -> RunResult: ...
