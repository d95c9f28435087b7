"""`penstock resume RUN`: finish a run; what is finished stays finished."""

from __future__ import annotations

import argparse

from ...core.errors import UsageError
from ...ports.records import RunState
from ...wiring.backends import LOCAL
from ...wiring.runner import LocalRunner, find_run
from ...wiring.submitting import EngineRunner, reconcile
from ..opening import add_accept, engine_of, project_for
from ..watching import handed_over, watched
from .run import add_how


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
what is finished stays finished. Where the code has changed since, the rest runs with the code of now; if the change
reaches a finished step, or the pipeline itself, that is refused without --with-current-code. On an engine a run goes on
with the code that it began with, or is refused; an engine goes on showing its own run as it ended there

examples:
  penstock resume last
  penstock resume 7f3a --with-current-code --workers 2
  penstock resume 7f3a --on local               # a run that failed on an engine goes on here, or the other way round
"""
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help="default: the last run")
    parser.add_argument(
        "--with-current-code",
        action="store_true",
        help="go on although the code of finished steps, or the pipeline, has changed since",
    )
    add = parser.add_argument
    add("--on", metavar="BACKEND", help="where to go on (default: where the setting `backend` says)")
    add("--detach", action="store_true", help="on an engine: hand the run over and do not watch it")
    add("--from-engine", action="store_true", help="take a run away from an engine that cannot be asked any more")
    add_accept(parser)
    add_how(parser)


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    settings = project.settings
    if arguments.run == "last" and (found := find_run(project, "last")).state is RunState.CANCELLED:
        raise UsageError(
            f"the last run, {found.record.id}, was cancelled: somebody wanted it to end",
            hint=f"penstock resume {found.record.id}, if it is meant; penstock ls shows the others",
        )
    engine = engine_of(arguments.on, settings)
    if engine != LOCAL:
        if arguments.with_current_code:
            raise UsageError(
                "--with-current-code works on this machine only", hint=f"penstock resume {arguments.run} --on local"
            )
        engines = EngineRunner(settings, engine, project)
        return handed_over(
            arguments,
            engines,
            lambda: engines.resume(
                arguments.run,
                accepted=arguments.accept,
                force=arguments.from_engine,
                workers=arguments.workers,
                one_process_per_step=arguments.one_process_per_step,
                wait=arguments.wait,
            ),
        )
    reconcile(project, arguments.run, settings, force=arguments.from_engine)
    runner = LocalRunner(project=project)
    return watched(
        arguments,
        lambda how: runner.resume(
            arguments.run,
            settings.root,
            with_current_code=arguments.with_current_code,
            check=False,
            workers=arguments.workers,
            one_process_per_step=arguments.one_process_per_step,
            wait=arguments.wait,
            **how,
        ),
    )
