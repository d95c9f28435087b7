"""What `check`, `compile`, `deploy` and `run --on` share: which engine, which pipeline, what is accepted."""

from __future__ import annotations

import argparse
import os
from typing import Any

import msgspec

from ..authoring.pipeline import Traced
from ..core.errors import UsageError
from ..ports.backend import Blueprint
from ..wiring.backends import LOCAL, NAMES, planned
from ..wiring.config import Settings
from ..wiring.runner import with_payloads
from .commands.run import add_parameters, parameters_of
from .opening import add_accept, engine_of, load_pipeline, settings_for, traced


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Flags of every command that compiles."""
    add = parser.add_argument
    add("--on", metavar="BACKEND", help=f"the engine: {', '.join(NAMES[1:])} (default: the setting `backend`)")
    add_accept(parser)
    add("--name", default="", metavar="TEXT", help="its name there (default: the pipeline's)")
    add_parameters(parser)


class Asked(msgspec.Struct, frozen=True):
    """A pipeline and an engine, from the command line."""

    engine: str
    settings: Settings
    built: Any  # Traced
    plan: Blueprint


def asked(arguments: argparse.Namespace) -> Asked:
    """Load, trace, and draw the blueprint. Parameters count only where they are Static."""
    pipeline = load_pipeline(arguments.file)
    settings = settings_for(arguments, pipeline.root)
    engine = engine_of(arguments.on, settings)
    given = parameters_of(pipeline, arguments, partial=True)
    built: Traced = traced(pipeline, pipeline.parameters(given))
    settings = msgspec.structs.replace(settings, backend=engine)
    plan = planned(
        settings,
        with_payloads(built),
        engine,
        source=os.path.relpath(arguments.file.partition(":")[0], settings.root),
        name=arguments.name,
        accepted=arguments.accept,
    )
    return Asked(engine, settings, built, plan)


def needs_engine(found: Asked, command: str) -> None:
    if found.engine == LOCAL:
        raise UsageError(
            f"penstock {command}: which engine?", hint=f"--on {', --on '.join(NAMES[1:])}, or `backend` in a profile"
        )
