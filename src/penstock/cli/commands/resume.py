"""`penstock resume RUN`: finish a run; what is finished stays finished."""

from __future__ import annotations

import argparse

from ...core.errors import UsageError
from ...wiring.runner import LocalRunner
from ..opening import project_for
from ..watching import watched
from .run import add_how


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
what is finished stays finished. Where the code has changed since, the rest runs with the code of now; if the change
reaches a finished step, or the pipeline itself, that is refused without --with-current-code

examples:
  penstock resume last
  penstock resume 7f3a --with-current-code --workers 2
"""
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help="default: the last run")
    parser.add_argument(
        "--with-current-code",
        action="store_true",
        help="go on although the code of finished steps, or the pipeline, has changed since",
    )
    add_how(parser)


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    if project.settings.backend != "local":
        raise UsageError(f"there is no backend '{project.settings.backend}' in this version", hint="it has: local")
    runner = LocalRunner(project=project)
    return watched(
        arguments,
        lambda how: runner.resume(
            arguments.run,
            project.settings.root,
            with_current_code=arguments.with_current_code,
            check=False,
            workers=arguments.workers,
            one_process_per_step=arguments.one_process_per_step,
            **how,
        ),
    )
