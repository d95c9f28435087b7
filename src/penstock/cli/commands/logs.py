"""`penstock logs [RUN] [STEP]`: what steps printed and logged, attempt by attempt."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from ...ports.records import Failure, FailureClass, RunState
from ...wiring.project import Project
from ...wiring.runner import find_run
from ..opening import project_for
from ..records import failure_shown, steps_named
from ..render import paint, print_json, shortened, without_control
from ..summary import name_of

_LOOK_S = 0.3
Piece = tuple[int, str, str, int, str]
Whose = tuple[str, str, int]  # step, index, attempt


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
examples:
  penstock logs
  penstock logs last fit
  penstock logs 7f3a "fit[2]" --attempt 1
  penstock logs last --follow
"""
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help="default: the last run")
    parser.add_argument("step", nargs="?", metavar="STEP", help="one step, or one element of a map: STEP[INDEX]")
    parser.add_argument("--attempt", type=int, metavar="N", help="this attempt only")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the run ends")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    found = find_run(project, arguments.run)
    run_id = found.record.id
    step, _, index = (arguments.step or "").removesuffix("]").partition("[")
    if step and not arguments.follow:
        steps_named(project.store.step_runs(run_id), arguments.step, run_id)
    reader = _Reader(project, run_id, step or None, index or None, arguments.attempt)
    if arguments.json:
        names = ("step", "index", "attempt", "text")
        pieces = [dict(zip(names, piece[1:], strict=True)) for piece in reader.new()]
        print_json([piece | {"failure_class": reader.failure_class(*_whose(piece))} for piece in pieces])
        return 0
    screen = _Screen()
    while True:
        running = arguments.follow and find_run(project, run_id).state is RunState.RUNNING
        for piece in reader.new():  # read after asking: what came before the end is not missed
            screen.show(piece, reader.failure)
        if not running:
            break
        sys.stdout.flush()
        time.sleep(_LOOK_S)
    if not screen.shown and not arguments.follow:
        what = f"step '{arguments.step}'" if arguments.step else "no step"
        print(f"{what} of run {run_id} printed {'nothing' if arguments.step else 'anything'}")
    return 0


class _Reader:
    def __init__(self, project: Project, run_id: str, step: str | None, index: str | None, attempt: int | None) -> None:
        self._store = project.store
        self._query = (run_id, step, index, attempt)
        self._after = 0
        self._failures: dict[Whose, Failure | None] | None = None

    def new(self) -> list[Piece]:
        pieces = list(self._store.read_text(*self._query, after=self._after))
        if pieces:
            self._after = pieces[-1][0]
            self._failures = None  # attempts may have ended since
        return pieces

    def failure(self, step: str, index: str, attempt: int) -> Failure | None:
        """Why an attempt failed, as far as that is known yet."""
        if self._failures is None:
            made = self._store.attempts(*self._query[:2])
            self._failures = {(each.step, each.index, each.number): each.failure for each in made}
        return self._failures.get((step, index, attempt))

    def failure_class(self, step: str, index: str, attempt: int) -> str | None:
        failure = self.failure(step, index, attempt)
        return None if failure is None else failure.kind.value


def _whose(piece: dict[str, Any]) -> Whose:
    return piece["step"], piece["index"], piece["attempt"]


class _Screen:
    """Texts under a line that says whose they are, whenever that changes."""

    def __init__(self) -> None:
        self.shown: Whose | None = None
        self._open_line = False

    def show(self, piece: Piece, failure: Callable[[str, str, int], Failure | None]) -> None:
        _, step, index, attempt, text = piece
        if (step, index, attempt) != self.shown:
            self.shown = (step, index, attempt)
            head = f"── {name_of(step, index)}" + (f" attempt {attempt}" if attempt > 1 else "")
            why = failure(step, index, attempt)
            if why is not None and why.kind is not FailureClass.CANCELLED:
                head += f" ({shortened(failure_shown(why), 120)})"
            sys.stdout.write(("\n" if self._open_line else "") + paint(head, "dim") + "\n")
        shown = without_control(text) if sys.stdout.isatty() else text
        sys.stdout.write(shown)
        self._open_line = not shown.endswith("\n")
