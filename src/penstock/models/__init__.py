"""models: gates, versions and aliases as ideas: what makes a model good enough, and what a reference to one means.

May know core, graph and ports. Pure but for the ready-made steps, which reach a registry and a scorer through
`context().service(...)`. Never imports MLflow, scikit-learn or any other library; loading this package loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gate import Verdict, judge
    from .memory import MemoryRegistry
    from .observing import observers
    from .reference import ModelReference, parse_model_reference
    from .steps import Deployment

_HOMES = {
    "Deployment": "steps",
    "MemoryRegistry": "memory",
    "ModelReference": "reference",
    "Verdict": "gate",
    "judge": "gate",
    "observers": "observing",
    "parse_model_reference": "reference",
}

__all__ = [
    "Deployment",
    "MemoryRegistry",
    "ModelReference",
    "Verdict",
    "judge",
    "observers",
    "parse_model_reference",
]


def __getattr__(name: str) -> Any:
    """Names load when they are asked for: who reads a reference needs no dataclasses."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
