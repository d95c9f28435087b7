"""`penstock reproduce RUN`: run it again in its recorded code and environment, and compare step by step."""

from __future__ import annotations

import argparse
from typing import Any

from ...core.errors import UsageError
from ...engine.comparison import instance
from ...engine.reproduction import StepVerdict
from ...ports.agreement import Tolerance, Verdict
from ...wiring.reproducing import Reproduction, Wish, reproduce
from ...wiring.runner import find_run
from ..exits import Exit
from ..opening import positive, project_for
from ..render import counted, paint, print_json, shortened, table
from ..verdicts import add_copying_flags, cause_lines, experimenting, mark, terms_of

_MOST_ALIKE = 12  # steps that are shown one by one although they are identical


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """
runs it again, without cache, in a private copy of the project: the run, its cache
entries and the project's files stay as they are, whatever steps write, delete or
rename under relative names. What they do elsewhere (absolute names, other services)
happens again, but for steps that declare an effect: these are not run. Every step
is identical, equal within the tolerance, or different; of the first that differs,
the likely cause is looked for by trying it alone.

the environment is made by uv from the recorded versions, once per set of them;
--here compares in what is installed now, and needs no uv

exit codes: 0 identical or equal, 6 different, 1 it could not be run again

examples:
  penstock reproduce last
  penstock reproduce 7f3a --here --rtol 1e-6
"""
    add = parser.add_argument
    add("run", nargs="?", default="last", metavar="RUN", help="default: the last run")
    add("--here", action="store_true", help="in the present environment, not in the recorded one")
    add("--rtol", type=_distance, metavar="X", help="relative tolerance of floats (default: 1e-9; 1e-5 for 32 bits)")
    add("--atol", type=_distance, default=0.0, metavar="X", help="absolute tolerance of floats (default: 0)")
    add("--workers", type=positive, default=1, metavar="N", help="steps at the same time (default: 1)")
    add("--no-search", action="store_true", help="do not look for the cause: it runs the step a few times more")
    add_copying_flags(parser)
    add("--quiet", "-q", action="store_true", help="say nothing before the result")


def execute(arguments: argparse.Namespace) -> int:
    project = project_for(arguments)
    summary = find_run(project, arguments.run)
    wish = Wish(
        tolerance=Tolerance(arguments.rtol, arguments.atol),
        here=arguments.here,
        workers=arguments.workers,
        search=not arguments.no_search,
        terms=terms_of(arguments),
    )
    with experimenting(arguments) as (tell, listener):
        found = reproduce(project, summary, wish, tell=tell, listener=listener)
    if arguments.json:
        print_json(_facts(found))
    else:
        print(_page(found))
    return Exit.DIFFERENT if found.comparison.verdict is Verdict.DIFFERENT else Exit.OK


def _facts(found: Reproduction) -> dict[str, Any]:
    first, origin = found.comparison.first, found.comparison.origin
    return {
        "run": found.run,
        "rerun": found.rerun,
        "store": found.store,
        "verdict": found.comparison.verdict.value,
        "environment": {"recorded": not found.here, "python": found.python, "packages": found.packages},
        "notes": found.notes,
        "changes": found.environment,
        "first_different": instance(first.step, first.index) if first else None,
        "comes_from": instance(origin.step, origin.index) if origin else None,
        "causes": found.causes,
        "steps": found.comparison.steps,
    }


def _page(found: Reproduction) -> str:
    where = "the present environment" if found.here else "its recorded environment"
    lines = [
        f"{paint(found.run, 'bold')} again, in {where} (Python {found.python},",
        f"{counted(found.packages, 'package')}) and its recorded code:",
        "",
        _steps(found.comparison.steps),
    ]
    lines += ["", *(shortened(f"note: {note}", 200) for note in found.notes)] if found.notes else []
    if found.environment:
        lines += ["", "otherwise than in the run: " + ", ".join(change.text for change in found.environment)]
    lines += ["", *_ending(found)]
    return "\n".join(lines)


def _steps(steps: tuple[StepVerdict, ...]) -> str:
    alike = [each for each in steps if each.verdict is Verdict.IDENTICAL]
    shown = [each for each in steps if each.verdict is not Verdict.IDENTICAL or len(alike) <= _MOST_ALIKE]
    names = [instance(each.step, each.index) for each in shown]
    room = 80 - 2 - 3 - max(map(len, names), default=0) - 2 - 11
    rows = [
        [mark(each.verdict), name, each.verdict.value, _told(each, max(room, 30))]
        for each, name in zip(shown, names, strict=True)
    ]
    lines = [table(rows, indent="  ")] if rows else []
    if len(alike) > _MOST_ALIKE:
        lines.append(f"  {mark(Verdict.IDENTICAL)} {len(alike)} more are identical")
    return "\n".join(lines)


def _told(each: StepVerdict, room: int) -> str:
    """What differs; of a step that was given other inputs, that it follows."""
    follows = each.because and not each.same_inputs
    return shortened(f"follows '{each.because[-1]}': {each.text}" if follows else each.text, room)


def _ending(found: Reproduction) -> list[str]:
    comparison = found.comparison
    if comparison.verdict is Verdict.IDENTICAL:
        return [paint("identical: every step gave the same bytes", "green")]
    if comparison.verdict is Verdict.EQUAL:
        return [paint("equal: nothing differs beyond the tolerance", "green")]
    first, origin = comparison.first, comparison.origin
    if first is None or origin is None:
        return [paint("some steps could not be compared", "yellow")]
    name = instance(first.step, first.index)
    lines = [paint(f"different: the first step that differs is '{name}'", "red")]
    if origin is not first:
        lines.append(f"what grew into it began in '{instance(origin.step, origin.index)}', within the tolerance")
    lines += [line for each in found.causes for line in cause_lines(each)]
    lines.append(f"the new run: PENSTOCK_HOME={found.store} penstock show")
    return lines


def _distance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"penstock reproduce: a tolerance is a number from 0 up, not '{text}'", hint="--rtol 1e-6")
    return value
