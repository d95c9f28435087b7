"""penstock: ML pipelines as typed Python functions, from raw data to a live model.

    from penstock import pipeline, step

Names load when they are first used, so that `import penstock` costs next to nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .authoring.handles import optional
    from .authoring.options import Cron, Grow, Limits, OnData, Resources, Retry, Secret, Static
    from .authoring.pipeline import Pipeline, pipeline
    from .authoring.recorder import when
    from .authoring.step import AsyncStep, Step, step
    from .core.errors import DefinitionError, InvalidDataError, PenstockError, RunFailedError
    from .data import Expectations, read
    from .graph import Quarantine
    from .lifecycle import deploy, gate, notify, register
    from .models.gate import Verdict
    from .models.steps import Deployment
    from .ports.context import Context, context
    from .ports.effects import Effect, Notification
    from .ports.models import ModelVersion
    from .ports.records import FailureClass

__version__ = "0.1.0"

_PLACES = {
    "AsyncStep": "authoring.step",
    "Context": "ports.context",
    "Cron": "authoring.options",
    "DefinitionError": "core.errors",
    "Deployment": "models.steps",
    "Effect": "ports.effects",
    "Expectations": "data",
    "FailureClass": "ports.records",
    "Grow": "authoring.options",
    "InvalidDataError": "core.errors",
    "Limits": "authoring.options",
    "ModelVersion": "ports.models",
    "Notification": "ports.effects",
    "OnData": "authoring.options",
    "PenstockError": "core.errors",
    "Pipeline": "authoring.pipeline",
    "Quarantine": "graph",
    "Resources": "authoring.options",
    "Retry": "authoring.options",
    "RunFailedError": "core.errors",
    "Secret": "authoring.options",
    "Static": "authoring.options",
    "Step": "authoring.step",
    "Verdict": "models.gate",
    "context": "ports.context",
    "deploy": "lifecycle",
    "gate": "lifecycle",
    "notify": "lifecycle",
    "optional": "authoring.handles",
    "pipeline": "authoring.pipeline",
    "read": "data",
    "register": "lifecycle",
    "step": "authoring.step",
    "when": "authoring.recorder",
}

__all__ = [
    "AsyncStep",
    "Context",
    "Cron",
    "DefinitionError",
    "Deployment",
    "Effect",
    "Expectations",
    "FailureClass",
    "Grow",
    "InvalidDataError",
    "Limits",
    "ModelVersion",
    "Notification",
    "OnData",
    "PenstockError",
    "Pipeline",
    "Quarantine",
    "Resources",
    "Retry",
    "RunFailedError",
    "Secret",
    "Static",
    "Step",
    "Verdict",
    "context",
    "deploy",
    "gate",
    "notify",
    "optional",
    "pipeline",
    "read",
    "register",
    "step",
    "when",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'penstock' has no attribute '{name}'")
    value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    if name == "pipeline":
        _bind()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _bind() -> None:
    """`Pipeline.run` knows no engine; this is the one place that gives it some, and a notebook its display."""
    from .authoring.pipeline import bind_runner

    def runner() -> Any:
        from .wiring.running import PipelineRunner

        return PipelineRunner(default_listener=_notebook_listener if "IPython" in sys.modules else None)

    bind_runner(runner)
    if "IPython" in sys.modules:
        from .cli.notebook import activate

        activate()


def _notebook_listener() -> Any:
    from .cli.notebook import notebook_listener

    return notebook_listener()
